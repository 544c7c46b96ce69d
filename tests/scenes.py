"""Data sets of images of many sizes in files, and what reads them."""

import os
import tempfile

import tensorflow_datasets as tfds

from ft_tf import catalogue, recipe_flags
from ft_tf.data import sources
from tests import fixtures

COUNT = 40


class TinyScenes(tfds.core.GeneratorBasedBuilder):
  """Gradients of different sizes; blue is the image's number, the class too."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, 3)),
          'label': tfds.features.ClassLabel(num_classes=COUNT),
          'file_name': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples(), 'test': self._test()}

  def _generate_examples(self):
    for key in range(COUNT):
      image = fixtures.gradient(40 + key, 90 - key)
      image[..., 2] = 6 * key
      yield key, {'image': image, 'label': key, 'file_name': f'{key}.png'}

  def _test(self):
    yield from list(self._generate_examples())[:10]


class TinyStream(TinyScenes):
  """The same in files that are read from end to end."""


FOLDER = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))


def prepare():
  """Writes both data sets; of a module's `setUpModule`."""
  tfds.disable_progress_bar()
  TinyScenes(
    data_dir=FOLDER.name, file_format='array_record'
  ).download_and_prepare()
  TinyStream(data_dir=FOLDER.name).download_and_prepare()


def source(name='tiny_scenes', image_size=32, **values):
  """Returns one of them, cropped to squares unless values say otherwise."""
  return sources.Source(
    name,
    data_dir=FOLDER.name,
    image_size=image_size,
    **{'resizing': 'crop', **values},
  )


def recipe(**values):
  """Returns a short recipe for them, of small networks."""
  return recipe_flags.override(
    catalogue.get('imagenet_resnet34_resnet18'),
    {
      'dataset': 'tiny_scenes',
      'test_split': 'test',
      'image_size': 16,
      'validation_examples': 8,
      'batch_size': 8,
      'precision': 'float32',
      'teacher': 'resnet8x0.25',
      'student': 'resnet8x0.25',
      **{
        f'{stage}_epochs': 1 for stage in ('teacher', 'paraphraser', 'student')
      },
      **values,
    },
  )
