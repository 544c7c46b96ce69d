"""Labelled images in memory, and their statistics."""

import dataclasses
import functools
import hashlib

import numpy as np
import tensorflow as tf

from ft_tf.data import image_ops, memory, records, sampling

_SAMPLE = 1000  # images for the statistics
_AT_ONCE = 256  # images
UNLABELLED = records.UNLABELLED


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images in memory.

  Attributes:
    images: `[N, H, W, C]`, uint8.
    labels: `[N]`, int64.
    preprocessing: The steps from the stored images to `images`.
  """

  images: np.ndarray
  labels: np.ndarray
  preprocessing: image_ops.Preprocessing = dataclasses.field(
    default_factory=image_ops.Preprocessing
  )

  @functools.cached_property
  def digest(self) -> str:
    """The SHA-256 of the images' bytes, in hexadecimal."""
    return hashlib.sha256(self.images.data).hexdigest()

  @functools.cached_property
  def tensor(self) -> tf.Tensor:
    """The images on the CPU: one copy, however many streams read them."""
    with tf.device('CPU:0'):
      return memory.to_tensor(self.images)

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def labelled(self) -> int:
    """How many examples have labels; they come first."""
    return int(np.count_nonzero(self.labels != UNLABELLED))

  def labels_at(self, indices: np.ndarray) -> np.ndarray:
    return self.labels[indices]

  def take(self, indices: np.ndarray) -> 'Examples':
    return Examples(
      self.images[indices], self.labels[indices], self.preprocessing
    )

  def resized(self, size: tuple[int, int]) -> 'Examples':
    """Returns these examples at a smaller height and width."""
    images = np.empty((len(self), *size, self.images.shape[-1]), np.uint8)
    for i in range(0, len(self), _AT_ONCE):
      batch = tf.constant(self.images[i : i + _AT_ONCE])
      images[i : i + _AT_ONCE] = image_ops.shrink(batch, size)
    return Examples(images, self.labels, self.preprocessing.then(size))

  def joined(self, unlabelled: 'Examples') -> 'Examples':
    """Returns these examples, followed by unlabelled ones."""
    return Examples(
      np.concatenate([self.images, unlabelled.images]),
      np.concatenate([self.labels, np.full(len(unlabelled), UNLABELLED)]),
      self.preprocessing,
    )


# Examples in memory or in files.
AnyExamples = Examples | records.StoredExamples
# Arrays, or images in files that are read like arrays; `[N, H, W, C]`, uint8.
Images = np.ndarray | records.StoredImages


def statistics(
  examples: AnyExamples,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns channel means and standard deviations of a sample of 1,000 images.

  Args:
    examples: The training images.

  Returns:
    Means and deviations of the values scaled to [0, 1], rounded. The deviation
    of a constant channel is 1, so that normalisation can divide by it.
  """
  images = sampling.sample(examples, _SAMPLE).images[:]
  mean, std = (
    tuple(round(float(value) / 255, 3) for value in values)
    for values in (images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2)))
  )
  return mean, tuple(deviation or 1.0 for deviation in std)
