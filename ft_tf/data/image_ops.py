"""How images are cropped and resized, in training and in evaluation.

With resizing 'crop' a network sees a part of the image: a random part in
training, the middle in evaluation (the standard augmentation of ImageNet:
Szegedy et al. 2015, section 6). With 'stretch' it sees the whole image.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf.data import decoding

STRETCH, CROP = 'stretch', 'crop'  # as of `recipes.Data.resizing`
NONE = 'none'  # stored images are used as they are

# The side of the middle over that of the largest part of its aspect ratio.
_MIDDLE = 224 / 256
# Random parts: share of the area, aspect ratio over that of the result, and
# attempts to find one.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """The steps from a stored image to the image that evaluation uses.

  Attributes:
    resizing: 'stretch' (the whole image), 'crop' (its middle, see
      `crop_middle`) or 'none' (the stored image, unchanged).
    sizes: Height and width of each resizing step, in order.
  """

  resizing: str = NONE
  sizes: tuple[tuple[int, int], ...] = ()

  def then(self, size: tuple[int, int]) -> 'Preprocessing':
    """Returns these steps, followed by a resizing to `size`."""
    resizing = STRETCH if self.resizing == NONE else self.resizing
    return Preprocessing(resizing, (*self.sizes, size))

  def as_json(self, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the exact steps from a stored image to `image_shape`, as JSON.

    Returns:
      `resizing` and `sizes` (of each step, `[height, width]`); for crops
      `central_fraction`, the side of the part that is cut from the middle over
      that of the largest part in the aspect ratio of the first size; where
      something is resized `interpolation` and `antialias`; and what the model
      is given: `height`, `width`, `channels` (3: red, green, blue), `dtype` and
      `range`.
    """
    height, width, channels = image_shape
    crop = {'central_fraction': _MIDDLE} if self.resizing == CROP else {}
    resized = {'interpolation': 'bilinear', 'antialias': True}
    return {
      'resizing': self.resizing,
      'sizes': [list(size) for size in self.sizes],
      **crop,
      **(resized if self.sizes else {}),
      'height': height,
      'width': width,
      'channels': channels,
      'dtype': 'uint8',
      'range': [0, 255],
    }


def make_evaluation_image(
  encoded: tf.Tensor, shape: tuple[int, int, int], resizing: str
) -> tf.Tensor:
  """Returns the image that evaluation uses, resized to `shape`, uint8.

  Args:
    encoded: The bytes of a JPEG, PNG, BMP or GIF file.
    shape: `(H, W, C)`.
    resizing: CROP (the middle of the image) or STRETCH (the whole image).
  """
  if resizing == CROP:
    return crop_middle(encoded, shape)
  return _resize_part(encoded, lambda size: (tf.zeros_like(size), size), shape)


def preprocess(
  encoded: tf.Tensor, shape: tuple[int, int, int], steps: Preprocessing
) -> tf.Tensor:
  """Returns an image as evaluation makes it, whatever its own size, uint8.

  Args:
    encoded: As of `make_evaluation_image`.
    shape: `(H, W, C)` of the result.
    steps: Those of the images that a model was evaluated on. If they resize
      nothing, an image of another size is stretched.
  """
  first, *rest = (*steps.sizes, shape[:2])
  resizing = CROP if steps.resizing == CROP else STRETCH
  image = make_evaluation_image(encoded, (*first, shape[-1]), resizing)
  for size in rest:
    if size != tuple(image.shape[:2]):
      image = resize(image, size)
  return tf.ensure_shape(image, shape)


