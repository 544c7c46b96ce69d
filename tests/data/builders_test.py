"""Data sets by name: prepared once, in a format, or refused with the reason."""

import json
import os
import tempfile
from typing import ClassVar
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import errors
from ft_tf.data import builders, folder_index, image_files, sources


def setUpModule():
  tfds.disable_progress_bar()


class TinyVersions(tfds.core.GeneratorBasedBuilder):
  """A data set whose code is at version 2."""

  VERSION = tfds.core.Version('2.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(4, 4, 1)),
          'label': tfds.features.ClassLabel(names=['cat', 'dog']),
        }
      ),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for key in range(4):
      yield key, {'image': np.full((4, 4, 1), key, np.uint8), 'label': key % 2}


class TinyConfigs(TinyVersions):
  """A data set of two configurations."""

  BUILDER_CONFIGS: ClassVar = [
    tfds.core.BuilderConfig(name=name, version='1.0.0') for name in 'xy'
  ]


class VersionsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))
    cls.addClassCleanup(folder.cleanup)
    cls.folder = folder.name
    TinyVersions(data_dir=cls.folder).download_and_prepare()
    TinyConfigs(data_dir=cls.folder, config='y').download_and_prepare()
    # The files of an older version of the code.
    old, new = (
      os.path.join(cls.folder, 'tiny_versions', version)
      for version in ('2.0.0', '1.9.0')
    )
    os.rename(old, new)
    with open(os.path.join(new, 'dataset_info.json'), 'r+') as file:
      info = json.load(file) | {'version': '1.9.0'}
      file.seek(0)
      json.dump(info, file)
      file.truncate()

  @parameterized.parameters(
    ('tiny_versions', 'tiny_versions:1.9.0'),
    ('tiny_versions:2.0.0', 'tiny_versions:1.9.0'),
    ('tiny_versions:3.1.4', 'tiny_versions:1.9.0'),
    ('tiny_configs', 'tiny_configs/y:1.0.0'),
    ('tiny_configs/x', 'tiny_configs/y:1.0.0'),
    ('tiny_configs/z', 'tiny_configs/y:1.0.0'),
  )
  def test_error_names_what_is_prepared_and_can_be_read(self, asked, prepared):
    with self.assertRaisesRegex(
      errors.UsageError,
      f'{asked} .*is not prepared in {self.folder}, which has {prepared}: give '
      f'--dataset={prepared}, or',
    ):
      sources.Source(asked, data_dir=self.folder)
    source = sources.Source(prepared, data_dir=self.folder)
    self.assertLen(source.read('train'), 4)

  @parameterized.parameters(
    ('cifar10:9.9.9', '--dataset takes cifar10:'),
    ('tiny_configs/z', '--dataset takes tiny_configs/x.*, tiny_configs/y'),
  )
  def test_error_names_what_tfds_has_where_nothing_is_prepared(
    self, asked, has
  ):
    with self.assertRaisesRegex(errors.UsageError, f'no {asked}: {has}'):
      sources.Source(asked, data_dir=self.create_tempdir().full_path)


class PrepareTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def test_data_set_is_prepared_once_and_can_then_be_read(self):
    prepared = builders.prepare('digits', data_dir=self.folder)
    self.assertEqual(prepared['examples'], {'train': 600, 'test': 1197})
    self.assertTrue(os.listdir(prepared['folder']))
    self.assertEqual(builders.prepare('digits', data_dir=self.folder), prepared)
    source = sources.Source('digits', data_dir=self.folder)
    self.assertLen(source.read('train'), 600)

  def test_files_of_random_access_serve_crops(self):
    builders.prepare('digits', data_dir=self.folder, file_format='array_record')
    source = sources.Source(
      'digits', data_dir=self.folder, image_size=6, resizing='crop'
    )
    self.assertEqual(source.read('test').images[:2].shape, (2, 6, 6, 1))

  def test_second_format_is_refused(self):
    builders.prepare('digits', data_dir=self.folder)
    with self.assertRaisesRegex(
      errors.UsageError, 'holds digits as tfrecord: give another --data_dir'
    ):
      builders.prepare(
        'digits', data_dir=self.folder, file_format='array_record'
      )

  def test_data_set_that_cannot_be_downloaded_is_refused_with_the_reason(self):
    with self.assertRaisesRegex(
      errors.UsageError, '(?s)cannot prepare imagenet2012 in .*2012_img_train'
    ):
      builders.prepare('imagenet2012', data_dir=self.folder)

  def test_unknown_name_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, "no data set 'nope'"):
      builders.prepare('nope', data_dir=self.folder)

  def test_index_of_a_folder_is_written_whatever_it_finds(self):
    root = self.create_tempdir().full_path
    for name in ('crab', 'eel'):
      os.mkdir(os.path.join(root, name))
      for i in range(5):
        Image.new('L', (8, 8), i).save(os.path.join(root, name, f'{i}.png'))
    with open(os.path.join(root, 'eel', '9.png'), 'wb') as file:
      file.write(b'no image')
    # Otherwise files that were just written are read again.
    self.enter_context(mock.patch.object(folder_index, '_SETTLED_NS', 0))
    prepared = builders.prepare(f'folder:{root}', data_dir=self.folder)
    self.assertEqual(prepared['folder'], root)
    self.assertEqual(sum(prepared['examples'].values()), 10)
    self.assertTrue(os.path.isfile(prepared['index']))
    with mock.patch.object(image_files, 'inspect_bytes', side_effect=KeyError):
      again = builders.prepare(f'folder:{root}', data_dir=self.folder)
    self.assertEqual(again, prepared)


class OpenTest(parameterized.TestCase):
  @parameterized.parameters(
    ('', 'give --dataset: '),
    ('folder', 'has no path: a folder of images is --dataset=folder:PATH'),
    ('folder/images', 'has no path: .* --dataset=folder:PATH'),
    ('folder:', 'give --dataset=folder:PATH, with the path'),
    ('Folder:images', 'write folder:images'),
    ('/data/images', 'is a path: .* --dataset=folder:/data/images'),
    ('./images', 'is a path: .* --dataset=folder:./images'),
    ('ima ges', "no data set 'ima ges': --dataset takes .* or folder:PATH"),
  )
  def test_name_of_no_data_set_is_refused_with_what_to_write(
    self, name, pattern
  ):
    for data_dir in (None, '/no/such'):
      if name != 'ima ges' or data_dir is None:
        with self.assertRaisesRegex(errors.UsageError, pattern) as caught:
          builders.open_images(name, data_dir=data_dir)
        self.assertNotIn('\n', str(caught.exception))

  def test_folder_with_the_name_of_no_data_set_is_meant_as_one(self):
    working_directory = os.getcwd()
    self.addCleanup(os.chdir, working_directory)
    os.chdir(self.create_tempdir().full_path)
    os.mkdir('flowers_of_mine')
    with self.assertRaisesRegex(
      errors.UsageError, 'in this folder give --dataset=folder:flowers_of_mine'
    ):
      builders.open_images('flowers_of_mine')


if __name__ == '__main__':
  absltest.main()
