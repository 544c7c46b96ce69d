"""One call from a teacher and images in memory to a trained student."""

import functools
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ft_tf import catalogue, compression, errors, recipes, run_dir
from ft_tf.data import datasets
from ft_tf.models import zoo
from ft_tf.training import common, loop, strategy

# Numbers of a recipe that say how images come out of their files.
_OF_FILES = {
  'channels',
  'dataset',
  'image_size',
  'max_bad_files',
  'resizing',
  'test_split',
  'train_split',
  'unlabeled',
}


def distill(
  teacher: keras.Model | str,
  student: keras.Model | str,
  *,
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  workdir: str,
  label_names: Sequence[str] | None = None,
  recipe: str = catalogue.DEFAULT,
  **numbers: Any,
) -> keras.Model:
  """Trains a student by factor transfer, exports it and returns it.

  The folder is what bin/compress.py leaves: `result.json`, `report.html`,
  `export/` with the TFLite files. Called again, it continues or returns what is
  there.

  Args:
    teacher: A trained classifier of raw images, 0..255, or its `.keras` file.
    student: A network name as in `zoo.NAMES`, an untrained model, or its
      `.keras` file.
    train: Images `[N, H, W, C]` uint8 and labels `[N]` to train on.
    test: To test on, once, at the end.
    workdir: Where to work.
    label_names: The classes; their numbers if None.
    recipe: Whose numbers stand where none are given.
    **numbers: Of the recipe, by their flags: `student_epochs=30`. Images are
      padded by an eighth of their height and cropped, and the student
      normalises by the training images' statistics, if they are not given.

  Returns:
    The student of the last epoch, from raw images to logits `[B, classes]`.

  Raises:
    UsageError: something does not fit; nothing has been trained.
    TrainingError: a loss is not finite.
  """
  strange = sorted(_OF_FILES & numbers.keys())
  if strange:
    raise errors.UsageError(
      f'images in arrays come as they are: leave out {", ".join(strange)}'
    )
  source = datasets.Arrays(train, test, label_names=label_names)
  training = source.read('train')
  images = training.images
  mean, std = datasets.statistics(training)
  run = run_dir.RunDir(workdir)
  given = {
    'dataset': source.name,
    'image_size': 0,
    'resizing': 'stretch',
    'pad': images.shape[1] // 8,
    'mean': mean,
    'std': std,
    'teacher': _path(run, 'teacher', teacher, images),
    'student': _path(run, 'student', student, images),
    **numbers,
  }
  which = recipes.override(catalogue.get(recipe), given)
  compression.compress(
    which,
    datasets.Dataset(
      source, validation_examples=which.data.validation_examples
    ),
    run=run,
    strategy=_devices(),
    options=loop.Options(),
  )
  return zoo.load(run.child('student').model)


@functools.cache
def _devices():
  """Returns the devices; strategies of one process must not be made twice."""
  return strategy.make()


def _path(run, name, given: keras.Model | str, images) -> str:
  """Returns a model's name or file; a model in memory is written once.

  A `.keras` file of the same model has other bytes each time it is written, and
  the run would be another.
  """
  if isinstance(given, str):
    return given
  with tempfile.TemporaryDirectory() as folder:
    # What cannot be read back is refused before anything is written.
    first = os.path.join(folder, f'{name}.keras')
    given.save(first)
    zoo.check_classifier(zoo.load(first), f'the {name}')
  path = os.path.join(run.path, 'given', f'{name}.keras')
  if not (os.path.exists(path) and _same(zoo.load(path), given, images[:1])):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    common.save(path, given)
  return path


def _same(one: keras.Model, other: keras.Model, images: np.ndarray) -> bool:
  """Tells whether two models have the same weights and give the same."""
  ours, theirs = one.get_weights(), other.get_weights()
  if not (
    one.input_shape == other.input_shape
    and len(ours) == len(theirs)
    and all(map(np.array_equal, ours, theirs))
  ):
    return False
  # A student may see smaller images.
  sizes = zip(one.input_shape[1:3], images.shape[1:3], strict=True)
  height, width = (own or its for own, its in sizes)
  images = images[:, :height, :width]
  return np.allclose(one(images), other(images), rtol=1e-3, atol=1e-3)
