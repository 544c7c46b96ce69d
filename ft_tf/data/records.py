"""Images of any size, read from files of random access as they are asked for.

For data sets that memory cannot hold. What a network sees is a part of the
image, resized: in training one by chance, in evaluation the middle (the
standard augmentation of ImageNet: Szegedy et al. 2015, section 6).
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors

# The middle that evaluation sees: 224 of 256 pixels of the shorter side.
_MIDDLE = 224 / 256
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10
_AT_ONCE = 1024  # records
UNLABELLED = -1  # the label of images that have none
STRETCH, CROP = 'stretch', 'crop'  # as of `recipes.Data.resizing`

# From the numbers of records to the serialised records.
Read = Callable[[list[int]], list[bytes]]
# From a serialised record to its encoded image and its label.
Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How the images that evaluation sees were made of the stored ones.

  Attributes:
    resizing: 'stretch' (the whole image), 'crop' (its middle, see `middle`), or
      'none': the stored images as they are.
    sizes: Heights and widths that they were resized to, one after the other.
  """

  resizing: str = 'none'
  sizes: tuple[tuple[int, int], ...] = ()

  def then(self, size: tuple[int, int]) -> 'Preprocessing':
    """Returns this, and all of what it gives resized to a size."""
    resizing = STRETCH if self.resizing == 'none' else self.resizing
    return Preprocessing(resizing, (*self.sizes, size))

  def as_json(self, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the exact steps from a stored image to `image_shape`.

    Returns:
      `resizing` and `sizes` (of each step, `[height, width]`); for crops
      `central_fraction`, the side of the square that is cut from the middle
      over the shorter side; where something is resized `interpolation` and
      `antialias`; and what the model is given: `height`, `width`, `channels`
      (3: red, green, blue), `dtype` and `range`.
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


class Pictures:
  """Stored images as evaluation sees them: an array read by its parts.

  Attributes:
    shape: `(N, H, W, C)`.
  """

  def __init__(
    self,
    read: Callable[[np.ndarray], list[bytes]],
    parse: Parse,
    shape: tuple[int, int, int, int],
    resizing: str = CROP,
  ):
    """Wraps what reads records.

    Args:
      read: From positions `[B]` to serialised records, a list of bytes.
      parse: Of one record.
      shape: Of the array.
      resizing: What is seen: the middle (crop) or all (stretch) of an image.
    """
    self.shape = shape
    self._read = read

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode(records):
      return tf.map_fn(
        lambda record: seen(parse(record)[0], shape[1:], resizing),
        records,
        fn_output_signature=tf.TensorSpec(shape[1:], tf.uint8),
        parallel_iterations=32,
      )

    self._decode = decode

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
    """Returns images `[n, H, W, C]`, or one `[H, W, C]`, uint8.

    Args:
      key: A position, a slice or an array of positions.
    """
    positions = np.arange(len(self))[key]
    records = self._read(np.atleast_1d(positions))
    images = self._decode(tf.constant(records, tf.string, [len(records)]))
    return images.numpy().reshape(*positions.shape, *self.shape[1:])


class StoredExamples:
  """Labelled images in files: what `example_sets.Examples` is in memory.

  Attributes:
    images: As evaluation sees them, `[N, H, W, C]` uint8, read by parts.
    preprocessing: How these were made of the stored ones.
  """

  def __init__(
    self,
    read: Read,
    parse: Parse,
    *,
    image_shape: tuple[int, int, int],
    indices: np.ndarray,
    resizing: str = CROP,
  ):
    """Names the records.

    Args:
      read: Of any records.
      parse: Of one record.
      image_shape: `(H, W, C)` that parts are resized to.
      indices: Those of the records that are meant, in order.
      resizing: As of `Pictures`; of the images that evaluation sees.
    """
    self._read_records = read
    self._parse = parse
    self._indices = indices
    self._resizing = resizing
    self.images = Pictures(
      self._read, parse, (len(indices), *image_shape), resizing
    )
    self.preprocessing = Preprocessing(resizing, (image_shape[:2],))

  def __len__(self) -> int:
    return len(self._indices)

  def labels_at(self, indices: np.ndarray) -> np.ndarray:
    return self.take(indices).labels

  def take(self, indices: np.ndarray) -> 'StoredExamples':
    return StoredExamples(
      self._read_records,
      self._parse,
      image_shape=self.images.shape[1:],
      indices=self._indices[indices],
      resizing=self._resizing,
    )

  def resized(self, size: tuple[int, int]) -> 'StoredExamples':
    """Returns them at a smaller height and width, from the files."""
    return StoredExamples(
      self._read_records,
      self._parse,
      image_shape=(*size, self.images.shape[-1]),
      indices=self._indices,
      resizing=self._resizing,
    )

  def joined(self, unlabelled: 'StoredExamples') -> 'StoredExamples':
    """Returns these, and behind them others whose labels count for nothing."""
    count = len(self)

    def read(positions):
      # A letter before each record tells whose it is.
      ours = [p for p in positions if p < count]
      theirs = [p - count for p in positions if p >= count]
      found = iter(self._read(np.array(ours, np.int64)))
      others = iter(unlabelled._read(np.array(theirs, np.int64)))
      return [
        b'l' + next(found) if p < count else b'u' + next(others)
        for p in positions
      ]

    def parse(record):
      whose = tf.strings.substr(record, 0, 1)
      record = tf.strings.substr(record, 1, -1)

      def without_label():
        return unlabelled._parse(record)[0], tf.constant(UNLABELLED, tf.int64)

      return tf.cond(whose == b'l', lambda: self._parse(record), without_label)

    return StoredExamples(
      read,
      parse,
      image_shape=self.images.shape[1:],
      indices=np.arange(count + len(unlabelled)),
      resizing=self._resizing,
    )

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """The labels, `[N]` int64; all records are read for them."""
    parse = tf.function(
      lambda records: tf.map_fn(
        lambda record: self._parse(record)[1],
        records,
        fn_output_signature=tf.int64,
      ),
      input_signature=[tf.TensorSpec([None], tf.string)],
    )
    parts = [
      parse(tf.constant(self._read(np.arange(i, min(i + _AT_ONCE, len(self))))))
      for i in range(0, len(self), _AT_ONCE)
    ]
    return np.concatenate([part.numpy() for part in parts])

  @functools.cached_property
  def digest(self) -> str:
    """A SHA-256 of all records, in their order; each is read for it."""
    found = hashlib.sha256()
    for first in range(0, len(self), _AT_ONCE):
      for record in self._read(
        np.arange(first, min(first + _AT_ONCE, len(self)))
      ):
        found.update(len(record).to_bytes(8, 'big') + record)
    return found.hexdigest()

  def views(
    self, index: tf.Tensor, chance: tf.Tensor, *, flip: bool
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns random parts of images, within a graph, and their labels.

    Args:
      index: `[B]`, int64.
      chance: `[B, 3]`, float32 in [0, 1): two for the part, one for the flip.
      flip: Whether images are flipped left to right where the chance is below
        a half.

    Returns:
      Images `[B, H, W, C]` uint8 and labels `[B]` int64.
    """
    shape = self.images.shape[1:]

    def view(each):
      encoded, label = self._parse(each[0])
      image = random_part(encoded, each[1], shape)
      if flip:
        image = tf.cond(each[1][2] < 0.5, lambda: image[:, ::-1], lambda: image)
      return image, label

    records = tf.numpy_function(self._read_array, [index], tf.string)
    records.set_shape(index.shape)
    return tf.map_fn(
      view,
      (records, chance),
      fn_output_signature=(
        tf.TensorSpec(shape, tf.uint8),
        tf.TensorSpec([], tf.int64),
      ),
    )

  def _read(self, positions: np.ndarray) -> list[bytes]:
    return self._read_records(self._indices[positions].tolist())

  def _read_array(self, positions: np.ndarray) -> np.ndarray:
    return np.array(self._read(positions), object)


def random_access(builder: tfds.core.DatasetBuilder) -> bool:
  """Tells whether the files of a prepared data set have random access."""
  formats = tfds.core.file_adapters.FileFormat.with_random_access()
  return not formats.isdisjoint(builder.info.available_file_formats())


def in_order(builder: tfds.core.DatasetBuilder, split: str) -> tf.data.Dataset:
  """Returns the examples of files of random access, decoded, in their order."""
  source = _source(builder, split)

  def read():
    for first in range(0, len(source), _AT_ONCE):
      last = min(first + _AT_ONCE, len(source))
      yield from source.__getitems__(list(range(first, last)))

  serialised = tf.data.Dataset.from_generator(
    read, output_signature=tf.TensorSpec([], tf.string)
  )
  return serialised.map(
    builder.info.features.deserialize_example,
    num_parallel_calls=tf.data.AUTOTUNE,
  )


def _source(builder, split):
  return builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )


def open_split(
  builder: tfds.core.DatasetBuilder,
  split: str,
  *,
  keys: tuple[str, str],
  image_shape: tuple[int, int, int],
  resizing: str = CROP,
) -> StoredExamples:
  """Returns a split of a prepared data set.

  Args:
    builder: The data set's.
    split: As TFDS writes them.
    keys: Names of image and label in a record.
    image_shape: `(H, W, C)` that parts are resized to.
    resizing: As of `Pictures`.

  Raises:
    UsageError: the files have no random access.
  """
  image_key, label_key = keys
  if not random_access(builder):
    raise errors.UsageError(
      f'--resizing=crop reads images in any order, {builder.name} is prepared '
      f'as {builder.info.file_format.value}: run `bin/prepare_data.py '
      f'--dataset={builder.name} --file_format=array_record` for another '
      '--data_dir, or give --resizing=stretch'
    )
  source = _source(builder, split)
  features = builder.info.features

  def parse(record):
    example = features.deserialize_example(
      record, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    return example[image_key], example[label_key]

  return StoredExamples(
    source.__getitems__,
    parse,
    image_shape=image_shape,
    indices=np.arange(len(source)),
    resizing=resizing,
  )


def seen(
  encoded: tf.Tensor, shape: tuple[int, int, int], resizing: str
) -> tf.Tensor:
  """Returns an image as evaluation sees it, resized to `shape`, uint8.

  Args:
    encoded: As of `middle`.
    shape: `(H, W, C)`.
    resizing: What is seen: the middle (crop) or all (stretch) of the image.
  """
  if resizing == CROP:
    return middle(encoded, shape)
  image = _decode(encoded, shape[-1])
  return tf.ensure_shape(resize(image, shape[:2]), shape)


def middle(encoded: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  """Returns the middle of an image, resized to `shape`, uint8.

  It is what is left when the shorter side is resized to 256/224 of the wanted
  one and the wanted size is cut from the middle.

  Args:
    encoded: A JPEG, PNG, BMP or GIF file's bytes.
    shape: `(H, W, C)` with H = W.
  """
  image = _decode(encoded, shape[-1])
  size = tf.shape(image)[:2]
  side = tf.cast(
    tf.round(_MIDDLE * tf.cast(tf.reduce_min(size), tf.float32)), tf.int32
  )
  return _resized(image, (size - side) // 2, tf.stack([side, side]), shape)


def random_part(
  encoded: tf.Tensor, chance: tf.Tensor, shape: tuple[int, int, int]
) -> tf.Tensor:
  """Returns a random part of an image, resized to `shape`, uint8.

  It has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3; the whole
  image if ten tries find none.

  Args:
    encoded: A file's bytes.
    chance: `[2]` or more, float32 in [0, 1).
    shape: `(H, W, C)`.
  """
  image = _decode(encoded, shape[-1])
  begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
    tf.shape(image),
    tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
    seed=tf.cast(chance[:2] * 2**24, tf.int32),
    min_object_covered=0.0,
    aspect_ratio_range=_ASPECT,
    area_range=_AREA,
    max_attempts=_TRIES,
  )
  return _resized(image, begin[:2], size[:2], shape)


def _decode(encoded, channels):
  return tf.io.decode_image(encoded, channels=channels, expand_animations=False)


def _resized(image, begin, size, shape):
  end = begin + size
  part = image[begin[0] : end[0], begin[1] : end[1]]
  return tf.ensure_shape(resize(part, shape[:2]), shape)


def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns an image `[H, W, C]` at another height and width, uint8."""
  return _rounded(tf.image.resize(image, size, antialias=True))


def shrink(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns images at a smaller height and width, as `resize`, on any device.

  It is two matrix products, since TensorFlow's own operation is one for CPUs
  that XLA does not compile.

  Args:
    images: `[B, H, W, C]`, uint8.
    size: `(h, w)`.

  Returns:
    `[B, h, w, C]`, uint8.
  """
  rows, columns = map(_shares, size, images.shape[1:3])
  images = tf.cast(images, tf.float32)
  return _rounded(tf.einsum('bhwc,ih,jw->bijc', images, rows, columns))


@functools.cache
def _shares(wanted: int, has: int) -> np.ndarray:
  """Returns `[wanted, has]`: what each pixel of a line adds to each new one."""
  with tf.init_scope():
    lines = tf.eye(has)[..., None]
    return tf.image.resize(lines, (wanted, has), antialias=True)[..., 0].numpy()


def _rounded(image):
  return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
