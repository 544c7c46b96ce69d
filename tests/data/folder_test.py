"""A folder of pictures: its layout, its bad files, what networks see of it."""

import contextlib
import io
import os

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import errors
from ft_tf.data import datasets, folder


def setUpModule():
  tfds.disable_progress_bar()


class FolderTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path
    self.data_dir = self.create_tempdir().full_path

  def _picture(self, path, color=(10, 20, 30), size=(12, 9), **options):
    path = os.path.join(self.root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    mode = 'L' if isinstance(color, int) else 'RGB'
    Image.new(mode, size, color).save(path, **options)
    return path

  def _file(self, path, content):
    path = os.path.join(self.root, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
      file.write(content)

  def _fill(self, part='train/', count=3):
    for label, red in (('cat', 50), ('dog', 200)):
      for i in range(count):
        self._picture(f'{part}{label}/{i}.png', (red, i, 0))

  def _source(self, **values):
    return datasets.Source(
      f'folder:{self.root}',
      data_dir=self.data_dir,
      **{'image_size': 8, **values},
    )

  @parameterized.parameters('stretch', 'crop')
  def test_pictures_come_with_the_class_of_their_folder(self, resizing):
    self._fill()
    self._fill('test/', 2)
    source = self._source(resizing=resizing)
    self.assertEqual(source.label_names, ['cat', 'dog'])
    self.assertEqual(source.image_shape, (8, 8, 3))
    for split, count in (('train', 3), ('test', 2)):
      examples = source.read(split)
      np.testing.assert_array_equal(examples.labels, [0] * count + [1] * count)
      np.testing.assert_array_equal(
        examples.images[:][:, 4, 4],
        [(red, i, 0) for red in (50, 200) for i in range(count)],
      )

  def test_pictures_without_a_test_folder_are_split_alike_every_time(self):
    self._fill('', 20)
    listing = folder.scan(self.root)
    self.assertLen(listing.splits['train'], 32)
    self.assertLen(listing.splits['test'], 8)
    tested = [label for _, label in listing.splits['test']]
    self.assertEqual(tested, ['cat'] * 4 + ['dog'] * 4)
    self.assertEmpty({*listing.splits['train']} & {*listing.splits['test']})
    # A picture more moves none of the others from one side to the other, but
    # for those behind it in the order.
    self.assertEqual(folder.scan(self.root), listing)
    self.assertLen(self._source().read('train'), 32)

  def test_every_kind_of_picture_is_read_upright_and_in_colour(self):
    self._fill()
    self._picture('train/cat/a.jpg', (90, 90, 90))
    self._picture('train/cat/b.bmp', (90, 90, 90))
    self._picture('train/cat/c.webp', (90, 90, 90), lossless=True)
    self._picture('train/cat/d.JPEG', 90)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    half = Image.new('RGB', (16, 16))
    half.paste((200, 200, 200), (0, 0, 8, 16))  # the left half is bright
    path = os.path.join(self.root, 'train/cat/e.jpg')
    half.save(path, exif=exif, quality=95)
    self._fill('test/', 1)
    images = self._source(image_size=4).read('train').images[3:8]
    for image in images[:4]:
      np.testing.assert_allclose(image, np.full((4, 4, 3), 90), atol=2)
    self.assertGreater(images[4][0].min(), 150)  # the top half now
    self.assertLess(images[4][3].max(), 50)

  def test_grey_pictures_have_one_channel(self):
    for label in ('a', 'b'):
      for i in range(5):
        self._picture(f'{label}/{i}.png', 40 * i)
    self.assertEqual(self._source().image_shape, (8, 8, 1))

  def _spoil(self):
    self._fill()
    self._fill('test/', 1)
    self._file('train/cat/empty.png', b'')
    self._file('train/cat/text.jpg', b'no picture')
    whole = self._picture('train/dog/cut.jpg', size=(200, 200))
    with open(whole, 'rb') as file:
      content = file.read()
    self._file('train/dog/cut.jpg', content[: len(content) // 2])

  def test_bad_pictures_are_refused_by_name_and_nothing_is_written(self):
    self._spoil()
    said = io.StringIO()
    with (
      contextlib.redirect_stderr(said),
      self.assertRaisesRegex(
        errors.UsageError, '3 bad pictures.*--max_bad_files=3'
      ),
    ):
      self._source(max_bad_files=2)
    for name in ('empty.png: empty', 'text.jpg: ', 'cut.jpg: '):
      self.assertIn(name, said.getvalue())
    self.assertEmpty(os.listdir(self.data_dir))

  def test_bad_pictures_are_left_out_when_that_is_allowed(self):
    self._spoil()
    source = self._source(max_bad_files=3)
    np.testing.assert_array_equal(
      source.read('train').labels, [0, 0, 0, 1, 1, 1]
    )
    # They are known by then, and still too many for another.
    with self.assertRaisesRegex(errors.UsageError, '3 bad pictures'):
      self._source()

  def test_class_without_a_good_picture_is_refused(self):
    self._fill()
    self._fill('test/', 1)
    self._file('train/cow/1.png', b'no picture')
    with self.assertRaisesRegex(errors.UsageError, 'to train on of cow: add'):
      self._source(max_bad_files=1)

  def test_grey_of_16_bits_keeps_its_values(self):
    for label in ('a', 'b'):
      for i in range(5):
        path = os.path.join(self.root, label, f'{i}.png')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        values = np.full((9, 9), 256 * 40 * i + 7, np.uint16)
        Image.fromarray(values).save(path)
    source = self._source()
    self.assertEqual(source.image_shape, (8, 8, 1))
    found = {int(v) for v in source.read('train').images[:, 4, 4, 0]}
    found |= {int(v) for v in source.read('test').images[:, 4, 4, 0]}
    self.assertEqual(found, {0, 40, 80, 120, 160})
    images = self._source(channels=3).read('train').images
    self.assertEqual(images.shape, (8, 8, 8, 3))

  def test_pixels_of_32_bits_are_bad(self):
    self._fill()
    self._fill('test/', 1)
    path = os.path.join(self.root, 'train/cat/float.png')
    Image.fromarray(np.ones((9, 9), np.float32)).save(path, 'TIFF')
    with self.assertRaisesRegex(errors.UsageError, 'float.png .*32 bits'):
      self._source()

  def test_huge_pictures_are_bad(self):
    self._fill()
    self._fill('test/', 1)
    self._picture('train/cat/huge.png', 0, size=(20_000, 10_000))
    with self.assertRaisesRegex(errors.UsageError, 'huge.png.*too many'):
      self._source()

  def test_changed_folder_is_read_anew(self):
    self._fill()
    self._fill('test/', 1)
    self.assertLen(self._source().read('train'), 6)
    self._picture('train/dog/new.png')
    self.assertLen(self._source().read('train'), 7)

  def test_fingerprint_is_of_names_and_bytes_alone(self):
    self._fill()
    self._fill('test/', 1)
    before = self._source().fingerprint
    os.utime(os.path.join(self.root, 'train/cat/0.png'), (0, 0))
    self.assertEqual(self._source().fingerprint, before)
    self._picture('train/cat/0.png', (50, 0, 1))
    changed = self._source().fingerprint
    self.assertNotEqual(changed, before)
    os.rename(
      os.path.join(self.root, 'train/cat/1.png'),
      os.path.join(self.root, 'train/dog/9.png'),
    )
    self.assertNotEqual(self._source().fingerprint, changed)

  def test_classes_of_very_different_sizes_are_named(self):
    self._fill()
    self._fill('test/', 1)
    for i in range(9):
      self._picture(f'train/cow/{i}.png')
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      self._source()
    self.assertIn('cat 3, cow 9, dog 3', said.getvalue())
    self.assertIn('3.0 times the smallest', said.getvalue())

  def test_folder_that_is_laid_out_otherwise_is_refused_with_the_layout(self):
    with self.assertRaisesRegex(errors.UsageError, 'there is no folder'):
      folder.scan(os.path.join(self.root, 'missing'))
    with self.assertRaisesRegex(errors.UsageError, 'has no picture.*train/'):
      folder.scan(self.root)
    self._picture('train/cat/1.png')
    with self.assertRaisesRegex(errors.UsageError, 'one class, cat'):
      folder.scan(self.root)
    self._picture('train/dog/1.png')
    with self.assertRaisesRegex(errors.UsageError, 'no picture to test on'):
      folder.scan(self.root)
    self._picture('test/fox/1.png')
    with self.assertRaisesRegex(errors.UsageError, 'train has not: fox'):
      folder.scan(self.root)

  def test_pictures_without_labels_are_all_that_lie_below(self):
    self._picture('a.png', (10, 20, 30))
    self._picture('deep/er/b.jpg', 90)
    self._file('notes.txt', b'no picture')
    source = datasets.Source(
      f'unlabeled:{self.root}', data_dir=self.data_dir, image_size=8
    )
    self.assertEqual(source.image_shape, (8, 8, 3))
    images = source.read('train').images
    np.testing.assert_allclose(
      images[:, 4, 4], [(10, 20, 30), (90, 90, 90)], atol=2
    )

  @parameterized.parameters((1, 0), (3, 40))
  def test_pictures_come_in_the_channels_that_are_asked_for(
    self, channels, colour
  ):
    self._picture('a.png', colour or (90, 90, 90))
    source = datasets.Source(
      f'unlabeled:{self.root}',
      data_dir=self.data_dir,
      image_size=8,
      channels=channels,
    )
    self.assertEqual(source.read('train').images.shape, (1, 8, 8, channels))

  def test_no_pictures_without_labels_are_refused(self):
    for root, reason in (
      (self.root, 'has no picture: --unlabeled takes'),
      (os.path.join(self.root, 'missing'), 'no folder .*missing: --unlabeled'),
    ):
      with self.assertRaisesRegex(errors.UsageError, reason):
        folder.scan_unlabelled(root)

  def test_pictures_need_a_size_to_come_to(self):
    self._fill('', 5)
    with self.assertRaisesRegex(errors.UsageError, 'give --image_size'):
      self._source(image_size=0)


if __name__ == '__main__':
  absltest.main()
