"""The training images that an int8 file takes its ranges from."""

import numpy as np

from ft_tf import errors
from ft_tf.data import datasets, sampling

# 200 left a worst logit difference of 3.3 in a ResNet-20, 1,000 one of 0.55.
COUNT = 1000
LEAST = 20


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
