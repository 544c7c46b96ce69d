"""The images of a run: to train on, to validate on and to test on."""

import contextlib
import functools
from typing import Any

import numpy as np

from ft_tf import errors, recipes
from ft_tf.data import example_sets, sources

# Chooses the validation images; every run of every seed sets the same aside.
_VALIDATION_SEED = 0
_VALIDATION = 'validation'  # a split of folders


class Dataset:
  """The train, validation and test images of one data set.

  They are read when they are first asked for. Validation has a split of its
  own, or is taken from train, by a choice that no run's seed changes.
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
    """Names the splits; see `sources.Source.read` for what they may be.

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
    """Returns the data set of a recipe; raises as `sources.Source` does."""
    source = sources.Source(
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
      unlabelled = sources.Source(
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
      sources.Sampled(self._source, count),
      unlabelled=sources.Sampled(unlabelled, count) if unlabelled else None,
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
    other = source.otherwise() if isinstance(source, sources.Source) else None
    if other is None:
      return None
    return Dataset(
      other,
      train_split=self._train_split,
      test_split=self._test_split,
      validation_examples=self._validation_examples,
    )

  def read(self) -> None:
    """Reads all images now, so that what is wrong with them shows now."""
    _ = self.every, self.validation, self.test

  @functools.cached_property
  def test(self) -> example_sets.AnyExamples:
    return self._source.read(self._test_split)

  @functools.cached_property
  def train(self) -> example_sets.AnyExamples:
    return self._parts[0]

  @functools.cached_property
  def every(self) -> example_sets.AnyExamples:
    """Those to train on, and behind them those without labels."""
    if self._unlabelled is None:
      return self.train
    # Of the kind of `train`: one `resizing` says for both where images stay.
    unlabelled: Any = self._unlabelled.read('train')
    return self.train.joined(unlabelled)

  @property
  def labelled_share(self) -> float:
    """The share of `every` that has labels."""
    return len(self.train) / len(self.every)

  @functools.cached_property
  def validation(self) -> example_sets.AnyExamples:
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
    parts: list[tuple[sources.ImageSource | None, str, int]] = [
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
      if isinstance(
        source, sources.Source
      ):  # Others' images are in memory already.
        # A split that is not there is refused where it is read.
        with contextlib.suppress(errors.UsageError):
          wanted += copies * source.held(split)
    if wanted:
      sources.check_memory(wanted, self._source, self._train_split)


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
