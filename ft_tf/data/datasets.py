"""A TFDS name to labelled images, split three ways."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors, recipes
from ft_tf.data import arrays, builders, memory, records, sampling

# Chooses the validation images; every run of every seed sets the same aside.
_VALIDATION_SEED = 0
_MEASURED = 1000  # images
_AT_ONCE = 256  # images
_SHARE = 0.75  # of the free memory, for images; the rest is for networks
_VALIDATION = 'validation'  # a split of folders
UNLABELLED = records.UNLABELLED


@dataclasses.dataclass(frozen=True)
class Examples:
  """Labelled images in memory.

  Attributes:
    images: `[N, H, W, C]`, uint8.
    labels: `[N]`, int64.
    preprocessing: How the images were made of the stored ones.
  """

  images: np.ndarray
  labels: np.ndarray
  preprocessing: records.Preprocessing = dataclasses.field(
    default_factory=records.Preprocessing
  )

  @functools.cached_property
  def digest(self) -> str:
    """The SHA-256 of the images' bytes, in hexadecimal."""
    return hashlib.sha256(self.images).hexdigest()

  @functools.cached_property
  def tensor(self) -> tf.Tensor:
    """The images on the CPU: one copy, however many streams read them."""
    with tf.device('CPU:0'):
      return memory.tensor(self.images)

  def __len__(self) -> int:
    return len(self.labels)

  def labels_at(self, indices: np.ndarray) -> np.ndarray:
    return self.labels[indices]

  def take(self, indices: np.ndarray) -> 'Examples':
    return Examples(
      self.images[indices], self.labels[indices], self.preprocessing
    )

  def resized(self, size: tuple[int, int]) -> 'Examples':
    """Returns them at a smaller height and width."""
    images = np.empty((len(self), *size, self.images.shape[-1]), np.uint8)
    for i in range(0, len(self), _AT_ONCE):
      some = tf.constant(self.images[i : i + _AT_ONCE])
      images[i : i + _AT_ONCE] = records.shrink(some, size)
    return Examples(images, self.labels, self.preprocessing.then(size))

  def joined(self, unlabelled: 'Examples') -> 'Examples':
    """Returns these, and behind them others whose labels count for nothing."""
    return Examples(
      np.concatenate([self.images, unlabelled.images]),
      np.concatenate([self.labels, np.full(len(unlabelled), UNLABELLED)]),
      self.preprocessing,
    )


