"""The weight of each class in the labels' cross entropy."""

import numpy as np

from ft_tf import errors, recipes
from ft_tf.data import datasets


def of(recipe: recipes.Recipe, dataset: datasets.Dataset) -> np.ndarray | None:
  """Returns the weight of each class, `[K]` float32; None: all are 1.

  Balanced weights are N / (K n), with n of the N training images in the class,
  so that every class has the same total weight, and the mean weight of a
  training image is 1.

  Args:
    recipe: Its `class_weights` counts.
    dataset: Its training images with labels count, validation images left out.

  Raises:
    UsageError: a class has no training images.
  """
  if recipe.class_weights != recipes.BALANCED:
    return None
  names = dataset.label_names
  counts = np.bincount(dataset.train.labels, minlength=len(names))
  missing = [
    name for name, count in zip(names, counts, strict=True) if not count
  ]
  if missing:
    raise errors.UsageError(
      f'--class_weights={recipe.class_weights}: no image to train on is of '
      f'class {", ".join(missing)}; add some, lower --validation_examples, or '
      'leave out --class_weights'
    )
  return (counts.sum() / (len(names) * counts)).astype(np.float32)
