"""Labelled images that stay in their files.

For data sets that memory cannot hold: each image is read, decoded, cropped and
resized when it is needed. Training reads the images in a new order in every
epoch, so that their store must have random access.
"""

import functools
from typing import Any, Self

import numpy as np
import tensorflow as tf

from ft_tf.data import image_ops, stores

UNLABELLED = stores.UNLABELLED
_AT_ONCE = 64  # images that are decoded one after the other, to be kept


class StoredImages:
  """The images that evaluation uses, read like an array, part by part.

  Attributes:
    shape: `(N, H, W, C)`.
  """

  def __init__(
    self,
    store: stores.Store,
    indices: np.ndarray,
    image_shape: tuple[int, int, int],
    preprocessing: image_ops.Preprocessing,
  ):
    """Reads no image yet.

    Args:
      store: Where the images are stored.
      indices: Their positions in it, `[N]`, in order.
      image_shape: `(H, W, C)` of the images.
      preprocessing: The steps from the stored images to these.
    """
    self.shape: tuple[int, int, int, int] = (len(indices), *image_shape)
    self._store = store
    self._indices = indices
    self._preprocessing = preprocessing

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
    """Returns images `[n, H, W, C]`, or one `[H, W, C]`, uint8.

    Args:
      key: A position, a slice or an array of positions.
    """
    positions = np.arange(len(self))[key]
    records = self._store.read(self._indices[np.atleast_1d(positions)].tolist())
    with stores.explained():
      images = self._decode(tf.constant(records, tf.string, [len(records)]))
    return images.numpy().reshape(*positions.shape, *self.shape[1:])

  @functools.cached_property
  def _decode(self):
    return tf.function(
      self._make_images,
      input_signature=[tf.TensorSpec([None], tf.string)],
      autograph=False,
    )

  def _make_images(self, records):
    return tf.map_fn(
      self.make_image,
      records,
      fn_output_signature=tf.TensorSpec(self.shape[1:], tf.uint8),
      parallel_iterations=32,
    )

  def make_image(self, record: tf.Tensor) -> tf.Tensor:
    """Returns the image `[H, W, C]` of a record, uint8."""
    return image_ops.preprocess(
      self._store.parse(record)[0], self.shape[1:], self._preprocessing
    )


