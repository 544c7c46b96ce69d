"""What `predictions.json` tells of a network: by class, and by confidence."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ft_tf.report import summary


@dataclasses.dataclass(frozen=True)
class Predictions:
  """A network's predictions on the test split.

  Attributes:
    classes: The names, in the order of the logits.
    cells: The cells of the confusion matrix that are not 0, `[M, 3]`: label,
      prediction and number of images.
    bins: The bins of confidence that are not empty, `[K, 3]`: number of images,
      mean confidence and accuracy.
  """

  classes: tuple[str, ...]
  cells: np.ndarray
  bins: np.ndarray

  @functools.cached_property
  def images(self) -> np.ndarray:
    """Number of images of each class, `[classes]`."""
    label, _, images = self.cells.T
    return np.bincount(label, images, minlength=len(self.classes))

  @functools.cached_property
  def accuracy(self) -> np.ndarray:
    """Accuracy by class (0..1), `[classes]`; NaN for a class without images."""
    label, prediction, images = self.cells.T
    correct = np.bincount(
      label, images * (label == prediction), minlength=len(self.classes)
    )
    with np.errstate(invalid='ignore'):
      return correct / self.images

  @property
  def balanced_accuracy(self) -> float:
    """The mean of `accuracy` over the classes that have images."""
    return float(np.nanmean(self.accuracy))

  @property
  def calibration_error(self) -> float:
    """The expected calibration error, 0..1; see `metrics.calibration_error`."""
    images, confidence, accuracy = self.bins.T
    gaps = np.abs(confidence - accuracy)
    return float((images * gaps).sum() / images.sum())

  def matrix(self) -> np.ndarray:
    """Returns the confusion matrix `[label, prediction]`, in images."""
    label, prediction, images = self.cells.T
    matrix = np.zeros((len(self.classes),) * 2, np.int64)
    matrix[label, prediction] = images
    return matrix

  def confused_pairs(self, most: int) -> list[tuple[str, str, int, float]]:
    """Returns the most frequent mistakes.

    Args:
      most: The number of pairs to return, at most.

    Returns:
      Label, prediction, number of images, and their share (0..1) of the images
      with that label; by falling number.
    """
    mistakes = self.cells[self.cells[:, 0] != self.cells[:, 1]]
    order = np.argsort(-mistakes[:, 2], kind='stable')[:most]
    return [
      (
        self.classes[label],
        self.classes[prediction],
        int(images),
        float(images / self.images[label]),
      )
      for label, prediction, images in mistakes[order]
    ]


def parse(value: dict[str, Any] | None) -> Predictions | None:
  """Returns the predictions in a value of `predictions.json`; None for None."""
  if value is None:
    return None
  return Predictions(
    tuple(value['classes']),
    np.array(value['confusion'], np.int64).reshape(-1, 3),
    np.array(value['reliability'], float).reshape(-1, 3),
  )


def mean_accuracy(
  runs: Sequence[summary.Run], method: str
) -> np.ndarray | None:
  """Returns a method's accuracy by class (0..1), as the mean over its seeds.

  Args:
    runs: The runs of a compression.
    method: The method, or 'teacher'.

  Returns:
    `[classes]`; None if a run of the method has no predictions, or there is no
    such run.
  """
  by_seed = [parse(run.predictions) for run in runs if run.method == method]
  known = [each.accuracy for each in by_seed if each is not None]
  if not known or len(known) != len(by_seed):
    return None
  return np.mean(known, axis=0)
