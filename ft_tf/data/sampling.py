"""A seeded, stratified sample of labelled images.

Image folders are sorted by class, so that the first images of a data set may
all be of one class. Whoever measures some of the images draws them here.
"""

from typing import Protocol, Self, TypeVar

import numpy as np

# Labels of images in files are read one by one: of these alone, at least.
_LEAST_DRAWN = 2000


class _Drawable(Protocol):
  """What is drawn from: `example_sets.Examples`, `records.StoredExamples`."""

  def __len__(self) -> int: ...
  def labels_at(self, indices: np.ndarray, /) -> np.ndarray: ...
  def take(self, indices: np.ndarray, /) -> Self: ...


Examples = TypeVar('Examples', bound=_Drawable)


def sample(examples: Examples, count: int, *, seed: int = 0) -> Examples:
  """Returns examples with the classes in the proportions that all have.

  Every prefix of a sample that leaves some out is stratified, too.

  Args:
    examples: What to draw from.
    count: Number of examples wanted; if there are no more, all are returned,
      in their own order.
    seed: Decides which.
  """
  if count >= len(examples):
    return examples
  return examples.take(positions(examples, count, seed=seed))


def positions(examples: _Drawable, count: int, *, seed: int = 0) -> np.ndarray:
  """Returns where the examples of such a sample are, `[n]` int64.

  Args:
    examples: What to draw from.
    count: Number of examples wanted; n is that, or all that there are.
    seed: Decides which.
  """
  rng = np.random.default_rng(seed)
  drawn = rng.permutation(len(examples))[: max(4 * count, _LEAST_DRAWN)]
  labels = examples.labels_at(drawn)
  # The j-th of a class's n images stands at (j + u) / n of the whole, u random
  # for each class: the classes alternate in their proportions.
  place = np.empty(len(drawn))
  for label in np.unique(labels):
    of_label = np.flatnonzero(labels == label)
    place[of_label] = (np.arange(len(of_label)) + rng.random()) / len(of_label)
  return drawn[np.argsort(place, kind='stable')][:count]
