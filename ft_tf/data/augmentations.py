"""RandAugment: some of 14 operations for each image, all of one magnitude.

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced
search space", 2020, section 3. Ranges of the magnitudes are those of
torchvision.transforms.RandAugment, where a larger magnitude always changes more
and 30 is the largest. The operations on colours are those of Pillow, rounded
where Pillow cuts off the fraction.

Everything is a pure function of images and given random numbers, and of one
image at a time. Keras's layers are not: keras.layers.RandAugment 3.15 draws
from its own state, the same operations for a whole batch, and computes all of
them for each.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ft_tf.data import image_ops

MOST = 30  # the largest magnitude
# At the largest magnitude: pixels per row, share of the side, degrees, change
# of the factor of an enhancement, bits that are cut off.
_SHEAR, _TRANSLATION, _ROTATION = 0.3, 150 / 331, 30.0
_ENHANCEMENT, _BITS = 0.9, 4
_GREY = ((0.299,), (0.587,), (0.114,))  # ITU-R 601-2, as Pillow

# From images `[n, H, W, C]` uint8, signs `[n]` float32, 1 or -1, and the
# magnitude in 0..1 to changed images. n may be 0.
Operation = Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]


def rand_augment(
  images: tf.Tensor, numbers: tf.Tensor, *, magnitude: float
) -> tf.Tensor:
  """Applies operations to each image, one after the other.

  Args:
    images: `[B, H, W, C]`, uint8; C is 1 or 3.
    numbers: Random numbers `[B, N, 2]`, float32 in [0, 1): for each of N
      operations which of the 14 it is, and its sign.
    magnitude: Of all operations, above 0 and at most `MOST`.

  Returns:
    `[B, H, W, C]`, uint8.
  """
  for step in range(numbers.shape[1]):
    images = _apply(images, numbers[:, step], magnitude / MOST)
  return images


def _apply(images, numbers, strength):
  """Applies one operation to each image, by random numbers `[B, 2]`."""
  # Together the images of one operation.
  chosen = tf.cast(numbers[:, 0] * len(OPERATIONS), tf.int32)
  signs = tf.where(numbers[:, 1] < 0.5, -1.0, 1.0)
  images_of, signs_of, places_of = (
    tf.dynamic_partition(values, chosen, len(OPERATIONS))
    for values in (images, signs, tf.range(tf.shape(images)[0]))
  )
  changed = [
    operation(some, their_signs, strength)
    for operation, some, their_signs in zip(
      OPERATIONS.values(), images_of, signs_of, strict=True
    )
  ]
  return tf.ensure_shape(tf.dynamic_stitch(places_of, changed), images.shape)


def identity(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Returns the images."""
  del signs, strength
  return images


def auto_contrast(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Stretches each channel to 0 to 255; a constant channel stays."""
  del signs, strength
  values = tf.cast(images, tf.float32)
  low = tf.reduce_min(values, axis=[1, 2], keepdims=True)
  span = tf.reduce_max(values, axis=[1, 2], keepdims=True) - low
  stretched = tf.math.divide_no_nan(255 * (values - low), span)
  return image_ops.to_uint8(tf.where(span > 0, stretched, values))


def equalize(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Makes all values of each channel about equally frequent."""
  del signs, strength
  _, height, width, channels = images.shape
  pixels = height * width
  # A row for each channel of each image. By its own operation for that, of 8
  # bits, TensorFlow would print an error about the processor.
  values = tf.stack(tf.unstack(images, axis=-1), axis=1)
  values = tf.cast(values, tf.int32)
  values = tf.reshape(values, [-1, pixels])
  histogram = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)
  last = tf.reduce_max(values, axis=1, keepdims=True)
  step = (pixels - tf.gather(histogram, last, batch_dims=1)) // 255
  before = tf.cumsum(histogram, axis=1, exclusive=True)
  table = (before + step // 2) // tf.maximum(step, 1)
  # Channels of few values, which have nothing to be spread over, stay.
  table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256)[None])
  equalized = tf.gather(tf.cast(table, tf.uint8), values, batch_dims=1)
  equalized = tf.reshape(equalized, [-1, channels, height, width])
  return tf.stack(tf.unstack(equalized, axis=1), axis=-1)


