"""Sources of labelled images: TFDS data sets, folders, and samples of them."""

import copy
import functools
from typing import Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors, sizes
from ft_tf.data import (
  builders,
  example_sets,
  image_ops,
  memory,
  records,
  sampling,
)

# The share of the free memory for images; the rest is for networks.
_SHARE = 0.75


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
    trains: bool = True,
  ):
    """Opens a data set and reads no image yet.

    Args:
      name: TFDS name, `digits`, `folder:PATH` (a folder of images) or
        `unlabeled:PATH` (a folder without labels, with the split 'train').
      data_dir: The TFDS folder with the prepared data set; TFDS's default if
        None. Digits and folders are prepared there if they are missing.
      image_size: Size that images are resized to; 0 keeps theirs.
      resizing: As of `recipes.Data`; with 'crop' images stay in their files. If
        all stored images have one size, in the aspect ratio of `image_size`,
        evaluation always uses the whole image: there is no margin to cut off.
      max_bad_files: As of `folder_builder.make_builder`.
      channels: Channels to which all images are converted, 1 or 3; 0 keeps
        them. Grey becomes three equal channels, colours become brightness.
      trains: Whether the images are for training too. With 'crop', training
        reads random parts, which need files with random access; evaluation
        does not.
      labelled: The data set that unlabelled images add to. Images that both
        folders have are left out.

    Raises:
      UsageError: there is no such data set, it is not prepared, or it is not
        one of labelled images.
    """
    self.name = name
    self._builder: tfds.core.DatasetBuilder = builders.open_builder(
      name,
      data_dir=data_dir,
      max_bad_files=max_bad_files,
      channels=channels,
      labelled=labelled._builder if labelled else None,
    )
    self.fingerprint = builders.fingerprint(self._builder)
    self.has_validation = builders.has_validation(self._builder)
    info = self._builder.info
    self._keys = builders.supervised_keys(name, info)
    image, label = (info.features[key] for key in self._keys)
    self.label_names: list[str] = list(label.names)
    wanted_channels, (height, width, channels) = channels, image.shape
    if image.np_dtype != np.uint8 or channels not in (1, 3):
      raise errors.UsageError(
        f'{name} has images of {channels or "any number of"} channels and '
        f'{np.dtype(image.np_dtype).name}: --dataset takes one of uint8 images '
        'with 1 or 3 channels'
      )
    channels = wanted_channels or channels
    stored_size = (height, width)
    if resizing == image_ops.CROP and not image_size and None in stored_size:
      raise errors.UsageError(
        '--resizing=crop needs one image size: give --image_size, or a model '
        'with a fixed input size'
      )
    self._crops = resizing == image_ops.CROP
    self._in_files = self._crops
    self._trains = trains
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
    self._fills = (
      None not in stored_size
      and stored_size[0] * width == height * stored_size[1]
    )

  def read(self, split: str) -> example_sets.AnyExamples:
    """Returns a split's examples in the order of its files.

    Args:
      split: A split or part in TFDS's syntax: 'train', 'train[:80%]'.

    Raises:
      UsageError: there is no such split, it does not fit into memory, or
        images have to stay in files that have no random access.
    """
    count = self._count(split)
    if self._reads_from_files:
      return records.open_split(
        self._builder,
        split,
        keys=self._keys,
        image_shape=self.image_shape,
        resizing=self._evaluation_resizing,
      )
    check_memory(self.bytes_in_memory(split), self, split)
    return self._load(split, count)

  @property
  def _reads_from_files(self) -> bool:
    return self._in_files and (
      self._trains or records.has_random_access(self._builder)
    )

  def bytes_in_memory(self, split: str) -> int:
    """Returns the memory of a split's images in bytes; 0 if they stay in files.

    Raises:
      UsageError: there is no such split.
    """
    count = self._count(split)
    if self._reads_from_files:
      return 0
    return count * int(np.prod(self.image_shape))

  def _count(self, split: str) -> int:
    """Returns the number of a split's images, at least 1."""
    known = builders.split_names(self._builder)
    wanted = {part.partition('[')[0].strip() for part in split.split('+')}
    if known and not wanted <= {*known, 'all'}:
      raise self._no_split(split)
    builders.prepare_local(self._builder)
    try:
      count = self._builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError) as error:
      raise self._no_split(split) from error
    if not count:
      raise errors.UsageError(
        f'{split} of {self.name} has no image: give a larger part'
      )
    return count

  def _no_split(self, split: str) -> errors.UsageError:
    return errors.UsageError(
      f'{self.name} has no split {split!r}: it has '
      f'{", ".join(builders.split_names(self._builder))}; parts are written as '
      'train[:80%]'
    )

  @property
  def _evaluation_resizing(self) -> str:
    """The resizing of images for evaluation, CROP or STRETCH."""
    if self._crops and not self._fills:
      return image_ops.CROP
    return image_ops.STRETCH

  def with_other_resizing(self) -> 'Source | None':
    """Returns this source for evaluation, with the other kind of resizing.

    None if the images would be the same.
    """
    if self._fills or not self._resized:
      return None
    source = copy.copy(self)
    source._crops = not self._crops
    # Only a sample of them is evaluated, so that no split is read as a whole.
    source._in_files, source._trains = True, False
    return source

  def _load(self, split: str, count: int) -> example_sets.Examples:
    image_key, label_key = self._keys
    images = np.empty((count, *self.image_shape), np.uint8)
    labels = np.empty((count,), np.int64)
    kind, convert = self._evaluation_resizing, self._converted
    if records.has_random_access(self._builder):
      read = records.read_in_order(self._builder, split)
    else:
      crops = kind == image_ops.CROP
      if crops:  # The function decodes and converts the stored file.
        shape = self.image_shape
        convert = functools.partial(
          image_ops.make_evaluation_image, shape=shape, resizing=kind
        )
      read = self._builder.as_dataset(
        split=split,
        # One file after the other: a seed gives the same run only if the order
        # of examples is always the same.
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
        decoders={image_key: tfds.decode.SkipDecoding()} if crops else None,
      )
    read = read.map(
      lambda example: (convert(example[image_key]), example[label_key]),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    position = 0
    for image_batch, label_batch in tfds.as_numpy(read.batch(1024)):
      end = position + len(label_batch)
      images[position:end], labels[position:end] = image_batch, label_batch
      position = end
    preprocessing = image_ops.Preprocessing()
    if self._resized:
      preprocessing = image_ops.Preprocessing(kind, (self.image_shape[:2],))
    return example_sets.Examples(images, labels, preprocessing)

  def _converted(self, image: tf.Tensor) -> tf.Tensor:
    """Returns a decoded image in the size and channels of `image_shape`."""
    image = image_ops.with_channels(image, self.image_shape[-1])
    if not self._resized:
      return image
    return image_ops.resize(image, self.image_shape[:2])


def check_memory(wanted: int, source: ImageSource, split: str) -> None:
  """Raises `UsageError` if images need too much of the free memory.

  Args:
    wanted: Bytes of the images and of all their copies.
    source: The source of the images.
    split: The split of which the message suggests a part.
  """
  free = memory.available_bytes()
  if wanted > _SHARE * free:
    raise errors.UsageError(
      f'the images of {source.name}, {source.image_shape}, with their '
      f'copies need {wanted / 2**30:.3g} GiB, more than {_SHARE:.0%} of '
      f'the {free / 2**30:.3g} GiB of free memory: lower --image_size, use a '
      f'part of the split such as {split}[:10%], or keep the images in their '
      'files with --resizing=crop'
    )


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
