"""Small data, recipes and strategies that several tests train on."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import tensorflow as tf
from keras.src.saving import serialization_lib

from ft_tf import catalogue, recipe_flags, recipes
from ft_tf.data import datasets, example_sets
from ft_tf.models import model_files
from ft_tf.training import strategy as strategies
from tests import short_networks  # noqa: F401  gives them names

# Made at import, before anything uses TensorFlow: it splits the CPU only then.
# Once each, since the strategies of one process number their collectives alike.
_STRATEGIES = {2: strategies.make(2)}
_STRATEGIES[1] = tf.distribute.MirroredStrategy(['CPU:0'])


def strategy(num_replicas: int = 1) -> tf.distribute.MirroredStrategy:
  """Returns the strategy over one or two logical CPU devices."""
  return _STRATEGIES[num_replicas]


@contextlib.contextmanager
def unsafe() -> Iterator[None]:
  """Allows code in models for a while, which Keras has no way to take back."""
  with (
    serialization_lib.SafeModeScope(True),
    mock.patch.object(model_files, '_unsafe_allowed', True),
  ):
    model_files.allow_unsafe()
    yield


class Blobs:
  """A source of images whose class shows: a bright spot in its place.

  Stands for `sources.Source` where a test needs no TFDS.
  """

  name = 'blobs'
  fingerprint = ''
  label_names = ('left', 'middle', 'right')

  def __init__(self, image_shape: tuple[int, int, int] = (8, 8, 1)):
    self.image_shape = image_shape

  def read(self, split: str) -> example_sets.Examples:
    count, seed = {'train': (56, 0), 'test': (24, 1)}[split]
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    images = rng.integers(60, size=(count, *self.image_shape))
    for image, label in zip(images, labels, strict=True):
      image[2:6, 3 * label : 3 * label + 2] += 150
    return example_sets.Examples(
      images.astype(np.uint8), labels.astype(np.int64)
    )


class Hostile(Blobs):
  """Images as folders and cameras give them: sorted by class, dark, not square.

  Nothing is brighter than 120, and the classes differ in size: 40, 20 and 10 of
  70 to train on.
  """

  name = 'hostile'

  def __init__(self, image_shape: tuple[int, int, int] = (10, 14, 3)):
    super().__init__(image_shape)

  def read(self, split: str) -> example_sets.Examples:
    unit, seed = {'train': (10, 0), 'test': (5, 1)}[split]
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), (4 * unit, 2 * unit, unit))
    images = rng.integers(30, size=(len(labels), *self.image_shape))
    for image, label in zip(images, labels, strict=True):
      image[2:8, 4 * label : 4 * label + 4] += 90
    return example_sets.Examples(
      images.astype(np.uint8), labels.astype(np.int64)
    )


def hostile(
  image_shape: tuple[int, int, int] = (10, 14, 3),
) -> datasets.Dataset:
  """Returns 56 images of `Hostile` to train on, 14 to validate, 35 to test."""
  return datasets.Dataset(Hostile(image_shape), validation_examples=14)


def blobs(
  image_shape: tuple[int, int, int] = (8, 8, 1), validation_examples: int = 8
) -> datasets.Dataset:
  """Returns 56 images to train on and to validate, and 24 to test."""
  return datasets.Dataset(
    Blobs(image_shape), validation_examples=validation_examples
  )


def blobs_and_unlabelled(count: int = 24) -> datasets.Dataset:
  """Returns the same, and that many images without labels to train on."""

  class Unlabelled(Blobs):
    fingerprint = f'{count} more'

    def read(self, split):
      return super().read(split).take(np.arange(count))

  return datasets.Dataset(
    Blobs(), validation_examples=8, unlabelled=Unlabelled()
  )


def recipe(**values) -> recipes.Recipe:
  """Returns a recipe for `blobs`: tiny networks, 3 epochs of 3 steps.

  Args:
    **values: Flag name to value, as of `recipe_flags.override`.
  """
  small = {
    'dataset': 'blobs',
    'batch_size': 16,
    'image_size': 0,
    'pad': 1,
    'validation_examples': 8,
    'teacher': 'resnet8x0.25',
    'student': 'resnet8x0.25',
    'beta': 10.0,
    'beta_elements': 0,
    'teacher_layer': 'auto',
    'student_layer': 'auto',
    'at_beta': 10.0,
    'precision': 'float32',
    **{f'{stage}_epochs': 3 for stage in ('teacher', 'paraphraser', 'student')},
    **{f'{stage}_drop_epochs': (2,) for stage in ('teacher', 'student')},
  }
  return recipe_flags.override(catalogue.digits(), {**small, **values})


def short_recipe(**values) -> recipes.Recipe:
  """Returns `recipe` with networks of fewer layers, for what is about steps."""
  return recipe(**{'teacher': 'short', 'student': 'short', **values})


# Every augmentation that a view can have, as flags of `recipe`.
AUGMENTED = {
  'rand_augment_magnitude': 9.0,
  'rand_augment_ops': 1,
  'mixup_alpha': 0.4,
  'cutmix_alpha': 1.0,
}


def gradient(height: int, width: int) -> np.ndarray:
  """Returns an image whose red is the row and whose green the column."""
  rows, columns = np.meshgrid(
    np.linspace(0, 255, height), np.linspace(0, 255, width), indexing='ij'
  )
  return np.round(np.stack([rows, columns, 0 * rows], -1)).astype(np.uint8)
