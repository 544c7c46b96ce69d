"""Folders of images: bad files, decoded images, cache and duplicates."""

import contextlib
import io
import os
import shutil

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import catalogue, errors, recipe_flags
from ft_tf.data import datasets, folder_builder, image_files, sources


def setUpModule():
  tfds.disable_progress_bar()


class _Case(parameterized.TestCase):
  """Images in a folder."""

  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path
    self.data_dir = self.create_tempdir().full_path

  def _image(self, path, color=(10, 20, 30), size=(12, 9), **options):
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

  def _fill(self, split_folder='train/', count=3):
    for label, red in (('cat', 50), ('dog', 200)):
      for i in range(count):
        self._image(f'{split_folder}{label}/{i}.png', (red, i, 0))

  def _source(self, **values):
    return sources.Source(
      f'folder:{self.root}',
      data_dir=self.data_dir,
      **{'image_size': 8, **values},
    )

  def _open(self, **values):
    """Returns the messages of opening the folder, and the source."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      source = self._source(**values)
    return printed.getvalue(), source


class FolderTest(_Case):
  @parameterized.parameters('stretch', 'crop')
  def test_images_come_with_the_class_of_their_folder(self, resizing):
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

  def test_every_kind_of_image_is_read_upright_and_in_colour(self):
    self._fill()
    self._image('train/cat/a.jpg', (90, 90, 90))
    self._image('train/cat/b.bmp', (90, 90, 90))
    self._image('train/cat/c.webp', (90, 90, 90), lossless=True)
    self._image('train/cat/d.JPEG', 90)
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

  def test_grey_images_have_one_channel(self):
    for label in ('a', 'b'):
      for i in range(5):
        self._image(f'{label}/{i}.png', 40 * i)
    self.assertEqual(self._source().image_shape, (8, 8, 1))

  def _spoil(self):
    self._fill()
    self._fill('test/', 1)
    self._file('train/cat/empty.png', b'')
    self._file('train/cat/text.jpg', b'no image')
    whole = self._image('train/dog/cut.jpg', size=(200, 200))
    with open(whole, 'rb') as file:
      content = file.read()
    self._file('train/dog/cut.jpg', content[: len(content) // 2])

  def test_bad_images_are_refused_by_name_and_nothing_is_written(self):
    self._spoil()
    printed = io.StringIO()
    with (
      contextlib.redirect_stderr(printed),
      self.assertRaisesRegex(
        errors.UsageError, '3 bad images.*--max_bad_files=3'
      ),
    ):
      self._source(max_bad_files=2)
    for name in ('empty.png: empty', 'text.jpg: ', 'cut.jpg: '):
      self.assertIn(name, printed.getvalue())
    self.assertEmpty(os.listdir(self.data_dir))

  def test_bad_images_are_left_out_when_that_is_allowed(self):
    self._spoil()
    source = self._source(max_bad_files=3)
    np.testing.assert_array_equal(
      source.read('train').labels, [0, 0, 0, 1, 1, 1]
    )
    # The inspections are cached then, and still too many are bad.
    with self.assertRaisesRegex(errors.UsageError, '3 bad images'):
      self._source()

  def test_class_without_a_good_image_is_refused(self):
    self._fill()
    self._fill('test/', 1)
    self._file('train/cow/1.png', b'no image')
    with self.assertRaisesRegex(
      errors.UsageError, 'training image of cow: add'
    ):
      self._source(max_bad_files=1)

  def test_changed_folder_is_inspected_again(self):
    self._fill()
    self._fill('test/', 1)
    self.assertLen(self._source().read('train'), 6)
    self._image('train/dog/new.png')
    self.assertLen(self._source().read('train'), 7)

  def test_fingerprint_depends_on_names_and_bytes_only(self):
    self._fill()
    self._fill('test/', 1)
    before = self._source().fingerprint
    os.utime(os.path.join(self.root, 'train/cat/0.png'), (0, 0))
    self.assertEqual(self._source().fingerprint, before)
    self._image('train/cat/0.png', (50, 0, 1))
    changed = self._source().fingerprint
    self.assertNotEqual(changed, before)
    os.rename(
      os.path.join(self.root, 'train/cat/1.png'),
      os.path.join(self.root, 'train/dog/9.png'),
    )
    self.assertNotEqual(self._source().fingerprint, changed)

  def test_classes_of_very_different_sizes_are_reported(self):
    self._fill()
    self._fill('test/', 1)
    for i in range(9):
      self._image(f'train/cow/{i}.png')
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      self._source()
    self.assertIn('cat 3, cow 9, dog 3', printed.getvalue())
    self.assertIn('3.0 times as many as the smallest', printed.getvalue())

  def test_images_without_labels_are_those_at_any_depth(self):
    self._image('a.png', (10, 20, 30))
    self._image('deep/er/b.jpg', 90)
    self._file('notes.txt', b'no image')
    source = sources.Source(
      f'unlabeled:{self.root}', data_dir=self.data_dir, image_size=8
    )
    self.assertEqual(source.image_shape, (8, 8, 3))
    images = source.read('train').images
    np.testing.assert_allclose(
      images[:, 4, 4], [(10, 20, 30), (90, 90, 90)], atol=2
    )

  @parameterized.parameters((1, 0), (3, 40))
  def test_images_have_the_channels_that_are_asked_for(self, channels, colour):
    self._image('a.png', colour or (90, 90, 90))
    source = sources.Source(
      f'unlabeled:{self.root}',
      data_dir=self.data_dir,
      image_size=8,
      channels=channels,
    )
    self.assertEqual(source.read('train').images.shape, (1, 8, 8, channels))

  def test_images_of_different_sizes_need_an_image_size(self):
    self._fill('', 5)
    with self.assertRaisesRegex(errors.UsageError, 'give --image_size'):
      self._source(image_size=0)

  @parameterized.parameters('train', 'test', 'val')
  def test_split_of_bad_images_alone_is_refused(self, part):
    for name in ('train', 'test', 'val'):
      self._fill(f'{name}/', 2)
    for label in ('cat', 'dog'):
      for i in range(2):
        self._file(f'{part}/{label}/{i}.png', b'no image')
    split = {'val': 'validation'}.get(part, part)
    with self.assertRaisesRegex(
      errors.UsageError, f'no good image in its {split} split: add'
    ):
      self._source(max_bad_files=9)
    self.assertEmpty(os.listdir(self.data_dir))

  def test_errors_after_opening_leave_nothing(self):
    self._fill('', 5)
    with self.assertRaisesRegex(
      errors.UsageError, r"no split 'train\+tset\[:3\]': it has train, test"
    ):
      self._source().read('train+tset[:3]')
    with self.assertRaisesRegex(errors.UsageError, 'give --image_size'):
      self._source(image_size=0)
    self.assertEmpty(os.listdir(self.data_dir))

  def test_names_that_are_not_utf8_are_read(self):
    self._fill('', 5)
    path = os.fsencode(self.root) + b'/cat/\xe9.png'
    with open(path, 'wb') as file:
      Image.new('RGB', (9, 9), (7, 8, 9)).save(file, 'png')
    source = self._source()
    images = np.concatenate(
      [source.read(part).images for part in ('train', 'test')]
    )
    self.assertLen(images, 11)
    self.assertIn([7, 8, 9], images[:, 4, 4].tolist())
    # The cached inspections have the name, too.
    self.assertLen(self._source().read('train'), len(source.read('train')))

  def test_files_with_several_images_are_reported(self):
    self._fill('', 5)
    frame = Image.new('RGB', (9, 9))
    frame.save(
      os.path.join(self.root, 'cat/9.gif'),
      save_all=True,
      append_images=[Image.new('RGB', (9, 9), 'red')],
    )
    self.assertIn(
      'only the first image is used of 1 file with several', self._open()[0]
    )


class DepthTest(_Case):
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
    printed, source = self._open()
    self.assertIn(f'16-bit values in 10 images, up to {4 * step} ', printed)
    self.assertIn(line, printed)
    self.assertEqual(source.image_shape, (8, 8, 1))
    self.assertEqual(self._values(source), values)
    self.assertEqual(self._values(self._source(channels=3)), values)

  def test_images_without_labels_are_read_as_those_with(self):
    for i in range(5):
      self._grey(f'a/{i}.png', 4000 - i)
      self._grey(f'b/{i}.png', 4000 - i)
    labelled = self._source()
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


class CacheTest(_Case):
  """The cache of inspections is valid for one folder in one state."""

  def setUp(self):
    super().setUp()
    # Otherwise files that were just written are inspected again.
    self.enter_context(
      absltest.mock.patch.object(folder_builder, '_SETTLED_NS', 0)
    )

  def _bitmaps(self, first):
    """Writes images of equal names, sizes and times."""
    for label in ('cat', 'dog'):
      for i in range(5):
        path = self._image(f'{label}/{i}.bmp', (first, i, len(label)))
        os.utime(path, (1, 1))

  def _first(self):
    return self._source().read('train').images[0, 4, 4, 0]

  def test_folders_of_equal_names_sizes_and_times_are_two(self):
    self._bitmaps(11)
    self.assertEqual(self._first(), 11)
    self.root = self.create_tempdir().full_path
    self._bitmaps(22)
    self.assertEqual(self._first(), 22)

  @parameterized.parameters('in place', 'as another file', 'as another folder')
  def test_images_of_equal_size_and_time_written_anew_are_read(self, how):
    self._bitmaps(11)
    fingerprint = self._source().fingerprint
    self.assertEqual(self._first(), 11)
    if how == 'in place':
      self._bitmaps(22)
    elif how == 'as another file':
      for label in ('cat', 'dog'):
        for i in range(5):
          os.remove(os.path.join(self.root, f'{label}/{i}.bmp'))
      self._bitmaps(22)
    else:
      os.rename(self.root, f'{self.root}_before')
      self._bitmaps(22)
    self.assertEqual(self._first(), 22)
    self.assertNotEqual(self._source().fingerprint, fingerprint)

  def test_cached_folder_is_not_inspected_and_its_copy_not_prepared_again(
    self,
  ):
    self._bitmaps(11)
    source = self._source()
    source.read('train')
    before = os.listdir(os.path.join(self.data_dir, 'folder'))
    with absltest.mock.patch.object(
      image_files, 'inspect', side_effect=OSError
    ):
      self.assertEqual(self._first(), 11)
    copy = os.path.join(self.create_tempdir().full_path, 'copy')
    shutil.copytree(self.root, copy)
    self.root = copy
    self.assertEqual(self._source().fingerprint, source.fingerprint)
    self.assertEqual(self._first(), 11)
    after = os.listdir(os.path.join(self.data_dir, 'folder'))
    self.assertLen({*after} - {*before}, 1)  # the cache of the copy

  def test_folder_that_was_just_written_is_inspected_again(self):
    with absltest.mock.patch.object(
      folder_builder, '_SETTLED_NS', 3_600_000_000_000
    ):
      self._bitmaps(11)
      self._source().read('train')
      self.assertIn('decoding 10 images', self._open()[0])

  def test_image_that_changes_while_it_is_read_stops_the_reading(self):
    self._bitmaps(11)
    source = self._source()
    self._image('dog/1.bmp', (99, 0, 0))
    with self.assertRaisesRegex(
      errors.UsageError, 'dog/1.bmp has changed while'
    ):
      source.read('train')

  @parameterized.parameters('cat/3.bmp', 'dog/3.bmp')
  def test_fingerprint_tells_which_split_an_image_is_in(self, path):
    self._bitmaps(11)
    for part in ('train', 'test'):
      shutil.copytree(self.root, os.path.join(self.root, '..', 'x', part))
    self.root = os.path.join(self.root, '..', 'x')
    self.addCleanup(shutil.rmtree, self.root)
    before = self._source().fingerprint
    os.remove(os.path.join(self.root, 'test', path))
    middle = self._source().fingerprint
    self._image(f'test/{path}', (0, 0, 1))
    self.assertLen({before, middle, self._source().fingerprint}, 3)


class SameImagesTest(_Case):
  """Files with the same bytes in two places."""

  def test_images_in_two_splits_are_reported(self):
    self._fill('train/')
    self._fill('test/', 2)
    printed, _ = self._open()
    self.assertIn('warning: 4 images in more than one split', printed)
    self.assertIn('(train/cat/0.png = test/cat/0.png; ', printed)
    self.assertNotIn('more than one class', printed)

  def test_images_in_two_classes_are_reported(self):
    self._fill('', 5)
    shutil.copy(
      os.path.join(self.root, 'cat/2.png'), os.path.join(self.root, 'dog/x.png')
    )
    printed, _ = self._open()
    self.assertIn('warning: 1 image in more than one class', printed)
    self.assertIn('cat/2.png', printed)
    self.assertIn('dog/x.png', printed)

  def test_different_images_are_not_reported(self):
    self._fill('', 9)
    self.assertNotIn('warning', self._open()[0])

  def _recipe(self, unlabelled, **values):
    return recipe_flags.override(
      catalogue.get('pictures'),
      {
        'dataset': f'folder:{self.root}',
        'unlabeled': unlabelled,
        'image_size': 8,
        'resizing': 'stretch',
        'validation_examples': 2,
        **values,
      },
    ).data

  def test_labelled_images_without_their_labels_are_left_out(self):
    self._fill('train/', 4)
    self._fill('test/', 2)
    unlabelled = self.create_tempdir().full_path
    for path in ('train/cat/0.png', 'test/dog/1.png', 'test/cat/0.png'):
      shutil.copy(
        os.path.join(self.root, path),
        os.path.join(unlabelled, path.replace('/', '_')),
      )
    recipe = self._recipe(unlabelled)
    with self.assertRaisesRegex(
      errors.UsageError,
      'only images that the data set has too: give --unlabeled',
    ):
      datasets.Dataset.from_recipe(recipe, self.data_dir)
    for i in range(5):
      self._image(os.path.join(unlabelled, f'{i}.png'), (9, 9, i))
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      dataset = datasets.Dataset.from_recipe(recipe, self.data_dir)
    self.assertIn('left out 3 of 8 images without labels', printed.getvalue())
    self.assertLen(dataset.train, 6)
    np.testing.assert_array_equal(
      dataset.every.images[6:, 4, 4], [(9, 9, i) for i in range(5)]
    )

  def test_validation_images_of_a_folder_serve_validation(self):
    self._fill('train/', 5)
    self._fill('valid/', 3)
    recipe = self._recipe('')
    dataset = datasets.Dataset.from_recipe(recipe, self.data_dir)
    self.assertLen(dataset.train, 8)
    self.assertLen(dataset.test, 2)
    np.testing.assert_array_equal(
      dataset.validation.images[:, 4, 4],
      [(red, i, 0) for red in (50, 200) for i in range(3)],
    )
    self.assertLen(dataset.part(4).validation, 4)
    self.assertLen(dataset.at(4).validation, 6)
    # A split that is used for testing is not used for validation.
    recipe = self._recipe('', test_split='validation')
    dataset = datasets.Dataset.from_recipe(recipe, self.data_dir)
    self.assertLen(dataset.train, 6)
    self.assertLen(dataset.validation, 2)
    self.assertLen(dataset.test, 6)


if __name__ == '__main__':
  absltest.main()