def statistics(
  examples: Examples | records.StoredExamples,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns the channel means and deviations of a sample of 1,000 images.

  Args:
    examples: The training images; what is returned is of [0, 1], rounded. The
      deviation of a channel that does not vary is 1, which divides by nothing.
  """
  some = sampling.sample(examples, _MEASURED).images[:]
  mean, std = (
    tuple(round(float(each) / 255, 3) for each in figure)
    for figure in (some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2)))
  )
  return mean, tuple(each or 1.0 for each in std)


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
    self._builder = builders.open_builder(
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

  def read(self, split: str) -> Examples | records.StoredExamples:
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
    _check_memory(self.held(split), self, split)
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

  def _load(self, split: str, count: int) -> Examples:
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
    return Examples(images, labels, made)

  def _converted(self, image: tf.Tensor) -> tf.Tensor:
    """Returns a decoded image at the wanted size, with the wanted channels."""
    image = _with_channels(image, self.image_shape[-1])
    if not self._resized:
      return image
    return records.resize(image, self.image_shape[:2])


def _check_memory(wanted: int, source: Source, split: str) -> None:
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
      parts[part], classes = Examples(some, labels), max(classes, least)
      digest.update(np.ascontiguousarray(some))
      # Runs are known by integers of the type that they were given in.
      digest.update(labels.astype(raw.dtype if raw.dtype.kind in 'iu' else int))
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
    self.image_shape = tuple(shapes[0])
    self.unit = ranges['train']
    self.fingerprint = digest.hexdigest()
    self._parts = parts

  def read(self, split: str) -> Examples:
    return self._parts[split]

  def with_channels(self, channels: int) -> 'Arrays':
    """Returns them as grey (1 channel) or as colours (3), as `Source` does."""
    other = copy.copy(self)
    other._parts = {
      name: Examples(
        np.asarray(_with_channels(part.images, channels)), part.labels
      )
      for name, part in self._parts.items()
    }
    other.image_shape = (*self.image_shape[:2], channels)
    return other


def _with_channels(images, channels: int):
  """Returns images or an image `[..., 1 or 3]` with other channels."""
  if channels == images.shape[-1]:
    return images
  images = tf.convert_to_tensor(images)
  if channels == 3:
    return tf.image.grayscale_to_rgb(images)
  return tf.image.rgb_to_grayscale(images)


class _Sampled:
  """A sample of each split of a source."""

  def __init__(self, source, count):
    self.name = source.name
    self.label_names = source.label_names
    self.image_shape = source.image_shape
    self.fingerprint = source.fingerprint
    self._source = source
    self._count = count

  def read(self, split: str) -> Examples | records.StoredExamples:
    return sampling.sample(self._source.read(split), self._count)


class Dataset:
  """The train, validation and test images of one data set.

  They are read when they are first asked for. Validation has a split of its
  own, or is taken from train, by a choice that no run's seed changes.
  """

  def __init__(
    self,
    source: Source,
    *,
    train_split: str = 'train',
    test_split: str = 'test',
    validation_split: str = '',
    validation_examples: int = 0,
    unlabelled: Source | None = None,
  ):
    """Names the splits; see `Source.read` for what they may be.

    Args:
      source: Of the labelled images.
      train_split: Of those to train on.
      test_split: Of those to test on.
      validation_split: Of those to validate on; '' takes them from train.
      validation_examples: How many are then taken from train.
      unlabelled: Further images to train on, of the same shape.
    """
    self.label_names = source.label_names
    self.image_shape = source.image_shape
    # What changes with the images, where their name does not.
    self.fingerprint = source.fingerprint + (
      unlabelled.fingerprint if unlabelled else ''
    )
    self._source = source
    self._unlabelled = unlabelled
    self._train_split = train_split
    self._test_split = test_split
    self._validation_split = validation_split
    self._validation_examples = validation_examples

  @classmethod
  def from_recipe(
    cls, data: recipes.Data, data_dir: str | None = None
  ) -> 'Dataset':
    """Returns the data set of a recipe; raises as `Source` does."""
    source = Source(
      data.dataset,
      data_dir=data_dir,
      image_size=data.image_size,
      resizing=data.resizing,
      max_bad_files=data.max_bad_files,
      channels=data.channels,
    )
    unlabelled = None
    if data.unlabeled:
      height, width, channels = source.image_shape
      if height != width:
        raise errors.UsageError(
          f'--unlabeled: the images of {data.dataset} are {height}x{width}; '
          'give --image_size, one size for all'
        )
      unlabelled = Source(
        f'unlabeled:{data.unlabeled}',
        data_dir=data_dir,
        image_size=height,
        resizing=data.resizing,
        max_bad_files=data.max_bad_files,
        channels=channels,
        labelled=source,
      )
    # A folder's own, unless the recipe trains or tests on it.
    taken = f'{data.train_split}+{data.test_split}'
    own = source.has_validation and _VALIDATION not in taken
    return cls(
      source,
      unlabelled=unlabelled,
      train_split=data.train_split,
      test_split=data.test_split,
      validation_split=_VALIDATION if own else '',
      validation_examples=data.validation_examples,
    )

  def part(self, count: int) -> 'Dataset':
    """Returns a data set of a sample of `count` images of each split or less.

    An eighth of those to train on are set aside for validation.
    """
    unlabelled = self._unlabelled
    return Dataset(
      _Sampled(self._source, count),
      unlabelled=unlabelled and _Sampled(unlabelled, count),
      train_split=self._train_split,
      test_split=self._test_split,
      validation_split=self._validation_split,
      validation_examples=min(self._validation_examples, count // 8),
    )

  def at(self, size: int) -> 'Dataset':
    """Returns the same data set with smaller images.

    Args:
      size: Their height and width; 0, or what they have: this data set.

    Raises:
      UsageError: the images are smaller than that.
    """
    height, width = self.image_shape[:2]
    if size in (0, height) and size in (0, width):
      return self
    if size > min(height, width):
      raise errors.UsageError(
        f"--student_image_size={size}: the student sees the teacher's images, "
        f'of {height}x{width}, made smaller; give less, or a --teacher and an '
        '--image_size that are larger'
      )
    if size not in self._smaller:
      self._smaller[size] = _Smaller(self, size)
    return self._smaller[size]

  @functools.cached_property
  def _smaller(self) -> dict[int, 'Dataset']:
    return {}

  def for_model(self, image_shape: tuple[int | None, ...]) -> 'Dataset':
    """Returns the data set as a model sees it that may take smaller images.

    Args:
      image_shape: `(H, W, C)` that the model takes; None where it takes any.
    """
    height, width, _ = image_shape
    if height and height == width and height < min(self.image_shape[:2]):
      return self.at(height)
    return self

  def resized_otherwise(self) -> 'Dataset | None':
    """Returns this for evaluation alone, its images resized the other way.

    None if they would be the same images, or are not read from files.
    """
    source = self._source
    other = source.otherwise() if isinstance(source, Source) else None
    return other and Dataset(
      other,
      train_split=self._train_split,
      test_split=self._test_split,
      validation_examples=self._validation_examples,
    )

  def read(self) -> None:
    """Reads all images now, so that what is wrong with them shows now."""
    _ = self.every, self.validation, self.test

  @functools.cached_property
  def test(self) -> Examples | records.StoredExamples:
    return self._source.read(self._test_split)

  @functools.cached_property
  def train(self) -> Examples | records.StoredExamples:
    return self._parts[0]

  @functools.cached_property
  def every(self) -> Examples | records.StoredExamples:
    """Those to train on, and behind them those without labels."""
    if self._unlabelled is None:
      return self.train
    return self.train.joined(self._unlabelled.read('train'))

  @property
  def labelled_share(self) -> float:
    """The share of `every` that has labels."""
    return len(self.train) / len(self.every)

  @functools.cached_property
  def validation(self) -> Examples | records.StoredExamples:
    return self._parts[1]

  @functools.cached_property
  def _parts(self):
    self._check_memory()
    every = self._source.read(self._train_split)
    if self._validation_split:
      return every, self._source.read(self._validation_split)
    aside = self._validation_examples
    if aside >= len(every):
      raise errors.UsageError(
        f'{self._train_split} of {self._source.name} has {len(every)} images: '
        f'--validation_examples={aside} leaves none to train on; lower it'
      )
    order = np.random.default_rng(_VALIDATION_SEED).permutation(len(every))
    return every.take(np.sort(order[aside:])), every.take(
      np.sort(order[:aside])
    )

  def _check_memory(self) -> None:
    """Raises `UsageError` if all splits together do not fit into memory."""
    parts = [
      # As read and as set apart, or as a tensor then.
      (self._source, self._train_split, 2 if self._unlabelled is None else 3),
      (self._source, self._test_split, 1),
      # As joined to those with labels, and as a tensor.
      (self._unlabelled, 'train', 2),
    ]
    if self._validation_split:
      parts.append((self._source, self._validation_split, 1))
    wanted = 0
    for source, split, copies in parts:
      if isinstance(source, Source):  # Others' images are in memory already.
        # A split that is not there is refused where it is read.
        with contextlib.suppress(errors.UsageError):
          wanted += copies * source.held(split)
    if wanted:
      _check_memory(wanted, self._source, self._train_split)


class _Smaller(Dataset):
  """A data set as those see it who take smaller images."""

  def __init__(self, of: Dataset, size: int):
    self.label_names = of.label_names
    self.image_shape = (size, size, of.image_shape[-1])
    self.fingerprint = of.fingerprint
    self._of = of

  def part(self, count: int) -> Dataset:
    return self._of.part(count).at(self.image_shape[0])

  @functools.cached_property
  def test(self):
    return self._of.test.resized(self.image_shape[:2])

  @functools.cached_property
  def train(self):
    return self._of.train.resized(self.image_shape[:2])

  @functools.cached_property
  def every(self):
    return self._of.every.resized(self.image_shape[:2])

  @functools.cached_property
  def validation(self):
    return self._of.validation.resized(self.image_shape[:2])
