"""The training images that an int8 file takes its ranges from."""

import numpy as np

from ft_tf import errors
from ft_tf.data import datasets, sampling

# 200 left a worst logit difference of 3.3 in a ResNet-20, 1,000 one of 0.55.
COUNT = 1000
LEAST = 20
_STRETCHED = 16  # images repeated over the full range of values


def check_count(images: int) -> None:
  """Raises `UsageError` if there are fewer images than `LEAST`."""
  if images < LEAST:
    raise errors.UsageError(
      f'int8 takes its ranges from training images, {images} are too few: '
      f'give {LEAST} or more'
    )


def choose(dataset: datasets.Dataset) -> np.ndarray:
  """Returns raw training images, `[N, H, W, C]` uint8.

  Raises:
    UsageError: they are too few, or all alike.
  """
  images = sampling.sample(dataset.train, COUNT).images[:]
  check_count(len(images))
  if (images == images[:1]).all():
    raise errors.UsageError(
      f'int8 takes its ranges from training images, and {len(images)} of them '
      'are all the same: give images that differ'
    )
  return images


def over_full_range(images: np.ndarray) -> np.ndarray:
  """Returns calibration images whose values reach from 0 to 255.

  Some with their contrast stretched widen the ranges of all maps, so that
  images brighter than all that were trained on are classified as Keras does.
  Where the converter takes the ranges, that of the input is of these images
  too: a fake quantisation of 0..255 in front of the network would set its scale
  alone.

  Args:
    images: `[N, H, W, C]`, uint8.
  """
  low, high = int(images.min()), int(images.max())
  if (low, high) == (0, 255):
    return images
  if low == high:
    black = np.zeros_like(images[:1])
    return np.concatenate([images, black, black + np.uint8(255)])
  flat = images.reshape(len(images), -1)
  ends = [flat.min(axis=1).argmin(), flat.max(axis=1).argmax()]
  some = images[np.union1d(np.arange(min(_STRETCHED, len(images))), ends)]
  stretched = (some.astype(np.float32) - low) * (255 / (high - low))
  return np.concatenate([images, np.round(stretched).astype(np.uint8)])
