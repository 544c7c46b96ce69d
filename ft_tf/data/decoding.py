"""Decodes images in a graph: upright, and large JPEG photos at a smaller scale.

It is the same in training, in evaluation and in exported models.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

# The scales at which a JPEG can be decoded, and how many pixels of the reduced
# image there must be for each pixel of the result, in height and in width.
_RATIOS = (2, 4, 8)
_SPARE = 2
# In front of a JPEG whose image is to be turned.
_MARK = b'O'
# Orientations as of EXIF whose rows or columns are in reverse order, after rows
# have been exchanged with columns in those from 5 on.
_ROWS_REVERSED = (3, 4, 7, 8)
_COLUMNS_REVERSED = (2, 3, 6, 7)


def mark(jpeg: bytes, orientation: int) -> bytes:
  """Returns a JPEG with a mark, so that its image is decoded upright.

  It is then decoded as Pillow does: accurately, where `decode_image` is faster.

  Args:
    jpeg: The bytes of a JPEG file.
    orientation: As of EXIF, 1 to 8.
  """
  return _MARK + bytes([orientation]) + jpeg


def decode_part(
  encoded: tf.Tensor,
  choose_part: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
  shape: tuple[int, int, int],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns a part of an upright image, to be resized to `shape`.

  Args:
    encoded: The bytes of a JPEG, PNG, BMP or GIF file, or of `mark`.
    choose_part: Returns where the part begins, and its size, for the size of
      the upright image, all `[2]` int32.
    shape: `(H, W, C)`.

  Returns:
    Pixels `[h, w, C]`, uint8, and where in them the part begins, and its size,
    `[2]` float32. They are more than the part, with a fraction of a pixel at
    its sides, if the part of a JPEG is much larger than `shape`: then the image
    is decoded at a half, a quarter or an eighth of its height and width.
  """
  channels = shape[-1]

  def from_jpeg(jpeg, orientation=None, **options):
    size = tf.image.extract_jpeg_shape(jpeg)[:2]
    if orientation is not None:
      size = tf.where(orientation >= 5, size[::-1], size)
    begin, part = choose_part(size)
    ratio = choose_ratio(part, shape)
    image = _decode_jpeg(jpeg, ratio, channels=channels, **options)
    if orientation is not None:
      rows, columns = _reversed(orientation)
      image = _turn(image, orientation, rows, columns)
      # The last pixel of a line may stand for fewer than `ratio`; it is now the
      # first one, and the image begins within it.
      begin += tf.where([rows, columns], -size % ratio, 0)
    return _cut(image, begin, part, ratio)

  def from_marked():
    orientation = tf.io.decode_raw(tf.strings.substr(encoded, 1, 1), tf.uint8)
    return from_jpeg(
      tf.strings.substr(encoded, 2, -1),
      tf.cast(orientation[0], tf.int32),
      dct_method='INTEGER_ACCURATE',
    )

  def from_other():
    image = tf.io.decode_image(
      encoded, channels=channels, expand_animations=False
    )
    return _cut(image, *choose_part(tf.shape(image)[:2]))

  pixels, begin, size = tf.cond(
    tf.equal(tf.strings.substr(encoded, 0, 1), _MARK),
    from_marked,
    lambda: tf.cond(
      tf.io.is_jpeg(encoded), lambda: from_jpeg(encoded), from_other
    ),
  )
  return tf.ensure_shape(pixels, [None, None, channels]), begin, size


def choose_ratio(size: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Returns the largest ratio that leaves `_SPARE` pixels for each wanted one.

  libjpeg computes the averages of squares of `ratio` pixels directly, which is
  much faster than all pixels. What then resizes them to the wanted size takes
  averages again.

  Args:
    size: Height and width of the part of an image that is used, `[2]` int32.
    shape: Height and width that it is resized to come first in it.

  Returns:
    1 or one of `_RATIOS`, int32.
  """
  spare = tf.reduce_min(size // (_SPARE * tf.constant(shape[:2])))
  ratios = tf.constant([1, *_RATIOS])
  return tf.reduce_max(tf.where(ratios <= spare, ratios, 1))


def _decode_jpeg(jpeg, ratio, **options):
  """Returns a JPEG at 1/`ratio` of its height and width, uint8."""
  return tf.switch_case(
    tf.searchsorted(_RATIOS, [ratio], side='right')[0],
    [
      functools.partial(tf.io.decode_jpeg, jpeg, ratio=each, **options)
      for each in (1, *_RATIOS)
    ],
  )


def _reversed(orientation):
  """Returns whether rows, and columns, are in reverse order."""
  return (
    tf.reduce_any(tf.equal(orientation, _ROWS_REVERSED)),
    tf.reduce_any(tf.equal(orientation, _COLUMNS_REVERSED)),
  )


def _turn(image, orientation, rows, columns):
  """Returns an image upright, by its orientation as of EXIF."""

  def transpose():
    # By its own operation, of 8 bits, TensorFlow would print an error about the
    # processor.
    height, width, channels = tf.unstack(tf.shape(image))
    places = tf.range(width)[:, None] + tf.range(height) * width
    return tf.gather(tf.reshape(image, [-1, channels]), places)

  image = tf.cond(orientation >= 5, transpose, lambda: image)
  image = tf.cond(rows, lambda: image[::-1], lambda: image)
  return tf.cond(columns, lambda: image[:, ::-1], lambda: image)


def _cut(image, begin, size, ratio=1):
  """Returns a part of an image that was decoded at 1/`ratio` of its size.

  Returns:
    As of `decode_part`.
  """
  first = begin // ratio
  last = -(-(begin + size) // ratio)
  begin, size, ratio = (
    tf.cast(each, tf.float32) for each in (begin, size, ratio)
  )
  return (
    image[first[0] : last[0], first[1] : last[1]],
    begin / ratio - tf.cast(first, tf.float32),
    size / ratio,
  )
