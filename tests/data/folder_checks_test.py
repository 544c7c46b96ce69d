"""Checks of a folder's images: bad files, frames, 16-bit values, duplicates."""

import contextlib
import io
import os
import shutil

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import errors
from ft_tf.data import sources
from tests import image_folders


def setUpModule():
  tfds.disable_progress_bar()


class ChecksTest(image_folders.FolderCase):
  def _spoil(self):
    self.fill()
    self.fill('test/', 1)
    self.file('train/cat/empty.png', b'')
    self.file('train/cat/text.jpg', b'no image')
    whole = self.image('train/dog/cut.jpg', size=(200, 200))
    with open(whole, 'rb') as file:
      content = file.read()
    self.file('train/dog/cut.jpg', content[: len(content) // 2])

  def test_bad_images_are_refused_by_name_and_nothing_is_written(self):
    self._spoil()
    printed = io.StringIO()
    with (
      contextlib.redirect_stderr(printed),
      self.assertRaisesRegex(
        errors.UsageError, '3 bad images.*--max_bad_files=3'
      ),
    ):
      self.source(max_bad_files=2)
    for name in ('empty.png: empty', 'text.jpg: ', 'cut.jpg: '):
      self.assertIn(name, printed.getvalue())
    self.assertEmpty(os.listdir(self.data_dir))

  def test_bad_images_are_left_out_when_that_is_allowed(self):
    self._spoil()
    source = self.source(max_bad_files=3)
    np.testing.assert_array_equal(
      source.read('train').labels, [0, 0, 0, 1, 1, 1]
    )
    # The inspections are cached then, and still too many are bad.
    with self.assertRaisesRegex(errors.UsageError, '3 bad images'):
      self.source()

  def test_class_without_a_good_image_is_refused(self):
    self.fill()
    self.fill('test/', 1)
    self.file('train/cow/1.png', b'no image')
    with self.assertRaisesRegex(
      errors.UsageError, 'training image of cow: add'
    ):
      self.source(max_bad_files=1)

  @parameterized.parameters('train', 'test', 'val')
  def test_split_of_bad_images_alone_is_refused(self, part):
    for name in ('train', 'test', 'val'):
      self.fill(f'{name}/', 2)
    for label in ('cat', 'dog'):
      for i in range(2):
        self.file(f'{part}/{label}/{i}.png', b'no image')
    split = {'val': 'validation'}.get(part, part)
    with self.assertRaisesRegex(
      errors.UsageError, f'no good image in its {split} split: add'
    ):
      self.source(max_bad_files=9)
    self.assertEmpty(os.listdir(self.data_dir))

  def test_classes_of_very_different_sizes_are_reported(self):
    self.fill()
    self.fill('test/', 1)
    for i in range(9):
      self.image(f'train/cow/{i}.png')
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      self.source()
    self.assertIn('cat 3, cow 9, dog 3', printed.getvalue())
    self.assertIn('3.0 times as many as the smallest', printed.getvalue())

  def test_files_with_several_images_are_reported(self):
    self.fill('', 5)
    frame = Image.new('RGB', (9, 9))
    frame.save(
      os.path.join(self.root, 'cat/9.gif'),
      save_all=True,
      append_images=[Image.new('RGB', (9, 9), 'red')],
    )
    self.assertIn(
      'only the first image is used of 1 file with several', self.open()[0]
    )


class DepthTest(image_folders.FolderCase):
  """Images whose values have 16 bits in their files."""

  def _grey(self, path, value):
    path = os.path.join(self.root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(np.full((9, 9), value, np.uint16)).save(path)

  def _values(self, source):
    images = [source.read(split).images[:, 4, 4] for split in ('train', 'test')]
    return sorted({int(v) for v in np.concatenate(images).flat})

  @parameterized.parameters(
    (256 * 40, 'read as 16 bits and divided by 256', [0, 40, 80, 120, 160]),
    (1000, 'read as 12 bits and divided by 16', [0, 62, 125, 187, 250]),
    (500, 'read as 12 bits and divided by 16', [0, 31, 62, 93, 125]),
    (60, 'read as 8 bits and divided by 1', [0, 60, 120, 180, 240]),
  )
  def test_all_images_of_a_folder_keep_the_bits_that_it_uses(
    self, step, line, values
  ):
    for label in ('a', 'b'):
      for i in range(5):
        self._grey(f'{label}/{i}.png', step * i)
    printed, source = self.open()
    self.assertIn(f'16-bit values in 10 images, up to {4 * step} ', printed)
    self.assertIn(line, printed)
    self.assertEqual(source.image_shape, (8, 8, 1))
    self.assertEqual(self._values(source), values)
    self.assertEqual(self._values(self.source(channels=3)), values)

  def test_images_without_labels_are_read_as_those_with(self):
    for i in range(5):
      self._grey(f'a/{i}.png', 4000 - i)
      self._grey(f'b/{i}.png', 4000 - i)
    labelled = self.source()
    self.root = self.create_tempdir().full_path
    self._grey('dark.png', 160)
    dark = sources.Source(
      f'unlabeled:{self.root}',
      data_dir=self.data_dir,
      image_size=8,
      labelled=labelled,
    )
    self.assertEqual(dark.read('train').images[0, 4, 4, 0], 10)
    self._grey('bright.png', 5000)
    with self.assertRaisesRegex(
      errors.UsageError, 'values up to 5000, .* use 12 bits: give --unlabeled'
    ):
      sources.Source(
        f'unlabeled:{self.root}',
        data_dir=self.data_dir,
        image_size=8,
        labelled=labelled,
      )


class SameImagesTest(image_folders.FolderCase):
  """Files with the same bytes in two places."""

  def test_images_in_two_splits_are_reported(self):
    self.fill('train/')
    self.fill('test/', 2)
    printed, _ = self.open()
    self.assertIn('warning: 4 images in more than one split', printed)
    self.assertIn('(train/cat/0.png = test/cat/0.png; ', printed)
    self.assertNotIn('more than one class', printed)

  def test_images_in_two_classes_are_reported(self):
    self.fill('', 5)
    shutil.copy(
      os.path.join(self.root, 'cat/2.png'), os.path.join(self.root, 'dog/x.png')
    )
    printed, _ = self.open()
    self.assertIn('warning: 1 image in more than one class', printed)
    self.assertIn('cat/2.png', printed)
    self.assertIn('dog/x.png', printed)

  def test_different_images_are_not_reported(self):
    self.fill('', 9)
    self.assertNotIn('warning', self.open()[0])


if __name__ == '__main__':
  absltest.main()