def posterize(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Sets the lowest bits of each value to 0, up to 4 of 8."""
  del signs
  mask = 256 - 2 ** round(_BITS * strength)
  return tf.bitwise.bitwise_and(images, tf.constant(mask, tf.uint8))


def solarize(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Inverts the values from a threshold on, which falls from 255 to 0."""
  del signs
  bright = tf.cast(images, tf.float32) >= 255 * (1 - strength)
  return tf.where(bright, 255 - images, images)


def color(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Makes colours paler or stronger; grey images stay."""
  if images.shape[-1] == 1:
    return images
  return _enhance(images, _to_grey(images), signs, strength)


def contrast(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Moves all values towards or away from the image's mean grey."""
  mean = tf.reduce_mean(_to_grey(images), axis=[1, 2, 3], keepdims=True)
  return _enhance(images, tf.round(mean), signs, strength)


def brightness(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Multiplies all values by one number."""
  return _enhance(images, tf.constant(0.0), signs, strength)


def sharpness(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Smooths or sharpens all pixels but those at the edge.

  The smooth image has the weights 1 for the eight neighbours and 5 for the
  pixel itself.
  """
  height, width = images.shape[1:3]
  if min(height, width) < 3:  # All pixels are at the edge.
    return images
  values = tf.cast(images, tf.float32)
  inner = values[:, 1:-1, 1:-1]
  smooth = 4 * inner + tf.add_n(
    [
      values[:, row : row + height - 2, column : column + width - 2]
      for row in range(3)
      for column in range(3)
    ]
  )
  change = tf.round(smooth / 13) - inner
  change = tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]])
  return _enhance(images, values + change, signs, strength)


def rotate(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Rotates about the middle."""
  angle = signs * math.radians(_ROTATION * strength)
  cosine, sine = tf.cos(angle), tf.sin(angle)
  row, column = ((length - 1) / 2 for length in images.shape[1:3])
  return _transform(
    images,
    cosine,
    -sine,
    column - cosine * column + sine * row,
    sine,
    cosine,
    row - sine * column - cosine * row,
  )


def shear_x(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Moves each row to the side, in proportion to its place from the top."""
  shear = signs * _SHEAR * strength
  return _transform(images, 1.0, shear, shear / 2, 0.0, 1.0, 0.0)


def shear_y(images: tf.Tensor, signs: tf.Tensor, strength: float) -> tf.Tensor:
  """Moves each column up or down, in proportion to its place from the left."""
  shear = signs * _SHEAR * strength
  return _transform(images, 1.0, 0.0, 0.0, shear, 1.0, shear / 2)


def translate_x(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Moves the image to the side, by whole pixels."""
  pixels = signs * int(_TRANSLATION * images.shape[2] * strength)
  return _transform(
    images, 1.0, 0.0, pixels, 0.0, 1.0, 0.0, interpolation='NEAREST'
  )


def translate_y(
  images: tf.Tensor, signs: tf.Tensor, strength: float
) -> tf.Tensor:
  """Moves the image up or down, by whole pixels."""
  pixels = signs * int(_TRANSLATION * images.shape[1] * strength)
  return _transform(
    images, 1.0, 0.0, 0.0, 0.0, 1.0, pixels, interpolation='NEAREST'
  )


# The paper's, in its order; their places are what random numbers choose.
OPERATIONS: dict[str, Operation] = {
  operation.__name__: operation
  for operation in (
    identity,
    auto_contrast,
    equalize,
    rotate,
    solarize,
    color,
    posterize,
    contrast,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
  )
}


def _transform(images, *coefficients, interpolation='BILINEAR'):
  """Shows at each pixel (x, y) of the result another point of the image.

  Args:
    images: `[n, H, W, C]`, uint8.
    *coefficients: a, b, c, d, e, f, numbers or `[n]` float32: the point is
      (a x + b y + c, d x + e y + f). What lies outside of the image is black,
      as around crops.
    interpolation: 'BILINEAR', from the four pixels around a point, or 'NEAREST'
      where points are pixels.
  """
  count = tf.shape(images)[:1]
  columns = [
    tf.broadcast_to(tf.cast(each, tf.float32), count)
    for each in (*coefficients, 0.0, 0.0)
  ]
  transformed = tf.raw_ops.ImageProjectiveTransformV3(
    images=tf.cast(images, tf.float32),
    transforms=tf.stack(columns, axis=1),
    output_shape=images.shape[1:3],
    fill_value=0.0,
    interpolation=interpolation,
    fill_mode='CONSTANT',
  )
  return image_ops.to_uint8(transformed)


def _enhance(images, degenerate, signs, strength):
  """Moves images away from a degenerate form, or towards it if signs are -1."""
  factors = 1 + signs[:, None, None, None] * np.float32(_ENHANCEMENT * strength)
  values = tf.cast(images, tf.float32)
  return image_ops.to_uint8(degenerate + factors * (values - degenerate))


def _to_grey(images):
  """Returns the grey values of images, `[n, H, W, 1]` float32, rounded."""
  values = tf.cast(images, tf.float32)
  if images.shape[-1] == 1:
    return values
  return tf.round(tf.tensordot(values, tf.constant(_GREY), 1))
