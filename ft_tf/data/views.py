"""Streams of augmented batches; each batch is a pure function of its step.

The orders of all epochs form one sequence, and step s uses its examples s*B to
(s+1)*B - 1. So no example is dropped, every batch is full, and a run continues
at any step without repeating the steps before it.

The order of an epoch depends on (seed, epoch). The augmented copy of an
example, its view, depends on (view seed, view number, example). The view number
is the epoch, or the epoch modulo `data.views`. A view does not depend on the
place in the order. So the teacher's outputs for it can be cached under (view
number, example), and serve students of every seed.

A view is made in this order: crop and flip, RandAugment (`augmentations`), and
the mixture with another example's view of the same number (`mixing`). Teacher,
paraphraser and student see the same views (Beyer et al., "Knowledge
distillation: A good teacher is patient and consistent", CVPR 2022).
"""

import functools
import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from ft_tf import recipes
from ft_tf.data import (
  augmentations,
  chance,
  example_sets,
  mixing,
  records,
)

# Which examples a batch shows and what chance decides of them: tensors with a
# row for each, in nested dicts.
_Choices = dict[str, Any]


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


def describe(
  examples: example_sets.AnyExamples, data: recipes.Data
) -> dict[str, Any]:
  """Returns all that decides the views of given images, in JSON types.

  What is switched off is left out, so that signals that were kept before it
  existed are still found.

  Args:
    examples: The training images.
    data: Their augmentation.
  """
  names = ['resizing', 'pad', 'flip', 'view_seed']
  if data.rand_augment_magnitude:
    names += ['rand_augment_magnitude', 'rand_augment_ops']
  if mixing.is_on(data):
    names += ['mixup_alpha', 'cutmix_alpha']
  values = {name: getattr(data, name) for name in names}
  if mixing.is_on(data):
    values['labelled'] = examples.labelled  # decides the partners
  return values


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
  share: tuple[int, int] = (0, 1),
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
    share: Which part of each batch, and of how many equal parts: what one of
      several machines trains on. B below is then the size of a part.

  Returns:
    Batches `{'image': [B, H, W, C] uint8, 'label': [B] int64, 'signal':
    [B, width] float16, or float32 if computed}`, `label` and `signal` only on
    request. If images are mixed, `label` is joined by `partner_label`, `[B]`
    int64, and `share`, `[B]` float32, the share of the image that `label` is
    of.
  """
  count = len(examples)
  first, last = first_step * data.batch_size, last_step * data.batch_size
  first_epoch = first // count
  part, parts = share
  size = data.batch_size // parts

  @tf.autograph.experimental.do_not_convert
  def examples_of(epoch):
    order = tf.random.experimental.stateless_shuffle(
      tf.range(count, dtype=tf.int64), seed=[seed, epoch]
    )
    number = epoch % data.views if data.views else epoch
    # The first epoch of a continued run begins in the middle.
    begin = tf.where(epoch == first_epoch, first % count, 0)
    rows = _take(views.choose(number), order[begin:])
    return rows, tf.fill([count - begin], number)

  views = _Views(examples, data)

  @tf.autograph.experimental.do_not_convert
  def batch(choices, number):
    if parts > 1:
      mine = slice(part * size, (part + 1) * size)
      choices = tf.nest.map_structure(lambda rows: rows[mine], choices)
      number = number[mine]
    values = views.show(choices)
    if not labels:
      values = {'image': values['image']}
    if isinstance(signals, Computed):
      rows = signals.compute_rows(values['image'])
      values['signal'] = tf.ensure_shape(rows, [size, signals.width])
    elif signals is not None:
      index = choices['own']['index']
      rows = tf.numpy_function(signals.read, [number, index], tf.float16)
      values['signal'] = tf.ensure_shape(rows, [size, signals.width])
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
  views = _Views(examples, data)
  choices = views.choose(number)
  batches = tf.data.Dataset.range(len(examples)).batch(data.batch_size)

  @tf.autograph.experimental.do_not_convert
  def show(index):
    return views.show(_take(choices, index))['image']

  return batches.map(show, num_parallel_calls=tf.data.AUTOTUNE).prefetch(
    tf.data.AUTOTUNE
  )


class _Views:
  """The views of some examples, in two parts: what is chosen, what it shows."""

  def __init__(self, examples: example_sets.AnyExamples, data: recipes.Data):
    self._count, self._labelled = len(examples), examples.labelled
    self._data = data
    self._crop = _cropping(examples, data)

  def choose(self, number: int | tf.Tensor) -> _Choices:
    """Returns what chance decides of a view, for all examples in order.

    Args:
      number: The view number.
    """
    count, data = self._count, self._data
    own = {
      'index': tf.range(count, dtype=tf.int64),
      'crop': chance.draw(chance.CROP, [count, 3], data.view_seed, number),
    }
    if data.rand_augment_magnitude:
      own['operations'] = chance.draw(
        chance.OPERATIONS,
        [count, data.rand_augment_ops, 2],
        data.view_seed,
        number,
      )
    if not mixing.is_on(data):
      return {'own': own}
    partner = mixing.choose_partners(count, self._labelled, data, number)
    return {
      'own': own,
      'partner': _take(own, partner),
      'mixture': mixing.draw(count, data, number),
    }

  def show(self, choices: _Choices) -> dict[str, tf.Tensor]:
    """Returns images and labels of some rows of what was chosen."""
    data = self._data
    if not mixing.is_on(data):
      image, label = self._augment(**choices['own'])
      return {'image': image, 'label': label}
    # Together, so that the graph has every operation once.
    both = tf.nest.map_structure(
      lambda *rows: tf.concat(rows, axis=0), choices['own'], choices['partner']
    )
    (image, partner), (label, partner_label) = (
      tf.split(values, 2) for values in self._augment(**both)
    )
    image, share = mixing.mix(
      image,
      partner,
      choices['mixture'],
      mixup_alpha=data.mixup_alpha,
      cutmix_alpha=data.cutmix_alpha,
    )
    return {
      'image': image,
      'label': label,
      mixing.PARTNER_LABEL: partner_label,
      mixing.SHARE: share,
    }

  def _augment(self, index, crop, operations=None):
    """Returns augmented images and their labels, not mixed."""
    image, label = self._crop(index, crop)
    if operations is not None:
      image = augmentations.rand_augment(
        image, operations, magnitude=self._data.rand_augment_magnitude
      )
    return image, label


def _take(choices, rows):
  return tf.nest.map_structure(lambda values: tf.gather(values, rows), choices)


def _cropping(examples, data):
  """Returns a function of positions `[B]` and random numbers `[B, 3]`.

  The function returns images, cropped and flipped, and their labels.
  """
  if isinstance(examples, records.StoredExamples):
    if examples.crops:
      return functools.partial(examples.augment, flip=data.flip)
    return functools.partial(_pad_and_crop, examples.look_up, data)
  # Tensors, because a graph keeps a reference to a tensor and copies an array.
  images = examples.tensor
  with tf.device('CPU:0'):
    labels = tf.constant(examples.labels)

  def crop(index, numbers):
    cropped = crop_and_flip(
      tf.gather(images, index), numbers, pad=data.pad, flip=data.flip
    )
    return cropped, tf.gather(labels, index)

  return crop


def _pad_and_crop(look_up, data, index, numbers):
  """Returns images, cropped and flipped, and labels of stored examples."""
  images, labels = look_up(index)
  return crop_and_flip(images, numbers, pad=data.pad, flip=data.flip), labels


def crop_and_flip(
  images: tf.Tensor, numbers: tf.Tensor, *, pad: int, flip: bool
) -> tf.Tensor:
  """Pads with black pixels, crops at random and flips half of the images.

  Args:
    images: `[B, H, W, C]`, uint8.
    numbers: Random numbers `[B, 3]`, float32 in [0, 1): row offset, column
      offset, flip.
    pad: Black pixels added on each side before the crop.
    flip: Whether images are flipped left to right where the third number is
      below a half.

  Returns:
    `[B, H, W, C]`, uint8.
  """
  height, width = images.shape[1:3]
  padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
  offsets = tf.cast(numbers[:, :2] * (2 * pad + 1), tf.int32)
  rows = offsets[:, :1] + tf.range(height)
  columns = tf.range(width)[None, :]
  if flip:
    columns = tf.where(numbers[:, 2:] < 0.5, width - 1 - columns, columns)
  columns = offsets[:, 1:2] + columns
  cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
  return tf.gather(cropped, columns, axis=2, batch_dims=1)
