"""Streams of augmented batches that are a pure function of their place.

Step s of a run sees the examples at places s*B .. (s+1)*B of the epochs'
orders laid end to end, so no example is dropped, every batch is full, and a run
goes on at any step without replaying those before it. An epoch's order depends
on (seed, epoch); the view of an example on (view seed, view number, example),
where the number is the epoch's, or that modulo the number of views.
"""

import functools
import math
from typing import Protocol

import numpy as np
import tensorflow as tf

from ft_tf import recipes
from ft_tf.data import example_sets, records


def steps(examples: int, *, batch_size: int, epochs: float) -> int:
  """Returns the number of steps in which that many epochs have been seen."""
  return math.ceil(examples * epochs / batch_size)


def numbers(examples: int, data: recipes.Data, epochs: int) -> range:
  """Returns the numbers of the views that a run of some epochs sees.

  Its last batch is full, so that it may reach into one epoch more.
  """
  count = steps(examples, batch_size=data.batch_size, epochs=epochs)
  seen = math.ceil(count * data.batch_size / examples)
  return range(min(seen, data.views) if data.views else seen)


class Signals(Protocol):
  """What is known of views beforehand, such as what the teacher says of them.

  Attributes:
    width: Number of values for each view.
  """

  width: int

  def read(self, views: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns rows `[B, width]` float16 for views and examples, `[B]` both."""


def stream(
  examples: example_sets.AnyExamples,
  data: recipes.Data,
  *,
  seed: int,
  first_step: int,
  last_step: int,
  labels: bool = True,
  signals: Signals | None = None,
) -> tf.data.Dataset:
  """Returns the batches of the steps `first_step` .. `last_step` - 1.

  Args:
    examples: The training images.
    data: Batch size and augmentation.
    seed: Decides the order of examples.
    first_step: The step to begin at.
    last_step: The step to end before.
    labels: Whether batches carry labels.
    signals: Whose rows batches carry, if any.

  Returns:
    Batches `{'image': [B, H, W, C] uint8, 'label': [B] int64, 'signal':
    [B, width] float16}`, the latter two only if asked for.
  """
  count = len(examples)
  first, last = first_step * data.batch_size, last_step * data.batch_size
  first_epoch = first // count

  def places(epoch):
    order = tf.random.experimental.stateless_shuffle(
      tf.range(count, dtype=tf.int64), seed=[seed, epoch]
    )
    number = epoch % data.views if data.views else epoch
    begin = tf.where(epoch == first_epoch, first % count, 0)
    return (
      order[begin:],
      tf.gather(_chance(count, data, number), order)[begin:],
      tf.fill([count - begin], number),
    )

  show = _augmentation(examples, data)

  def batch(index, chance, number):
    image, label = show(index, chance)
    values = {'image': image}
    if labels:
      values['label'] = label
    if signals is not None:
      rows = tf.numpy_function(signals.read, [number, index], tf.float16)
      values['signal'] = tf.ensure_shape(rows, [data.batch_size, signals.width])
    return values

  epochs = tf.data.Dataset.range(first_epoch, math.ceil(last / count))
  stream = epochs.map(places).rebatch(data.batch_size, drop_remainder=True)
  stream = stream.take(last_step - first_step)
  stream = stream.map(
    batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  return stream.prefetch(tf.data.AUTOTUNE)


def view(
  examples: example_sets.AnyExamples, data: recipes.Data, number: int
) -> tf.data.Dataset:
  """Returns every training image as one view shows it, in their order.

  Args:
    examples: The training images.
    data: Batch size and augmentation.
    number: Of the view: epoch e has view e, or e modulo `data.views`.

  Returns:
    Batches `[B, H, W, C]` uint8; the last may be smaller.
  """
  show = _augmentation(examples, data)
  chance = _chance(len(examples), data, number)
  batches = tf.data.Dataset.range(len(examples)).batch(data.batch_size)
  return batches.map(
    lambda index: show(index, tf.gather(chance, index))[0],
    num_parallel_calls=tf.data.AUTOTUNE,
  ).prefetch(tf.data.AUTOTUNE)


def _augmentation(examples, data):
  """Returns what makes views and labels of positions `[B]` and chances."""
  if isinstance(examples, records.StoredExamples):
    return functools.partial(examples.views, flip=data.flip)
  # Tensors, not numpy arrays: functions hold these by reference.
  images = examples.tensor
  with tf.device('CPU:0'):
    labels = tf.constant(examples.labels)

  def show(index, chance):
    cropped = crop_and_flip(
      tf.gather(images, index), chance, pad=data.pad, flip=data.flip
    )
    return cropped, tf.gather(labels, index)

  return show


def _chance(count, data, number):
  """Returns random numbers by example, not by place: `[count, 3]` in [0, 1)."""
  return tf.random.stateless_uniform(
    [count, 3], seed=[data.view_seed, number], alg='philox'
  )


def crop_and_flip(
  images: tf.Tensor, chance: tf.Tensor, *, pad: int, flip: bool
) -> tf.Tensor:
  """Pads with black, crops at random, flips half; of each image its own.

  Args:
    images: `[B, H, W, C]`, uint8.
    chance: `[B, 3]`, float32 in [0, 1): row offset, column offset, flip.
    pad: Black pixels added on each side before the crop.
    flip: Whether images are flipped left to right where the chance is below
      a half.

  Returns:
    `[B, H, W, C]`, uint8.
  """
  height, width = images.shape[1:3]
  padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
  offsets = tf.cast(chance[:, :2] * (2 * pad + 1), tf.int32)
  rows = offsets[:, :1] + tf.range(height)
  columns = tf.range(width)[None, :]
  if flip:
    columns = tf.where(chance[:, 2:] < 0.5, width - 1 - columns, columns)
  columns = offsets[:, 1:2] + columns
  cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
  return tf.gather(cropped, columns, axis=2, batch_dims=1)
