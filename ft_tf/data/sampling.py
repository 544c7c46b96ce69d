"""A seeded, stratified sample of labelled images.

Image folders are sorted by class, so that the first images of a data set may
all be of one class. Every measurement of some images uses a sample from here.
"""

from typing import Protocol, Self, TypeVar

import numpy as np

# Reading the labels of images in files is slow, so that only some are read.
_LEAST_LABELS = 2000


class _Drawable(Protocol):
  """Has examples: `example_sets.Examples` or `records.StoredExamples`."""

  def __len__(self) -> int: ...
  def labels_at(self, indices: np.ndarray, /) -> np.ndarray: ...
  def take(self, indices: np.ndarray, /) -> Self: ...


Examples = TypeVar('Examples', bound=_Drawable)


def sample(examples: Examples, count: int, *, seed: int = 0) -> Examples:
  """Returns a sample with the same proportions of classes as all examples.

  Every prefix of the sample is stratified as well.

  Args:
    examples: The examples to draw from.
    count: Number of examples wanted. If there are no more than that, all are
      returned in their order.
    seed: The seed of the choice.
  """
  if count >= len(examples):
    return examples
  return examples.take(sample_positions(examples, count, seed=seed))


def sample_positions(
  examples: _Drawable, count: int, *, seed: int = 0
) -> np.ndarray:
  """Returns the positions of the examples of a sample, `[n]` int64.

  Args:
    examples: The examples to draw from.
    count: Number of examples wanted; n is the smaller of `count` and the number
      of all examples.
    seed: The seed of the choice.
  """
  rng = np.random.default_rng(seed)
  drawn = rng.permutation(len(examples))[: max(4 * count, _LEAST_LABELS)]
  labels = examples.labels_at(drawn)
  # The j-th of the n images of a class gets the place (j + u) / n, with one
  # random u per class. Sorted by place, the classes alternate in proportion.
  place = np.empty(len(drawn))
  for label in np.unique(labels):
    of_label = np.flatnonzero(labels == label)
    place[of_label] = (np.arange(len(of_label)) + rng.random()) / len(of_label)
  return drawn[np.argsort(place, kind='stable')][:count]
