"""The training, validation and test images of a run."""

import contextlib
import functools
from typing import Any

import numpy as np

from ft_tf import errors, recipes, sizes
from ft_tf.data import example_sets, memory, sources

# Chooses the validation images: the same ones in every run, of every seed.
_VALIDATION_SEED = 0
_VALIDATION = 'validation'  # the name of the split in folders


class Dataset:
  """The train, validation and test images of one data set.

  Each split is read when it is first used. The validation images are a separate
  split, or are taken from train; the choice does not depend on a run's seed.
  """

  def __init__(
    self,
    source: sources.ImageSource,
    *,
    train_split: str = 'train',
    test_split: str = 'test',
    validation_split: str = '',
    validation_examples: int = 0,
    unlabelled: sources.ImageSource | None = None,
  ):
    """Reads no image yet; for splits see `sources.Source.read`.

    Args:
      source: The source of the labelled images.
      train_split: The split to train on.
      test_split: The split to test on.
      validation_split: The split to validate on; '' takes images from train.
      validation_examples: Number of images that are taken from train.
      unlabelled: A source of unlabelled training images, of the same shape.
    """
    self.label_names = source.label_names
    self.image_shape = source.image_shape
    # Identifies the images where their name does not.
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
    """Returns the data set of a recipe; raises as `sources.Source` does."""
    source = sources.Source(
      data.dataset,
      data_dir=data_dir,
      image_size=data.image_size,
      resizing=data.resizing,
      max_bad_files=data.max_bad_files,
      channels=data.channels,
    )
    for split in (data.train_split, data.test_split):
      source.check_split(split)
    unlabelled = None
    if data.unlabeled:
      height, width, channels = source.image_shape
      unlabelled = sources.Source(
        f'unlabeled:{data.unlabeled}',
        data_dir=data_dir,
        image_size=sizes.of(height, width),
        resizing=data.resizing,
        max_bad_files=data.max_bad_files,
        channels=channels,
        labelled=source,
      )
    # The validation split of a folder, unless the recipe uses it otherwise.
    used_splits = f'{data.train_split}+{data.test_split}'
    has_validation = source.has_validation and _VALIDATION not in used_splits
    return cls(
      source,
      unlabelled=unlabelled,
      train_split=data.train_split,
      test_split=data.test_split,
      validation_split=_VALIDATION if has_validation else '',
      validation_examples=data.validation_examples,
    )

  def part(self, count: int) -> 'Dataset':
    """Returns a data set with a sample of each split.

    Args:
      count: Maximum number of images per split. At most an eighth of the
        training images is used for validation.
    """
    self._settle_memory()  # A sample is taken of a split that is read whole.
    unlabelled = self._unlabelled
    return Dataset(
      sources.Sampled(self._source, count),
      unlabelled=sources.Sampled(unlabelled, count) if unlabelled else None,
      train_split=self._train_split,
      test_split=self._test_split,
      validation_split=self._validation_split,
      validation_examples=min(self._validation_examples, count // 8),
    )

  def at(self, size: sizes.Size) -> 'Dataset':
    """Returns the same data set with smaller images.

    Args:
      size: Of the images; 0 or their own returns this data set.

    Raises:
      UsageError: the images are smaller than that.
    """
    height, width = self.image_shape[:2]
    if size in (0, sizes.of(height, width)):
      return self
    new_height, new_width = sizes.height_and_width(size)
    if new_height > height or new_width > width:
      raise errors.UsageError(
        f"--student_image_size={size}: the student's images are the teacher's, "
        f'{height}x{width}, made smaller; give a smaller size, or a larger '
        '--image_size and a --teacher for it'
      )
    if size not in self._smaller:
      self._smaller[size] = _Smaller(self, size)
    return self._smaller[size]

  @functools.cached_property
  def _smaller(self) -> dict[sizes.Size, 'Dataset']:
    return {}

  def for_model(self, image_shape: tuple[int | None, ...]) -> 'Dataset':
    """Returns the data set in the image size of a model.

    Args:
      image_shape: `(H, W, C)` of the model's input; None where any size fits.
    """
    height, width, _ = image_shape
    own_height, own_width, _ = self.image_shape
    if height and width and height <= own_height and width <= own_width:
      return self.at(sizes.of(height, width))
    return self

  def resized_otherwise(self) -> 'Dataset | None':
    """Returns this data set for evaluation, with the other kind of resizing.

    None if the images would be the same, or are not read from files.
    """
    if not isinstance(self._source, sources.Source):
      return None
    source = self._source.with_other_resizing()
    if source is None:
      return None
    return Dataset(
      source,
      train_split=self._train_split,
      test_split=self._test_split,
      validation_examples=self._validation_examples,
    )

  def describe_test(self) -> dict[str, Any]:
    """Returns what decides the test images and their labels, as JSON.

    The test split is read for it.
    """
    return {
      # A folder may be moved.
      'images': self._source.fingerprint or self._source.name,
      'split': self._test_split,
      'preprocessing': self.test.preprocessing.as_json(self.image_shape),
      'label_names': list(self.label_names),
    }

  def read(self) -> None:
    """Reads all images now, so that errors in them are reported now."""
    _ = self.every, self.validation, self.test

  @functools.cached_property
  def test(self) -> example_sets.AnyExamples:
    return self._source.read(self._test_split)

  @functools.cached_property
  def train(self) -> example_sets.AnyExamples:
    return self._parts[0]

  @functools.cached_property
  def every(self) -> example_sets.AnyExamples:
    """The training images, followed by the unlabelled ones."""
    if self._unlabelled is None:
      return self.train
    # Both are of one kind, because both sources have the same `resizing`.
    unlabelled: Any = self._unlabelled.read('train')
    return self.train.joined(unlabelled)

  @property
  def labelled_share(self) -> float:
    """The share of images in `every` that have labels."""
    return len(self.train) / len(self.every)

  @functools.cached_property
  def validation(self) -> example_sets.AnyExamples:
    return self._parts[1]

  @functools.cached_property
  def _parts(self):
    self._settle_memory()
    every = self._source.read(self._train_split)
    if self._validation_split:
      return every, self._source.read(self._validation_split)
    validation_examples = self._validation_examples
    if validation_examples >= len(every):
      raise errors.UsageError(
        f'{self._train_split} of {self._source.name} has {len(every)} images: '
        f'--validation_examples={validation_examples} leaves none to train on; '
        'lower it'
      )
    order = np.random.default_rng(_VALIDATION_SEED).permutation(len(every))
    return (
      every.take(np.sort(order[validation_examples:])),
      every.take(np.sort(order[:validation_examples])),
    )

  def _settle_memory(self) -> None:
    """Has images stay in their files if memory cannot hold all splits.

    Each source's split is listed with the number of its copies.
    """
    parts: list[tuple[sources.ImageSource | None, str, int]] = [
      # As read, and as split from validation (or, after that, as a tensor);
      # with unlabelled images also as joined with them.
      (self._source, self._train_split, 2 if self._unlabelled is None else 3),
      (self._source, self._test_split, 1),
      # As read (or, after that, as a tensor) and as joined.
      (self._unlabelled, 'train', 2),
    ]
    if self._validation_split:
      parts.append((self._source, self._validation_split, 1))
    wanted = 0
    for source, split, copies in parts:
      # Sources of other types are in memory already.
      if isinstance(source, sources.Source):
        # A missing split is refused when it is read.
        with contextlib.suppress(errors.UsageError):
          wanted += copies * source.bytes_in_memory(split)
    if wanted and memory.is_short_for(wanted):
      for source in {self._source, self._unlabelled}:
        if isinstance(source, sources.Source):
          source.keep_in_files()


class _Smaller(Dataset):
  """A data set with smaller images, which are resized when they are used."""

  def __init__(self, original: Dataset, size: sizes.Size):
    self.label_names = original.label_names
    self.image_shape = (
      *sizes.height_and_width(size),
      original.image_shape[-1],
    )
    self.fingerprint = original.fingerprint
    self._original = original

  def part(self, count: int) -> Dataset:
    return self._original.part(count).at(sizes.of(*self.image_shape[:2]))

  def describe_test(self):
    preprocessing = self.test.preprocessing.as_json(self.image_shape)
    described = self._original.describe_test()
    return {**described, 'preprocessing': preprocessing}

  @functools.cached_property
  def test(self):
    return self._original.test.resized(self.image_shape[:2])

  @functools.cached_property
  def train(self):
    return self._original.train.resized(self.image_shape[:2])

  @functools.cached_property
  def every(self):
    return self._original.every.resized(self.image_shape[:2])

  @functools.cached_property
  def validation(self):
    return self._original.validation.resized(self.image_shape[:2])
