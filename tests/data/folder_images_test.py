"""Folders of images as a data set: decoded images, splits, changed files."""

import contextlib
import io
import os
import shutil

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import catalogue, errors, recipe_flags
from ft_tf.data import (
  datasets,
  folder_index,
  image_files,
  image_ops,
  sampling,
  sources,
  stores,
  views,
)
from tests import image_folders


def setUpModule():
  tfds.disable_progress_bar()


class FolderTest(image_folders.FolderCase):
  @parameterized.parameters('stretch', 'crop')
  def test_images_come_with_the_class_of_their_folder(self, resizing):
    self.fill()
    self.fill('test/', 2)
    source = self.source(resizing=resizing)
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
    self.fill()
    self.image('train/cat/a.jpg', (90, 90, 90))
    self.image('train/cat/b.bmp', (90, 90, 90))
    self.image('train/cat/c.webp', (90, 90, 90), lossless=True)
    self.image('train/cat/d.JPEG', 90)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    half = Image.new('RGB', (16, 16))
    half.paste((200, 200, 200), (0, 0, 8, 16))  # the left half is bright
    path = os.path.join(self.root, 'train/cat/e.jpg')
    half.save(path, exif=exif, quality=95)
    self.fill('test/', 1)
    images = self.source(image_size=4).read('train').images[3:8]
    for image in images[:4]:
      np.testing.assert_allclose(image, np.full((4, 4, 3), 90), atol=2)
    self.assertGreater(images[4][0].min(), 150)  # the top half now
    self.assertLess(images[4][3].max(), 50)

  @parameterized.parameters('crop', 'stretch')
  def test_files_are_read_as_if_they_were_png(self, resizing):
    """JPEG is decoded by TensorFlow, other files are converted when read."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 21, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    for i in range(5):
      self.image(f'cat/{i}.png', (i, 0, 0))
    for name, mode, options in (
      ('rotated.jpg', 'RGB', {'exif': exif}),
      ('rotated_grey.jpg', 'L', {'exif': exif}),
      ('rotated.png', 'RGB', {'exif': exif}),
      ('alpha.png', 'RGBA', {}),
      ('cmyk.jpg', 'CMYK', {}),
      ('deep/er/nested.webp', 'RGB', {'lossless': True}),
    ):
      path = os.path.join(self.root, 'dog', name)
      os.makedirs(os.path.dirname(path), exist_ok=True)
      source = noise if mode == 'RGBA' else noise[..., :3]
      Image.fromarray(source).convert(mode).save(path, **options)
    shown = {}
    for split in ('train', 'test'):
      examples = self.source(resizing=resizing).read(split)
      for image in examples.images[:]:
        shown[image.tobytes()] = image
    wanted = set()
    for folder, _, names in os.walk(self.root):
      for name in names:
        with open(os.path.join(folder, name), 'rb') as file:
          png = image_files.encode(file.read(), channels=3, bits=0)
        image = image_ops.make_evaluation_image(png, (8, 8, 3), resizing)
        wanted.add(image.numpy().tobytes())
    self.assertEqual(shown.keys(), wanted)

  def test_grey_images_have_one_channel(self):
    for label in ('a', 'b'):
      for i in range(5):
        self.image(f'{label}/{i}.png', 40 * i)
    self.assertEqual(self.source().image_shape, (8, 8, 1))

  def test_changed_folder_is_inspected_again(self):
    self.fill()
    self.fill('test/', 1)
    self.assertLen(self.source().read('train'), 6)
    self.image('train/dog/new.png')
    self.assertLen(self.source().read('train'), 7)

  def test_fingerprint_depends_on_names_and_bytes_only(self):
    self.fill()
    self.fill('test/', 1)
    before = self.source().fingerprint
    os.utime(os.path.join(self.root, 'train/cat/0.png'), (0, 0))
    self.assertEqual(self.source().fingerprint, before)
    self.image('train/cat/0.png', (50, 0, 1))
    changed = self.source().fingerprint
    self.assertNotEqual(changed, before)
    os.rename(
      os.path.join(self.root, 'train/cat/1.png'),
      os.path.join(self.root, 'train/dog/9.png'),
    )
    self.assertNotEqual(self.source().fingerprint, changed)

  def test_images_without_labels_are_those_at_any_depth(self):
    self.image('a.png', (10, 20, 30))
    self.image('deep/er/b.jpg', 90)
    self.file('notes.txt', b'no image')
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
    self.image('a.png', colour or (90, 90, 90))
    source = sources.Source(
      f'unlabeled:{self.root}',
      data_dir=self.data_dir,
      image_size=8,
      channels=channels,
    )
    self.assertEqual(source.read('train').images.shape, (1, 8, 8, channels))

  def test_images_of_different_sizes_need_an_image_size(self):
    self.fill('', 5)
    with self.assertRaisesRegex(errors.UsageError, 'give --image_size'):
      self.source(image_size=0)

  def test_errors_after_opening_leave_nothing(self):
    self.fill('', 5)
    with self.assertRaisesRegex(
      errors.UsageError, r"no split 'train\+tset\[:3\]': it has train, test"
    ):
      self.source().read('train+tset[:3]')
    with self.assertRaisesRegex(errors.UsageError, 'give --image_size'):
      self.source(image_size=0)
    self.assertEmpty(os.listdir(self.data_dir))

  def test_names_that_are_not_utf8_are_read(self):
    self.fill('', 5)
    path = os.fsencode(self.root) + b'/cat/\xe9.png'
    with open(path, 'wb') as file:
      Image.new('RGB', (9, 9), (7, 8, 9)).save(file, 'png')
    source = self.source()
    images = np.concatenate(
      [source.read(part).images for part in ('train', 'test')]
    )
    self.assertLen(images, 11)
    self.assertIn([7, 8, 9], images[:, 4, 4].tolist())
    # The cached inspections have the name, too.
    self.assertLen(self.source().read('train'), len(source.read('train')))


class CacheTest(image_folders.FolderCase):
  """What is known of images is valid for one folder in one state."""

  def setUp(self):
    super().setUp()
    # Otherwise files that were just written are inspected again.
    self.enter_context(
      absltest.mock.patch.object(folder_index, '_SETTLED_NS', 0)
    )

  def _bitmaps(self, first):
    """Writes images of equal names, sizes and times."""
    for label in ('cat', 'dog'):
      for i in range(5):
        path = self.image(f'{label}/{i}.bmp', (first, i, len(label)))
        os.utime(path, (1, 1))

  def _first(self):
    return self.source().read('train').images[0, 4, 4, 0]

  def test_folders_of_equal_names_sizes_and_times_are_two(self):
    self._bitmaps(11)
    self.assertEqual(self._first(), 11)
    self.root = self.create_tempdir().full_path
    self._bitmaps(22)
    self.assertEqual(self._first(), 22)

  @parameterized.parameters('in place', 'as another file', 'as another folder')
  def test_images_of_equal_size_and_time_written_anew_are_read(self, how):
    self._bitmaps(11)
    fingerprint = self.source().fingerprint
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
    self.assertNotEqual(self.source().fingerprint, fingerprint)

  def test_unchanged_folder_is_not_inspected_and_its_copy_is_equal(self):
    self._bitmaps(11)
    source = self.source()
    source.read('train')
    before = os.listdir(os.path.join(self.data_dir, 'folder'))
    with absltest.mock.patch.object(
      image_files, 'inspect_bytes', side_effect=KeyError
    ):
      self.assertEqual(self._first(), 11)
    copy = os.path.join(self.create_tempdir().full_path, 'copy')
    shutil.copytree(self.root, copy)
    self.root = copy
    self.assertEqual(self.source().fingerprint, source.fingerprint)
    self.assertEqual(self._first(), 11)
    after = os.listdir(os.path.join(self.data_dir, 'folder'))
    self.assertLen({*after} - {*before}, 1)  # the index of the copy

  def test_folder_that_was_just_written_is_inspected_again(self):
    with absltest.mock.patch.object(
      folder_index, '_SETTLED_NS', 3_600_000_000_000
    ):
      self._bitmaps(11)
      self.source().read('train')
      self.assertIn('decoding 10 images', self.open()[0])

  def test_image_that_changes_while_it_is_read_stops_the_reading(self):
    self._bitmaps(11)
    source = self.source()
    self.image('dog/1.bmp', (99, 0, 0))
    with self.assertRaisesRegex(
      errors.TrainingError, 'dog/1.bmp has changed .*other bytes.*: restore it'
    ):
      source.read('train')
    os.remove(os.path.join(self.root, 'dog/1.bmp'))
    with self.assertRaisesRegex(
      errors.TrainingError, 'dog/1.bmp has changed .*No such file'
    ):
      source.read('train')

  def test_image_that_changes_during_training_stops_it(self):
    self._bitmaps(11)
    recipe = recipe_flags.override(catalogue.get('pictures'), {'batch_size': 4})
    examples = self.source(resizing='crop').read('train')
    self.image('dog/1.bmp', (99, 0, 0))
    stream = views.stream(
      examples, recipe.data, seed=0, first_step=0, last_step=2
    )
    with (
      self.assertRaisesRegex(errors.TrainingError, '^[^ ]*dog/1.bmp has chang'),
      stores.explained(),
    ):
      list(stream)

  def test_file_that_was_only_touched_is_still_the_same(self):
    self._bitmaps(11)
    images = self.source(resizing='crop').read('train').images
    before = images[:]
    for label in ('cat', 'dog'):
      for i in range(5):
        os.utime(os.path.join(self.root, f'{label}/{i}.bmp'), (5, 5))
    np.testing.assert_array_equal(images[:], before)

  def test_labels_and_digest_are_known_without_reading(self):
    self._bitmaps(11)
    examples = self.source(resizing='crop').read('train')
    with absltest.mock.patch.object(image_files, 'read', side_effect=KeyError):
      np.testing.assert_array_equal(examples.labels, [0] * 4 + [1] * 4)
      np.testing.assert_array_equal(
        sampling.sample(examples, 4).labels_at(np.arange(4)), [0, 1, 0, 1]
      )
      digest = examples.digest
      self.assertNotEqual(examples.take(np.arange(7)).digest, digest)
    self._bitmaps(12)
    self.assertNotEqual(
      self.source(resizing='crop').read('train').digest, digest
    )

  @parameterized.parameters('cat/3.bmp', 'dog/3.bmp')
  def test_fingerprint_tells_which_split_an_image_is_in(self, path):
    self._bitmaps(11)
    for part in ('train', 'test'):
      shutil.copytree(self.root, os.path.join(self.root, '..', 'x', part))
    self.root = os.path.join(self.root, '..', 'x')
    self.addCleanup(shutil.rmtree, self.root)
    before = self.source().fingerprint
    os.remove(os.path.join(self.root, 'test', path))
    middle = self.source().fingerprint
    self.image(f'test/{path}', (0, 0, 1))
    self.assertLen({before, middle, self.source().fingerprint}, 3)


class DatasetTest(image_folders.FolderCase):
  """The images that a data set takes of its folders."""

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
    self.fill('train/', 4)
    self.fill('test/', 2)
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
      self.image(os.path.join(unlabelled, f'{i}.png'), (9, 9, i))
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      dataset = datasets.Dataset.from_recipe(recipe, self.data_dir)
    self.assertIn('left out 3 of 8 images without labels', printed.getvalue())
    self.assertLen(dataset.train, 6)
    np.testing.assert_array_equal(
      dataset.every.images[6:, 4, 4], [(9, 9, i) for i in range(5)]
    )

  def test_validation_images_of_a_folder_serve_validation(self):
    self.fill('train/', 5)
    self.fill('valid/', 3)
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
