"""Images in arrays as a source of a data set."""

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ft_tf import errors
from ft_tf.data import arrays, example_sets, image_ops, label_arrays


class Arrays:
  """Images in arrays; has the interface of `sources.Source`.

  Attributes:
    unit: Whether the given images are in 0..1 and not in 0..255.
    has_validation: Whether there is a split 'validation'.
  """

  name = 'arrays'

  def __init__(
    self,
    train: Any,
    test: Any,
    *,
    validation: Any = None,
    label_names: Sequence[str] | None = None,
  ):
    """Converts images and labels; see `arrays` and `label_arrays`.

    Args:
      train: Images and labels to train on; see `arrays.read_pair`.
      test: Images and labels to test on; see `arrays.read_pair`. The images
        have the shape and range of those of `train`.
      validation: Images and labels to validate on, in the same way, which may
        be `test`; None: there are none.
      label_names: The class names, in the order of the labels; None: the class
        numbers.

    Raises:
      UsageError: the arrays have another form.
    """
    names = label_arrays.to_names(label_names)
    splits, classes, ranges = {}, 0, {}
    digest = hashlib.sha256()
    given_splits = {'train': train, 'test': test}
    self.has_validation = validation is not None
    if self.has_validation and validation is not test:
      given_splits['validation'] = validation
    for split, given in given_splits.items():
      raw_images, raw_labels = arrays.read_pair(split, given)
      images, ranges[split] = arrays.to_images(split, raw_images)
      labels, least_classes = label_arrays.to_labels(
        split, raw_labels, len(images), names
      )
      splits[split] = example_sets.Examples(images, labels)
      classes = max(classes, least_classes)
      digest.update(np.ascontiguousarray(images).data)
      # The fingerprint has always been that of the given integer type. It is
      # part of the identity of existing runs, so that it cannot change.
      given_type = raw_labels.dtype if raw_labels.dtype.kind in 'iu' else int
      digest.update(labels.astype(given_type).data)
    shapes = {
      split: examples.images.shape[1:] for split, examples in splits.items()
    }
    for split, shape in shapes.items():
      if shape != shapes['train']:
        raise errors.UsageError(
          f'the images of train are {shapes["train"]} and those of {split} '
          f'{shape}: give all in one height, width and number of channels'
        )
      if ranges[split] != ranges['train']:
        raise errors.UsageError(
          f'train and {split} have different ranges, 0 to 1 and 0 to 255: give '
          'both in one range'
        )
    if self.has_validation:
      splits.setdefault('validation', splits['test'])
    label_arrays.check_covered(splits['train'].labels, classes, names)
    self.label_names = names or list(map(str, range(classes)))
    self.image_shape: tuple[int, int, int] = tuple(shapes['train'])
    self.unit = ranges['train']
    self.fingerprint = digest.hexdigest()
    self._splits = splits

  def read(self, split: str) -> example_sets.Examples:
    """Returns the examples of 'train', 'test' or 'validation'."""
    return self._splits[split]

  def with_channels(self, channels: int) -> 'Arrays':
    """Returns these images with 1 channel (grey) or 3 channels."""
    converted = copy.copy(self)
    converted._splits = {
      name: example_sets.Examples(
        np.asarray(image_ops.with_channels(examples.images, channels)),
        examples.labels,
      )
      for name, examples in self._splits.items()
    }
    converted.image_shape = (*self.image_shape[:2], channels)
    return converted
