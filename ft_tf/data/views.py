"""Streams of augmented batches; each batch is a pure function of its step.

The orders of all epochs form one sequence, and step s uses its examples s*B to
(s+1)*B - 1. So no example is dropped, every batch is full, and a run continues
at any step without repeating the steps before it.

The order of an epoch depends on (seed, epoch). The augmented copy of an
example, its view, depends on (view seed, view number, example). The view number
is the epoch, or the epoch modulo `data.views`. A view does not depend on the
place in the order. So the teacher's outputs for it can be cached under (view
number, example), and serve students of every seed.
"""

import functools
import math
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from ft_tf import recipes
from ft_tf.data import example_sets, records


def count_steps(examples: int, *, batch_size: int, epochs: float) -> int:
  """Returns the number of steps that a number of epochs takes."""
  return math.ceil(examples * epochs / batch_size)


def view_numbers(examples: int, data: recipes.Data, epochs: int) -> range:
  """Returns the numbers of the views that a run uses.

  The last batch is full, so that it may reach into the next epoch.
  """
  step_count = count_steps(examples, batch_size=data.batch_size, epochs=epochs)
  epoch_count = math.ceil(step_count * data.batch_size / examples)
  return range(min(epoch_count, data.views) if data.views else epoch_count)


class Signals(Protocol):
  """Values that are known for each view, such as the teacher's outputs.

  Attributes:
    width: Number of values per view of an example.
  """

  width: int

  def read(self, views: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns rows `[B, width]` float16.

    Args:
      views: View numbers `[B]`.
      examples: Positions of examples `[B]`.
    """


@runtime_checkable
class Computed(Protocol):
  """Values that the pipeline computes, such as an ONNX teacher's outputs.

  Attributes:
    width: Number of values per image.
  """

  width: int

  def compute_rows(self, images: tf.Tensor) -> tf.Tensor:
    """Returns rows `[B, width]` float32 of augmented images."""


def stream(
  examples: example_sets.AnyExamples,
  data: recipes.Data,
  *,
  seed: int,
  first_step: int,
  last_step: int,
  labels: bool = True,
  signals: Signals | Computed | None = None,
) -> tf.data.Dataset:
  """Returns the batches of the steps `first_step` .. `last_step` - 1.

  Args:
    examples: The training images.
    data: Batch size and augmentation.
    seed: Decides the order of examples.
    first_step: The first step.
    last_step: The step after the last one.
    labels: Whether batches have labels.
    signals: The rows that batches have as `signal`; those that are computed
      are so while the step before runs. None: no rows.

  Returns:
    Batches `{'image': [B, H, W, C] uint8, 'label': [B] int64, 'signal':
    [B, width] float16, or float32 if computed}`, `label` and `signal` only on
    request.
  """
  count = len(examples)
  first, last = first_step * data.batch_size, last_step * data.batch_size
  first_epoch = first // count

  def examples_of(epoch):
    order = tf.random.experimental.stateless_shuffle(
      tf.range(count, dtype=tf.int64), seed=[seed, epoch]
    )
    number = epoch % data.views if data.views else epoch
    # The first epoch of a continued run begins in the middle.
    begin = tf.where(epoch == first_epoch, first % count, 0)
    return (
      order[begin:],
      tf.gather(_draw(count, data, number), order)[begin:],
      tf.fill([count - begin], number),
    )

  augment = _augmentation(examples, data)

  def batch(index, chance, number):
    image, label = augment(index, chance)
    values = {'image': image}
    if labels:
      values['label'] = label
    if isinstance(signals, Computed):
      rows = signals.compute_rows(image)
      values['signal'] = tf.ensure_shape(rows, [data.batch_size, signals.width])
    elif signals is not None:
      rows = tf.numpy_function(signals.read, [number, index], tf.float16)
      values['signal'] = tf.ensure_shape(rows, [data.batch_size, signals.width])
    return values

  epochs = tf.data.Dataset.range(first_epoch, math.ceil(last / count))
  stream = epochs.map(examples_of).rebatch(data.batch_size, drop_remainder=True)
  stream = stream.take(last_step - first_step)
  stream = stream.map(
    batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  return stream.prefetch(tf.data.AUTOTUNE)


def read_view(
  examples: example_sets.AnyExamples, data: recipes.Data, number: int
) -> tf.data.Dataset:
  """Returns one augmented copy of every training image, in their order.

  Args:
    examples: The training images.
    data: Batch size and augmentation.
    number: The view number: epoch e uses view e, or e modulo `data.views`.

  Returns:
    Batches `[B, H, W, C]` uint8; the last may be smaller.
  """
  augment = _augmentation(examples, data)
  chance = _draw(len(examples), data, number)
  batches = tf.data.Dataset.range(len(examples)).batch(data.batch_size)
  return batches.map(
    lambda index: augment(index, tf.gather(chance, index))[0],
    num_parallel_calls=tf.data.AUTOTUNE,
  ).prefetch(tf.data.AUTOTUNE)


def _augmentation(examples, data):
  """Returns a function of positions `[B]` and random numbers `[B, 3]`.

  The function returns augmented images and labels.
  """
  if isinstance(examples, records.StoredExamples):
    return functools.partial(examples.augment, flip=data.flip)
  # Tensors, because a graph keeps a reference to a tensor and copies an array.
  images = examples.tensor
  with tf.device('CPU:0'):
    labels = tf.constant(examples.labels)

  def augment(index, chance):
    cropped = crop_and_flip(
      tf.gather(images, index), chance, pad=data.pad, flip=data.flip
    )
    return cropped, tf.gather(labels, index)

  return augment


def _draw(count, data, number):
  """Returns random numbers `[count, 3]` in [0, 1), in the order of examples."""
  return tf.random.stateless_uniform(
    [count, 3], seed=[data.view_seed, number], alg='philox'
  )


def crop_and_flip(
  images: tf.Tensor, chance: tf.Tensor, *, pad: int, flip: bool
) -> tf.Tensor:
  """Pads with black pixels, crops at random and flips half of the images.

  Args:
    images: `[B, H, W, C]`, uint8.
    chance: Random numbers `[B, 3]`, float32 in [0, 1): row offset, column
      offset, flip.
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
