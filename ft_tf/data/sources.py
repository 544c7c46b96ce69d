"""Where labelled images come from: a TFDS name, or arrays; split by split."""

import copy
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors
from ft_tf.data import arrays, builders, example_sets, memory, records, sampling

_SHARE = 0.75  # of the free memory, for images; the rest is for networks


class ImageSource(Protocol):
  """Labelled images, split by split: what a `datasets.Dataset` is made of.

  Attributes:
    name: How messages call it.
    label_names: The classes, in the order of the labels.
    image_shape: `(H, W, C)`.
    fingerprint: What changes with the images, where their name does not.
  """

  name: str
  label_names: list[str]
  image_shape: tuple[int, int, int]
  fingerprint: str

  def read(self, split: str, /) -> example_sets.AnyExamples:
    """Returns a split's examples, in an order that stays."""


class Source:
  """A TFDS data set of labelled images: what it is, and its splits."""

  def __init__(
    self,
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int = 0,
    resizing: str = 'stretch',
    max_bad_files: int = 0,
    channels: int = 0,
    labelled: 'Source | None' = None,
    trains: bool = True,
  ):
    """Opens a data set and reads no image yet.

    Args:
      name: TFDS name, `digits`, `folder:PATH`, a folder of images, or
        `unlabeled:PATH`, one without labels, whose split is 'train'.
      data_dir: The TFDS folder with the prepared data set; TFDS's default if
        None. Digits and folders are prepared there if they are missing.
      image_size: Height and width that images are resized to; 0 keeps them.
      resizing: As of `recipes.Data`; with 'crop' images stay in their files. In
        evaluation the images of a data set that stores squares of one size are
        seen whole, whichever it is: they have no margin to cut off.
      max_bad_files: As of `folder_builder.builder`.
      channels: What all images are converted to, 1 or 3; 0 keeps them. Grey
        becomes three equal channels, colours their brightness.
      trains: Whether random parts are asked for, too: with 'crop' they need
        files of random access, which evaluation does without.
      labelled: The data set that images without labels add to; those of a
        folder that are in it are left out.

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
    wanted, (height, width, channels) = channels, image.shape
    if image.np_dtype != np.uint8 or channels not in (1, 3):
      raise errors.UsageError(
        f'{name} has images of {channels or "any number of"} channels and '
        f'{np.dtype(image.np_dtype).name}: --dataset takes one of uint8 images '
        'with 1 or 3 channels'
      )
    channels = wanted or channels
    self._square = height is not None and height == width
    if resizing == records.CROP and not (image_size or self._square):
      raise errors.UsageError(
        '--resizing=crop wants one size to resize to: give --image_size, or a '
        'model that takes images of one size'
      )
    self._crops = resizing == records.CROP
    self._in_files = self._crops
    self._trains = trains
    self._resized = bool(image_size) and (height, width) != (image_size,) * 2
    if image_size:
      height = width = image_size
    if height is None or width is None:
      raise errors.UsageError(
        f'the images of {name} differ in size: give --image_size, the height '
        'and width in pixels that they are resized to'
      )
    self.image_shape: tuple[int, int, int] = (height, width, channels)

  def read(self, split: str) -> example_sets.AnyExamples:
    """Returns a split's examples in the order of its files.

    Args:
      split: As TFDS writes them: 'train', 'train[:80%]'.

    Raises:
      UsageError: there is no such split, it does not fit into memory, or its
        files have no random access where they are to stay in them.
    """
    count = self._count(split)
    if self._stays_in_files:
      return records.open_split(
        self._builder,
        split,
        keys=self._keys,
        image_shape=self.image_shape,
        resizing=self._seen_by,
      )
    check_memory(self.held(split), self, split)
    return self._load(split, count)

  @property
  def _stays_in_files(self) -> bool:
    return self._in_files and (
      self._trains or records.random_access(self._builder)
    )

  def held(self, split: str) -> int:
    """Returns the bytes that a split's images take; 0 if they stay in files.

    Raises:
      UsageError: there is no such split.
    """
    count = self._count(split)
    if self._stays_in_files:
      return 0
    return count * int(np.prod(self.image_shape))

  def _count(self, split: str) -> int:
    """Returns the number of a split's images, at least 1."""
    known = builders.split_names(self._builder)
    asked = {part.partition('[')[0].strip() for part in split.split('+')}
    if known and not asked <= {*known, 'all'}:
      raise self._no_split(split)
    builders.prepare_ours(self._builder)  # others are prepared by now
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
  def _seen_by(self) -> str:
    """How evaluation sees images, as of `records.seen`."""
    if self._crops and not self._square:
      return records.CROP
    return records.STRETCH

  def otherwise(self) -> 'Source | None':
    """Returns this for evaluation alone, its images resized the other way.

    None if they would be the same images.
    """
    if self._square or not self._resized:
      return None
    other = copy.copy(self)
    other._crops = not self._crops
    other._in_files, other._trains = True, False
    return other

  def _load(self, split: str, count: int) -> example_sets.Examples:
    image_key, label_key = self._keys
    images = np.empty((count, *self.image_shape), np.uint8)
    labels = np.empty((count,), np.int64)
    kind, convert = self._seen_by, self._converted
    if records.random_access(self._builder):
      read = records.in_order(self._builder, split)
    else:
      crops = kind == records.CROP
      if crops:  # it decodes, and converts
        shape = self.image_shape
        convert = functools.partial(records.seen, shape=shape, resizing=kind)
      read = self._builder.as_dataset(
        split=split,
        # One file after the other: the order is part of what a seed means.
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
        decoders={image_key: tfds.decode.SkipDecoding()} if crops else None,
      )
    read = read.map(
      lambda example: (convert(example[image_key]), example[label_key]),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    position = 0
    for some_images, some_labels in tfds.as_numpy(read.batch(1024)):
      end = position + len(some_labels)
      images[position:end], labels[position:end] = some_images, some_labels
      position = end
    made = records.Preprocessing()
    if self._resized:
      made = records.Preprocessing(kind, (self.image_shape[:2],))
    return example_sets.Examples(images, labels, made)

  def _converted(self, image: tf.Tensor) -> tf.Tensor:
    """Returns a decoded image at the wanted size, with the wanted channels."""
    image = _with_channels(image, self.image_shape[-1])
    if not self._resized:
      return image
    return records.resize(image, self.image_shape[:2])


def check_memory(wanted: int, source: ImageSource, split: str) -> None:
  """Raises `UsageError` if images take too much of the memory that is free.

  Args:
    wanted: Bytes of the images, with all copies that are made of them.
    source: Where they are from.
    split: What the message names as the split to take a part of.
  """
  free = memory.available()
  if wanted > _SHARE * free:
    raise errors.UsageError(
      f'the images of {source.name}, {source.image_shape}, with the copies '
      f'made of them take {wanted / 2**30:.3g} GiB, more than {_SHARE:.0%} of '
      f'the {free / 2**30:.3g} GiB of free memory: lower --image_size, take a '
      f'part of the split such as {split}[:10%], or leave the images in their '
      'files with --resizing=crop'
    )


class Arrays:
  """Images in arrays as a source: what `Source` is to a data set in files.

  Attributes:
    unit: Whether the images were given in 0..1, not in 0..255.
  """

  name = 'arrays'

  def __init__(
    self,
    train: Any,
    test: Any,
    *,
    label_names: Sequence[str] | None = None,
  ):
    """Takes images and labels of any kind that `arrays` makes one of.

    Args:
      train: To train on, see `arrays.pair`, `arrays.images`, `arrays.labels`.
      test: To test on, likewise; its images are of the same shape and range.
      label_names: The classes, in the order of the labels; their numbers if
        None.

    Raises:
      UsageError: the arrays are not such.
    """
    names = arrays.names(label_names)
    parts, classes, ranges = {}, 0, {}
    digest = hashlib.sha256()
    for part, given in (('train', train), ('test', test)):
      some, raw = arrays.pair(part, given)
      some, ranges[part] = arrays.images(part, some)
      labels, least = arrays.labels(part, raw, len(some), names)
      parts[part] = example_sets.Examples(some, labels)
      classes = max(classes, least)
      digest.update(np.ascontiguousarray(some).data)
      # Runs are known by integers of the type that they were given in.
      given_type = raw.dtype if raw.dtype.kind in 'iu' else int
      digest.update(labels.astype(given_type).data)
    shapes = [part.images.shape[1:] for part in parts.values()]
    if shapes[0] != shapes[1]:
      raise errors.UsageError(
        f'the images of train are {shapes[0]} and those of test {shapes[1]}: '
        'give all in one height, width and number of channels'
      )
    if ranges['train'] != ranges['test']:
      raise errors.UsageError(
        'train and test are of two ranges, 0 to 1 and 0 to 255: give both alike'
      )
    arrays.check_covered(parts['train'].labels, classes, names)
    self.label_names = names or list(map(str, range(classes)))
    self.image_shape: tuple[int, int, int] = tuple(shapes[0])
    self.unit = ranges['train']
    self.fingerprint = digest.hexdigest()
    self._parts = parts

  def read(self, split: str) -> example_sets.Examples:
    return self._parts[split]

  def with_channels(self, channels: int) -> 'Arrays':
    """Returns them as grey (1 channel) or as colours (3), as `Source` does."""
    other = copy.copy(self)
    other._parts = {
      name: example_sets.Examples(
        np.asarray(_with_channels(part.images, channels)), part.labels
      )
      for name, part in self._parts.items()
    }
    other.image_shape = (*self.image_shape[:2], channels)
    return other


def _with_channels(
  images: np.ndarray | tf.Tensor, channels: int
) -> np.ndarray | tf.Tensor:
  """Returns images or an image `[..., 1 or 3]` with other channels."""
  if channels == images.shape[-1]:
    return images
  images = tf.convert_to_tensor(images)
  if channels == 3:
    return tf.image.grayscale_to_rgb(images)
  return tf.image.rgb_to_grayscale(images)


class Sampled:
  """A sample of each split of a source, as a source."""

  def __init__(self, source: ImageSource, count: int):
    """Names the source and the most images of a split."""
    self.name = source.name
    self.label_names = source.label_names
    self.image_shape = source.image_shape
    self.fingerprint = source.fingerprint
    self._source = source
    self._count = count

  def read(self, split: str) -> example_sets.AnyExamples:
    return sampling.sample(self._source.read(split), self._count)
