"""Sources of labelled images: TFDS data sets, folders, and samples of them."""

import copy
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors, sizes
from ft_tf.data import (
  builders,
  example_sets,
  folder_images,
  image_ops,
  memory,
  records,
  sampling,
  stores,
)


class ImageSource(Protocol):
  """Labelled images by split, from which a `datasets.Dataset` is made.

  Attributes:
    name: The name of the source in messages.
    label_names: The class names, in the order of the labels.
    image_shape: `(H, W, C)`.
    fingerprint: A digest of the images; '' if the name identifies them.
  """

  name: str
  label_names: list[str]
  image_shape: tuple[int, int, int]
  fingerprint: str

  def read(self, split: str, /) -> example_sets.AnyExamples:
    """Returns the examples of a split, always in the same order."""


class Source:
  """A TFDS data set of labelled images, or a folder of images."""

  def __init__(
    self,
    name: str,
    *,
    data_dir: str | None = None,
    image_size: sizes.Size = 0,
    resizing: str = 'stretch',
    max_bad_files: int = 0,
    channels: int = 0,
    labelled: 'Source | None' = None,
  ):
    """Opens a data set and reads no image yet.

    Args:
      name: TFDS name, `digits`, `folder:PATH` (a folder of images) or
        `unlabeled:PATH` (a folder without labels, with the split 'train').
      data_dir: The TFDS folder with the prepared data set; TFDS's default if
        None. Digits are prepared there if they are missing; of a folder an
        index is written there.
      image_size: Size that images are resized to; 0 keeps theirs.
      resizing: As of `recipes.Data`; with 'crop' images stay in their files. If
        all stored images have one size, in the aspect ratio of `image_size`,
        evaluation always uses the whole image: there is no margin to cut off.
      max_bad_files: As of `folder_images.open_folder`.
      channels: Channels to which all images are converted, 1 or 3; 0 keeps
        them. Grey becomes three equal channels, colours become brightness.
      labelled: The data set that unlabelled images add to. Images that both
        folders have are left out.

    Raises:
      UsageError: there is no such data set, it is not prepared, or it is not
        one of labelled images.
    """
    self.name = name
    self._stored: builders.StoredImages = builders.open_images(
      name,
      data_dir=data_dir,
      max_bad_files=max_bad_files,
      channels=channels,
      labelled=labelled._stored if labelled else None,
    )
    self.fingerprint = self._stored.fingerprint
    self.has_validation = self._stored.has_validation
    self.label_names: list[str] = self._stored.label_names
    height, width, stored_channels = self._stored.shape
    if self._stored.dtype != np.uint8 or stored_channels not in (1, 3):
      raise errors.UsageError(
        f'{name} has images of {stored_channels or "any number of"} channels '
        f'and {self._stored.dtype.name}: --dataset takes one of uint8 images '
        'with 1 or 3 channels'
      )
    channels = channels or stored_channels
    stored_size = (height, width)
    if resizing == image_ops.CROP and not image_size and None in stored_size:
      raise errors.UsageError(
        '--resizing=crop needs one image size: give --image_size, or a model '
        'with a fixed input size'
      )
    self._crops = resizing == image_ops.CROP
    # Whether images are read from their files whenever they are used.
    self._in_files = self._crops
    if image_size:
      height, width = sizes.height_and_width(image_size)
    self._resized = stored_size != (height, width)
    if height is None or width is None:
      raise errors.UsageError(
        f'the images of {name} differ in size: give --image_size, the height '
        'and width in pixels that they are resized to'
      )
    self.image_shape: tuple[int, int, int] = (height, width, channels)
    # Whether the whole of a stored image has the wanted aspect ratio.
    stored_height, stored_width = stored_size
    self._fills = (
      stored_height is not None
      and stored_width is not None
      and stored_height * width == height * stored_width
    )

  def read(self, split: str) -> example_sets.AnyExamples:
    """Returns a split's examples in the order of its files.

    They stay in their files if the free memory cannot hold them; what is made
    of them is the same.

    Args:
      split: A split or part in TFDS's syntax: 'train', 'train[:80%]'.

    Raises:
      UsageError: there is no such split.
    """
    wanted = self.bytes_in_memory(split)
    if wanted and memory.is_short_for(wanted):
      self.keep_in_files()
    if self._in_files:
      return self._open(split)
    with stores.explained():
      return self._load(split)

  def keep_in_files(self) -> None:
    """Has images read from their files from now on, whenever they are used."""
    self._in_files = True

  def _open(self, split: str) -> records.StoredExamples:
    store = self._stored.open(split)
    return records.StoredExamples(
      store,
      image_shape=self.image_shape,
      indices=np.arange(len(store)),
      resizing=self._evaluation_resizing,
      crops=self._crops,
    )

  def bytes_in_memory(self, split: str) -> int:
    """Returns the memory of a split's images in bytes; 0 if they stay in files.

    Raises:
      UsageError: there is no such split.
    """
    count = self._count(split)
    if self._in_files:
      return 0
    return count * int(np.prod(self.image_shape))

  def check_split(self, split: str) -> None:
    """Checks the names in a split and the spelling of its parts.

    Nothing is prepared for it, and no part is looked at.

    Args:
      split: As of `read`.

    Raises:
      UsageError: there is no such split.
    """
    known = self._stored.split_names
    wanted = {part.partition('[')[0].strip() for part in split.split('+')}
    if known and not wanted <= {*known, 'all'}:
      raise self._no_split(split)
    try:
      tfds.core.ReadInstruction.from_spec(split)
    except (ValueError, AssertionError) as error:
      raise self._no_split(split) from error

  def _count(self, split: str) -> int:
    """Returns the number of a split's images, at least 1."""
    self.check_split(split)
    self._stored.prepare()
    try:
      counts = [self._stored.count(part) for part in split.split('+')]
    except (KeyError, ValueError, AssertionError) as error:
      raise self._no_split(split) from error
    # TFDS counts train[5:2] as -3.
    if min(counts) < 0 or not sum(counts):
      raise errors.UsageError(
        f'{split} of {self.name} has no image, or a part that ends before it '
        'begins: give a larger part'
      )
    return sum(counts)

  def _no_split(self, split: str) -> errors.UsageError:
    return errors.UsageError(
      f'{self.name} has no split {split!r}: it has '
      f'{", ".join(self._stored.split_names)}; parts are written as '
      'train[:80%]'
    )

  @property
  def _evaluation_resizing(self) -> str:
    """The resizing of images for evaluation, CROP, STRETCH or NONE."""
    if self._crops and not self._fills:
      return image_ops.CROP
    return image_ops.STRETCH if self._resized else image_ops.NONE

  def with_other_resizing(self) -> 'Source | None':
    """Returns this source for evaluation, with the other kind of resizing.

    None if the images would be the same.
    """
    if self._fills or not self._resized:
      return None
    source = copy.copy(self)
    source._crops = not self._crops
    # Only a sample of them is evaluated, so that no split is read as a whole.
    source._in_files = True
    return source

  def _load(self, split: str) -> example_sets.Examples:
    if isinstance(self._stored, folder_images.FolderImages):
      stored = self._open(split)
      return example_sets.Examples(
        records.read_all(stored), stored.labels, stored.preprocessing
      )
    kind = self._evaluation_resizing
    count = self._count(split)
    images = np.empty((count, *self.image_shape), np.uint8)
    labels = np.empty((count,), np.int64)
    # As `records` makes images, except that colours become grey in full size.
    same_channels = self._stored.shape[-1] == self.image_shape[-1]
    from_bytes = kind == image_ops.STRETCH and same_channels

    @tf.autograph.experimental.do_not_convert
    def convert(image, label):
      if from_bytes:
        image = image_ops.make_evaluation_image(image, self.image_shape, kind)
      else:
        image = self._converted(image)
      return image, label

    read = self._stored.read_in_order(split, decode=not from_bytes).map(
      convert, num_parallel_calls=tf.data.AUTOTUNE
    )
    position = 0
    for image_batch, label_batch in tfds.as_numpy(read.batch(1024)):
      end = position + len(label_batch)
      images[position:end], labels[position:end] = image_batch, label_batch
      position = end
    sizes = (self.image_shape[:2],) if self._resized else ()
    return example_sets.Examples(
      images, labels, image_ops.Preprocessing(kind, sizes)
    )

  def _converted(self, image: tf.Tensor) -> tf.Tensor:
    """Returns a decoded image in the size and channels of `image_shape`."""
    image = image_ops.with_channels(image, self.image_shape[-1])
    if not self._resized:
      return image
    return image_ops.resize(image, self.image_shape[:2])


class Sampled:
  """A source with a sample of each split of another source."""

  def __init__(self, source: ImageSource, count: int):
    """Takes at most `count` images of each split of `source`."""
    self.name = source.name
    self.label_names = source.label_names
    self.image_shape = source.image_shape
    self.fingerprint = source.fingerprint
    self._source = source
    self._count = count

  def read(self, split: str) -> example_sets.AnyExamples:
    return sampling.sample(self._source.read(split), self._count)