class StoredExamples:
  """Labelled images in files; has the interface of `example_sets.Examples`.

  Attributes:
    images: The images that evaluation uses, `[N, H, W, C]` uint8, read part by
      part.
    preprocessing: The steps from the stored images to `images`.
    labelled: How many examples have labels; they come first.
    crops: Whether training sees random parts of the stored images.
  """

  def __init__(
    self,
    store: stores.Store,
    *,
    image_shape: tuple[int, int, int],
    indices: np.ndarray,
    resizing: str = image_ops.CROP,
    sizes: tuple[tuple[int, int], ...] = (),
    labelled: int | None = None,
    crops: bool = True,
  ):
    """Reads no record yet.

    Args:
      store: Where the images are stored.
      image_shape: `(H, W, C)` to which images and parts are resized.
      indices: Positions of the examples in the store, in order.
      resizing: Of the images of evaluation: `image_ops.CROP` (the middle),
        `image_ops.STRETCH` (the whole image) or `image_ops.NONE` (all stored
        images have this shape).
      sizes: Heights and widths that they are resized to before that, in order.
      labelled: How many of the first examples have labels; None: all.
      crops: As of the attribute.
    """
    self.labelled = len(indices) if labelled is None else labelled
    self._store = store
    self._indices = indices
    self._resizing = resizing
    self._sizes = sizes
    self.crops = crops
    self._all_sizes = (*sizes, image_shape[:2])
    self.preprocessing = image_ops.Preprocessing(
      resizing, () if resizing == image_ops.NONE else self._all_sizes
    )
    self.images = StoredImages(store, indices, image_shape, self.preprocessing)

  def __len__(self) -> int:
    return len(self._indices)

  def labels_at(self, indices: np.ndarray) -> np.ndarray:
    return self._store.labels(self._indices[indices])

  def take(self, indices: np.ndarray) -> Self:
    return self._with(
      indices=self._indices[indices],
      labelled=int(np.count_nonzero(np.asarray(indices) < self.labelled)),
    )

  def resized(self, size: tuple[int, int]) -> Self:
    """Returns these examples at a smaller height and width, from the files.

    The part of an image that is seen stays the same: a size of another aspect
    ratio is made of the images in their present size.
    """
    height, width = self.images.shape[1:3]
    at_once = self.crops and height * size[1] == width * size[0]
    return self._with(
      image_shape=(*size, self.images.shape[-1]),
      resizing=self.preprocessing.then(size).resizing,
      sizes=self._sizes if at_once else self._all_sizes,
    )

  def joined(self, unlabelled: Self) -> Self:
    """Returns these examples, followed by unlabelled ones."""
    store = stores.Joined(
      self._store, self._indices, unlabelled._store, unlabelled._indices
    )
    return self._with(
      store=store, indices=np.arange(len(store)), labelled=len(self)
    )

  def _with(self, **changes: Any) -> Self:
    """Returns examples that differ in some arguments of `__init__`."""
    arguments = {
      'store': self._store,
      'image_shape': self.images.shape[1:],
      'indices': self._indices,
      'resizing': self._resizing,
      'sizes': self._sizes,
      'labelled': self.labelled,
      'crops': self.crops,
    }
    return type(self)(**{**arguments, **changes})

  @functools.cached_property
  def labels(self) -> np.ndarray:
    """The labels, `[N]` int64; not every store knows them without reading."""
    return self._store.labels(self._indices)

  @functools.cached_property
  def digest(self) -> str:
    """A SHA-256 of what is stored of all examples, in order."""
    return self._store.digest(self._indices)

  def look_up(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the images of evaluation and their labels; runs within a graph.

    Args:
      index: Positions of the examples, `[B]` int64.

    Returns:
      Images `[B, H, W, C]` uint8 and labels `[B]` int64.
    """
    return tf.map_fn(
      lambda record: (
        self.images.make_image(record),
        self._store.parse(record)[1],
      ),
      self._read(index),
      fn_output_signature=self._signature,
    )

  def augment(
    self, index: tf.Tensor, chance: tf.Tensor, *, flip: bool
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns random parts of images, and labels; runs within a graph.

    Args:
      index: Positions of the examples, `[B]` int64.
      chance: Random numbers `[B, 3]`, float32 in [0, 1): two choose the part,
        one the flip.
      flip: Whether images are flipped left to right where the chance is below
        a half.

    Returns:
      Images `[B, H, W, C]` uint8 and labels `[B]` int64.
    """
    channels = self.images.shape[-1]
    first, *rest = self._all_sizes

    def augment_one(record_and_chance):
      record, numbers = record_and_chance
      encoded, label = self._store.parse(record)
      image = image_ops.crop_randomly(encoded, numbers, (*first, channels))
      for size in rest:
        image = image_ops.resize(image, size)
      if flip:
        image = tf.cond(numbers[2] < 0.5, lambda: image[:, ::-1], lambda: image)
      return image, label

    return tf.map_fn(
      augment_one,
      (self._read(index), chance),
      fn_output_signature=self._signature,
    )

  @property
  def _signature(self):
    image = tf.TensorSpec(self.images.shape[1:], tf.uint8)
    return image, tf.TensorSpec([], tf.int64)

  def _read(self, index):
    """Returns records `[B]`, within a graph."""
    # TensorFlow cannot read these files within a graph, so Python does.
    records = tf.numpy_function(self._read_array, [index], tf.string)
    records.set_shape(index.shape)
    return records

  def _read_array(self, positions):
    return np.array(self._store.read(self._indices[positions].tolist()), object)


def read_all(examples: StoredExamples) -> np.ndarray:
  """Returns the images of evaluation as an array, read in parallel."""
  images = np.empty(examples.images.shape, np.uint8)
  batches = (
    tf.data.Dataset.range(len(examples))
    .batch(_AT_ONCE)
    .map(
      tf.autograph.experimental.do_not_convert(
        lambda index: examples.look_up(index)[0]
      ),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
  )
  position = 0
  with stores.explained():
    for batch in batches.as_numpy_iterator():
      images[position : position + len(batch)] = batch
      position += len(batch)
  return images