def crop_middle(encoded: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Returns the middle of an image, resized to `shape`, uint8.

  The result is the same as resizing an image until it just covers 256/224 of
  the wanted height and width, and then cutting the wanted size from the middle.

  Args:
    encoded: The bytes of a JPEG, PNG, BMP or GIF file.
    shape: `(H, W, C)`.
  """

  def middle(size):
    part = _middle_size(size, shape[:2])
    return (size - part) // 2, part

  return _resize_part(encoded, middle, shape)


def _middle_size(size: tf.Tensor, wanted: tuple[int, int]) -> tf.Tensor:
  """Returns height and width of the middle of an image, `[2]` int32.

  In this order of operations, in float64, the browser's page has the same.

  Args:
    size: Height and width of the image, `[2]` int32.
    wanted: Height and width that the middle is resized to.
  """
  height, width = tf.unstack(_MIDDLE * tf.cast(size, tf.float64))
  rows, columns = wanted
  part = tf.stack(
    [
      tf.minimum(height, width * rows / columns),
      tf.minimum(width, height * columns / rows),
    ]
  )
  return tf.cast(tf.maximum(tf.round(part), 1), tf.int32)


def crop_randomly(
  encoded: tf.Tensor, chance: tf.Tensor, shape: tuple[int, int, int]
) -> tf.Tensor:
  """Returns a random part of an image, resized to `shape`, uint8.

  The part has 8 to 100 % of the area, and an aspect ratio of 3/4 to 4/3 times
  that of `shape`. It is the whole image if ten attempts find no such part.

  Args:
    encoded: The bytes of a JPEG, PNG, BMP or GIF file.
    chance: `[2]` or more random numbers, float32 in [0, 1).
    shape: `(H, W, C)`.
  """
  height, width, _ = shape

  def random_part(size):
    begin, part, _ = tf.image.stateless_sample_distorted_bounding_box(
      tf.concat([size, [shape[-1]]], 0),
      tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      seed=tf.cast(chance[:2] * 2**24, tf.int32),
      min_object_covered=0.0,
      aspect_ratio_range=[width / height * aspect for aspect in _ASPECT],
      area_range=_AREA,
      max_attempts=_ATTEMPTS,
    )
    return begin[:2], part[:2]

  return _resize_part(encoded, random_part, shape)


def _resize_part(encoded, choose_part, shape):
  """Returns a part of an encoded image, resized to `shape`.

  Args:
    encoded: As of `decoding.decode_part`.
    choose_part: As of `decoding.decode_part`.
    shape: `(H, W, C)`.
  """
  pixels, begin, size = decoding.decode_part(encoded, choose_part, shape)
  # `tf.image.resize` does the same where the part is all pixels.
  scale = tf.constant(shape[:2], tf.float32) / size
  part = tf.raw_ops.ScaleAndTranslate(
    images=pixels[None],
    size=shape[:2],
    scale=scale,
    translation=-begin * scale,
    kernel_type='triangle',
    antialias=True,
  )[0]
  return tf.ensure_shape(to_uint8(part), shape)


def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns an image `[H, W, C]` at another height and width, uint8."""
  return to_uint8(tf.image.resize(image, size, antialias=True))


def shrink(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Resizes images to a smaller size, with the result of `resize`.

  It multiplies by two matrices and runs on every device. TensorFlow's own
  operation runs on CPUs only, and XLA cannot compile it.

  Args:
    images: `[B, H, W, C]`, uint8.
    size: `(h, w)`.

  Returns:
    `[B, h, w, C]`, uint8.
  """
  rows, columns = map(_line_weights, size, images.shape[1:3])
  images = tf.cast(images, tf.float32)
  return to_uint8(tf.einsum('bhwc,ih,jw->bijc', images, rows, columns))


@functools.cache
def _line_weights(new: int, old: int) -> np.ndarray:
  """Returns the weights `[new, old]` of the old pixels of a line in the new."""
  with tf.init_scope():
    lines = tf.eye(old)[..., None]
    return tf.image.resize(lines, (new, old), antialias=True)[..., 0].numpy()


def to_uint8(image: tf.Tensor) -> tf.Tensor:
  """Returns an image of floats as uint8, rounded and cut off at 0 and 255."""
  return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def with_channels(
  images: np.ndarray | tf.Tensor, channels: int
) -> np.ndarray | tf.Tensor:
  """Converts images `[..., 1 or 3]` to 1 channel (grey) or 3 channels."""
  if channels == images.shape[-1]:
    return images
  images = tf.convert_to_tensor(images)
  if channels == 3:
    return tf.image.grayscale_to_rgb(images)
  return tf.image.rgb_to_grayscale(images)
