"""The random numbers of views: functions of view seed, view and example.

Each purpose has its own numbers, so that an augmentation that is switched on
leaves the others as they are. They are TensorFlow's Philox, which gives the
same numbers in every release and on every device: kept teacher signals belong
to the images that these numbers make.
"""

from collections.abc import Sequence

import tensorflow as tf

# Purposes. Crops and flips have been there first.
CROP, OPERATIONS, PARTNER, MIXTURE = range(4)


def draw(
  purpose: int, shape: Sequence[int], view_seed: int, view: int | tf.Tensor
) -> tf.Tensor:
  """Returns random numbers in [0, 1), float32.

  Args:
    purpose: One of the purposes of this file.
    shape: The shape; the first axis is that of the examples, in their order.
    view_seed: As of `recipes.Data`.
    view: The view number.
  """
  seed = [
    tf.constant(view_seed + purpose * 2**32, tf.int64),
    tf.cast(view, tf.int64),
  ]
  return tf.random.stateless_uniform(shape, seed=seed, alg='philox')


def permute(first: int, last: int, numbers: tf.Tensor) -> tf.Tensor:
  """Returns the positions `first` .. `last` - 1 in a random order, int64.

  Args:
    first: The first position.
    last: The position after the last one.
    numbers: Random numbers of all positions, `[N]`.
  """
  order = tf.argsort(numbers[first:last], stable=True)
  return first + tf.cast(order, tf.int64)
