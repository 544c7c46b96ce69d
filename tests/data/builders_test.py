"""Data sets prepared by name: once, in a format, or refused with the reason."""

import os

import tensorflow_datasets as tfds
from absl.testing import absltest

from ft_tf import errors
from ft_tf.data import builders, datasets


def setUpModule():
  tfds.disable_progress_bar()


class PrepareTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def test_data_set_is_prepared_once_and_can_then_be_read(self):
    found = builders.prepare('digits', data_dir=self.folder)
    self.assertEqual(found['examples'], {'train': 600, 'test': 1197})
    self.assertTrue(os.listdir(found['folder']))
    self.assertEqual(builders.prepare('digits', data_dir=self.folder), found)
    source = datasets.Source('digits', data_dir=self.folder)
    self.assertLen(source.read('train'), 600)

  def test_files_of_random_access_serve_crops(self):
    builders.prepare('digits', data_dir=self.folder, file_format='array_record')
    source = datasets.Source(
      'digits', data_dir=self.folder, image_size=6, resizing='crop'
    )
    self.assertEqual(source.read('test').images[:2].shape, (2, 6, 6, 1))

  def test_other_format_beside_is_refused(self):
    builders.prepare('digits', data_dir=self.folder)
    with self.assertRaisesRegex(
      errors.UsageError, 'holds digits as tfrecord: give another --data_dir'
    ):
      builders.prepare(
        'digits', data_dir=self.folder, file_format='array_record'
      )

  def test_data_set_that_cannot_be_had_is_refused_with_the_reason(self):
    with self.assertRaisesRegex(
      errors.UsageError, '(?s)cannot prepare imagenet2012 in .*2012_img_train'
    ):
      builders.prepare('imagenet2012', data_dir=self.folder)

  def test_unknown_name_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, "no data set 'nope'"):
      builders.prepare('nope', data_dir=self.folder)


if __name__ == '__main__':
  absltest.main()
