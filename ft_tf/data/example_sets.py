"""Labelled images in memory, and their statistics."""

import dataclasses
import functools
import hashlib

import numpy as np
import tensorflow as tf

from ft_tf.data import memory, records, sampling

_MEASURED = 1000  # images
_AT_ONCE = 256  # images
UNLABELLED = records.UNLABELLED


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images in memory.

  Attributes:
    images: `[N, H, W, C]`, uint8.
    labels: `[N]`, int64.
    preprocessing: How the images were made of the stored ones.
  """

  images: np.ndarray
  labels: np.ndarray
  preprocessing: records.Preprocessing = dataclasses.field(
    default_factory=records.Preprocessing
  )

  @functools.cached_property
  def digest(self) -> str:
    """The SHA-256 of the images' bytes, in hexadecimal."""
    return hashlib.sha256(self.images.data).hexdigest()

  @functools.cached_property
  def tensor(self) -> tf.Tensor:
    """The images on the CPU: one copy, however many streams read them."""
    with tf.device('CPU:0'):
      return memory.tensor(self.images)

  def __len__(self) -> int:
    return len(self.labels)

  def labels_at(self, indices: np.ndarray) -> np.ndarray:
    return self.labels[indices]

  def take(self, indices: np.ndarray) -> 'Examples':
    return Examples(
      self.images[indices], self.labels[indices], self.preprocessing
    )

  def resized(self, size: tuple[int, int]) -> 'Examples':
    """Returns them at a smaller height and width."""
    images = np.empty((len(self), *size, self.images.shape[-1]), np.uint8)
    for i in range(0, len(self), _AT_ONCE):
      some = tf.constant(self.images[i : i + _AT_ONCE])
      images[i : i + _AT_ONCE] = records.shrink(some, size)
    return Examples(images, self.labels, self.preprocessing.then(size))

  def joined(self, unlabelled: 'Examples') -> 'Examples':
    """Returns these, and behind them others whose labels count for nothing."""
    return Examples(
      np.concatenate([self.images, unlabelled.images]),
      np.concatenate([self.labels, np.full(len(unlabelled), UNLABELLED)]),
      self.preprocessing,
    )


# In memory or in files: what every function that reads images takes.
AnyExamples = Examples | records.StoredExamples
# Arrays, or what is read like one by its parts; `[N, H, W, C]`, uint8.
Images = np.ndarray | records.Pictures


def statistics(
  examples: AnyExamples,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns the channel means and deviations of a sample of 1,000 images.

  Args:
    examples: The training images; what is returned is of [0, 1], rounded. The
      deviation of a channel that does not vary is 1, which divides by nothing.
  """
  some = sampling.sample(examples, _MEASURED).images[:]
  mean, std = (
    tuple(round(float(each) / 255, 3) for each in figure)
    for figure in (some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2)))
  )
  return mean, tuple(each or 1.0 for each in std)
