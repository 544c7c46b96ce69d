"""Labelled images that stay in files with random access.

For data sets that memory cannot hold: each image is read, cropped and resized
when it is needed. The files have random access (ArrayRecord), because training
reads the images in a new order in every epoch.
"""

import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors
from ft_tf.data import image_ops

_AT_ONCE = 1024  # records
UNLABELLED = -1  # the label of images without a label
# Returns the serialised records at positions in the files.
Read = Callable[[list[int]], list[bytes]]
# Returns the encoded image and the label of a serialised record.
Parse = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class StoredImages:
  """The images that evaluation uses, read like an array, part by part.

  Attributes:
    shape: `(N, H, W, C)`.
  """

  def __init__(
    self,
    read: Callable[[np.ndarray], list[bytes]],
    parse: Parse,
    shape: tuple[int, int, int, int],
    preprocessing: image_ops.Preprocessing,
  ):
    """Reads no image yet.

    Args:
      read: Returns the serialised records at positions `[B]`.
      parse: Returns the encoded image and the label of a record.
      shape: The shape of the array, `(N, H, W, C)`.
      preprocessing: The steps from the stored images to these.
    """
    self.shape = shape
    self._read = read

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def decode(records):
      return tf.map_fn(
        lambda record: image_ops.preprocess(
          parse(record)[0], shape[1:], preprocessing
        ),
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
  """Labelled images in files; has the interface of `example_sets.Examples`.

  Attributes:
    images: The images that evaluation uses, `[N, H, W, C]` uint8, read part by
      part.
    preprocessing: The steps from the stored images to `images`.
    labelled: How many examples have labels; they come first.
  """

  def __init__(
    self,
    read: Read,
    parse: Parse,
    *,
    image_shape: tuple[int, int, int],
    indices: np.ndarray,
    resizing: str = image_ops.CROP,
    sizes: tuple[tuple[int, int], ...] = (),
    labelled: int | None = None,
  ):
    """Reads no record yet.

    Args:
      read: Returns the serialised records at positions in the files.
      parse: Returns the encoded image and the label of a record.
      image_shape: `(H, W, C)` to which images and parts are resized.
      indices: Positions of the examples in the files, in order.
      resizing: `image_ops.CROP` (the middle of each image) or
        `image_ops.STRETCH` (the whole image).
      sizes: Heights and widths that they are resized to before that, in order.
      labelled: How many of the first examples have labels; None: all.
    """
    self.labelled = len(indices) if labelled is None else labelled
    self._read_records = read
    self._parse = parse
    self._indices = indices
    self._resizing = resizing
    self._sizes = sizes
    self.preprocessing = image_ops.Preprocessing(
      resizing, (*sizes, image_shape[:2])
    )
    self.images = StoredImages(
      self._read, parse, (len(indices), *image_shape), self.preprocessing
    )

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
      sizes=self._sizes,
      labelled=int(np.count_nonzero(np.asarray(indices) < self.labelled)),
    )

  def resized(self, size: tuple[int, int]) -> 'StoredExamples':
    """Returns these examples at a smaller height and width, from the files.

    The part of an image that is seen stays the same: a size of another aspect
    ratio is made of the images in their present size.
    """
    height, width = self.images.shape[1:3]
    same_ratio = height * size[1] == width * size[0]
    return StoredExamples(
      self._read_records,
      self._parse,
      image_shape=(*size, self.images.shape[-1]),
      indices=self._indices,
      resizing=self._resizing,
      sizes=self._sizes if same_ratio else self.preprocessing.sizes,
      labelled=self.labelled,
    )

  def joined(self, unlabelled: 'StoredExamples') -> 'StoredExamples':
    """Returns these examples, followed by unlabelled ones."""
    count = len(self)

    def read(positions):
      # The records of two data sets have different formats. So each gets a
      # letter in front, by which `parse` knows the format: l(abelled) or
      # u(nlabelled). Each data set is read once for all its positions.
      labelled_at = [p for p in positions if p < count]
      unlabelled_at = [p - count for p in positions if p >= count]
      labelled_records = iter(self._read(np.array(labelled_at, np.int64)))
      unlabelled_records = iter(
        unlabelled._read(np.array(unlabelled_at, np.int64))
      )
      return [
        b'l' + next(labelled_records)
        if p < count
        else b'u' + next(unlabelled_records)
        for p in positions
      ]

    def parse(record):
      letter = tf.strings.substr(record, 0, 1)
      record = tf.strings.substr(record, 1, -1)

      def without_label():
        return unlabelled._parse(record)[0], tf.constant(UNLABELLED, tf.int64)

      return tf.cond(letter == b'l', lambda: self._parse(record), without_label)

    return StoredExamples(
      read,
      parse,
      image_shape=self.images.shape[1:],
      indices=np.arange(count + len(unlabelled)),
      resizing=self._resizing,
      sizes=self._sizes,
      labelled=count,
    )

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """The labels, `[N]` int64; reads all records."""
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
    """A SHA-256 of all records, in order; reads all records."""
    content = hashlib.sha256()
    for first in range(0, len(self), _AT_ONCE):
      for record in self._read(
        np.arange(first, min(first + _AT_ONCE, len(self)))
      ):
        content.update(len(record).to_bytes(8, 'big') + record)
    return content.hexdigest()

  def augment(
    self, index: tf.Tensor, chance: tf.Tensor, *, flip: bool
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns augmented images and their labels; runs within a graph.

    Args:
      index: Positions of the examples, `[B]` int64.
      chance: Random numbers `[B, 3]`, float32 in [0, 1): two choose the part,
        one the flip.
      flip: Whether images are flipped left to right where the chance is below
        a half.

    Returns:
      Images `[B, H, W, C]` uint8 and labels `[B]` int64.
    """
    shape = self.images.shape[1:]
    first, *rest = self.preprocessing.sizes

    def augment_one(record_and_chance):
      record, numbers = record_and_chance
      encoded, label = self._parse(record)
      image = image_ops.crop_randomly(encoded, numbers, (*first, shape[-1]))
      for size in rest:
        image = image_ops.resize(image, size)
      if flip:
        image = tf.cond(numbers[2] < 0.5, lambda: image[:, ::-1], lambda: image)
      return image, label

    # TensorFlow cannot read these files within a graph, so Python does.

    records = tf.numpy_function(self._read_array, [index], tf.string)
    records.set_shape(index.shape)
    return tf.map_fn(
      augment_one,
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


def has_random_access(builder: tfds.core.DatasetBuilder) -> bool:
  """Returns whether the files of a prepared data set have random access."""
  formats = tfds.core.file_adapters.FileFormat.with_random_access()
  return not formats.isdisjoint(builder.info.available_file_formats())


def read_in_order(
  builder: tfds.core.DatasetBuilder, split: str
) -> tf.data.Dataset:
  """Returns the decoded examples of files with random access, in order."""
  source = _open_source(builder, split)

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


def _open_source(builder, split):
  return builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )


def open_split(
  builder: tfds.core.DatasetBuilder,
  split: str,
  *,
  keys: tuple[str, str],
  image_shape: tuple[int, int, int],
  resizing: str = image_ops.CROP,
) -> StoredExamples:
  """Returns a split of a prepared data set, whose images stay in its files.

  Args:
    builder: The builder of the data set.
    split: The name of a split or part, in TFDS's syntax.
    keys: Names of image and label in a record.
    image_shape: `(H, W, C)` to which images and parts are resized.
    resizing: As of `StoredExamples`.

  Raises:
    UsageError: the files have no random access.
  """
  image_key, label_key = keys
  if not has_random_access(builder):
    raise errors.UsageError(
      f'--resizing=crop reads images in any order, {builder.name} is prepared '
      f'as {builder.info.file_format.value}: run `ft-tf prepare-data '
      f'--dataset={builder.name} --file_format=array_record` for another '
      '--data_dir, or give --resizing=stretch'
    )
  source = _open_source(builder, split)
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
