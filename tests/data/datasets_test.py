"""Data sets by TFDS name: what they give, and what is refused with its fix."""

import dataclasses
import os
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import catalogue, errors, recipes
from ft_tf.data import datasets, records


class _Tiny(tfds.core.GeneratorBasedBuilder):
  """Images of one colour each: the value of image k is 40 * k."""

  VERSION = tfds.core.Version('1.0.0')
  SHAPE = (None, None, 3)
  DTYPE = np.uint8
  KEYS = ('image', 'label')
  SIZES = ((4, 6), (9, 5), (7, 7), (2, 2))

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=self.SHAPE, dtype=self.DTYPE),
          'label': tfds.features.ClassLabel(names=['cat', 'dog']),
          'caption': tfds.features.Text(),
        }
      ),
      supervised_keys=self.KEYS,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for key, (height, width) in enumerate(self.SIZES):
      shape = (height, width, self.SHAPE[-1] or 3)
      image = np.full(shape, 40 * key, self.DTYPE)
      yield key, {'image': image, 'label': key % 2, 'caption': 'an image'}


class TinyPhotos(_Tiny):
  """Photos of different sizes."""


class TinyGrey(_Tiny):
  """Grey images, all of one size that is not square."""

  SHAPE = (6, 4, 1)
  SIZES = ((6, 4),) * 3


class TinyStripes(_Tiny):
  """One image whose every fourth row is white, the others black."""

  SHAPE = (16, 16, 1)

  def _generate_examples(self):
    image = np.zeros(self.SHAPE, np.uint8)
    image[::4] = 255
    yield 0, {'image': image, 'label': 0, 'caption': 'stripes'}


class TinyShards(_Tiny):
  """Images in several files, as those of large data sets."""

  SHAPE = (1, 1, 1)

  def _generate_examples(self):
    for key in range(120):
      image = np.full(self.SHAPE, key, self.DTYPE)
      yield key, {'image': image, 'label': key % 2, 'caption': 'a pixel'}


class TinyDepth(_Tiny):
  """Images of 16 bits."""

  SHAPE = (4, 4, 1)
  DTYPE = np.uint16
  SIZES = ((4, 4),) * 3


class TinyAlpha(_Tiny):
  """Images of 4 channels."""

  SHAPE = (4, 4, 4)
  SIZES = ((4, 4),) * 3


class TinyMixed(_Tiny):
  """Images with any number of channels."""

  SHAPE = (None, None, None)


class TinyUnlabelled(_Tiny):
  """A data set that does not say what its input and target are."""

  KEYS = None


class TinyCaptions(_Tiny):
  """A data set whose target is a text."""

  KEYS = ('image', 'caption')


_FOLDER = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))


def setUpModule():
  tfds.disable_progress_bar()
  for builder in (
    TinyPhotos,
    TinyGrey,
    TinyStripes,
    TinyDepth,
    TinyAlpha,
    TinyMixed,
    TinyUnlabelled,
    TinyCaptions,
  ):
    builder(data_dir=_FOLDER.name).download_and_prepare()
  TinyShards(data_dir=_FOLDER.name).download_and_prepare(
    download_config=tfds.download.DownloadConfig(num_shards=3)
  )


def tearDownModule():
  _FOLDER.cleanup()


def _source(name, **kwargs):
  return datasets.Source(name, data_dir=_FOLDER.name, **kwargs)


def _dataset(**kwargs):
  return datasets.Dataset(_source('digits'), **kwargs)


def _keys(examples):
  """Returns each image as bytes: those of the digits are all different."""
  return [image.tobytes() for image in examples.images]


class SourceTest(parameterized.TestCase):
  def test_unknown_name_is_refused_with_names_that_work(self):
    with self.assertRaisesRegex(
      errors.UsageError, "'cifar11'.*--dataset takes digits.*cifar10"
    ):
      _source('cifar11')

  def test_unknown_version_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'cifar10:9.9.9.*--dataset'):
      _source('cifar10:9.9.9')

  def test_data_set_that_is_not_prepared_is_refused_with_the_command(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      f'cifar10 is not prepared in {_FOLDER.name}: run `bin/prepare_data.py '
      f'--dataset=cifar10 --data_dir={_FOLDER.name}`, or give the --data_dir',
    ):
      _source('cifar10')

  def test_folder_that_is_not_there_is_refused_and_not_made(self):
    missing = os.path.join(self.create_tempdir().full_path, 'missing')
    with self.assertRaisesRegex(
      errors.UsageError, f'there is no folder {missing}: --data_dir is'
    ):
      datasets.Source('cifar10', data_dir=missing)
    self.assertFalse(os.path.exists(missing))

  def test_digits_in_a_folder_that_cannot_be_written_are_refused(self):
    file = self.create_tempfile().full_path
    source = datasets.Source('digits', data_dir=os.path.join(file, 'below'))
    with self.assertRaisesRegex(
      errors.UsageError, 'cannot prepare digits in .*another --data_dir'
    ):
      source.read('train')

  def test_no_image_is_read_and_none_prepared_before_read(self):
    folder = self.create_tempdir().full_path
    source = datasets.Source('digits', data_dir=folder)
    self.assertEqual(source.image_shape, (8, 8, 1))
    self.assertEmpty(os.listdir(folder))

  @parameterized.parameters('trian', 'train[:abc]', '', 'train[700:800]')
  def test_unknown_split_is_refused_with_the_splits_there_are(self, split):
    with self.assertRaisesRegex(
      errors.UsageError, 'digits has no split .*train, test.*train\\[:80%\\]'
    ):
      _source('digits').read(split)

  @parameterized.parameters('train[:0]', 'train[:0%]')
  def test_split_without_images_is_refused(self, split):
    with self.assertRaisesRegex(errors.UsageError, 'digits'):
      _source('digits').read(split)

  def test_slices_of_a_split_lie_end_to_end(self):
    source = _source('digits')
    whole = source.read('train')
    first, second = source.read('train[:80%]'), source.read('train[80%:]')
    self.assertLen(first, 480)
    self.assertLen(second, 120)
    both = np.concatenate([first.images, second.images])
    np.testing.assert_array_equal(both, whole.images)
    self.assertLen(source.read('train+test[:100]'), 700)

  def test_files_are_read_one_after_the_other(self):
    source = _source('tiny_shards')
    whole = source.read('train').images.ravel()
    parts = [
      source.read(f'train[{k}%:{k + 25}%]').images.ravel()
      for k in (0, 25, 50, 75)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(np.sort(whole), np.arange(120))

  def test_images_of_one_size_are_kept_as_they_are(self):
    source = _source('tiny_grey')
    examples = source.read('train')
    self.assertEqual(source.image_shape, (6, 4, 1))
    self.assertEqual(examples.images.shape, (3, 6, 4, 1))
    self.assertEqual(examples.images.dtype, np.uint8)
    self.assertEqual(examples.labels.dtype, np.int64)
    # Value 40k came with label k % 2.
    values = examples.images[:, 0, 0, 0]
    self.assertEqual(set(values), {0, 40, 80})
    np.testing.assert_array_equal(examples.labels, values // 40 % 2)

  def test_squares_of_one_size_are_seen_whole_however_they_are_resized(self):
    for size in (0, 8, 12, 5):
      crop, stretch = (
        _source('digits', image_size=size, resizing=kind, trains=False)
        for kind in ('crop', 'stretch')
      )
      self.assertEqual(crop.image_shape, stretch.image_shape)
      np.testing.assert_array_equal(
        crop.read('test[:9]').images, stretch.read('test[:9]').images
      )
      self.assertIsNone(crop.otherwise())
    with self.assertRaisesRegex(errors.UsageError, 'wants one size'):
      _source('tiny_grey', resizing='crop')

  @parameterized.parameters('stretch', 'crop')
  def test_channels_are_converted_to_those_asked_for(self, resizing):
    values = {'image_size': 4, 'resizing': resizing, 'trains': False}
    grey = _source('tiny_grey', **values).read('train')
    colours = _source('tiny_grey', channels=3, **values)
    self.assertEqual(colours.image_shape, (4, 4, 3))
    np.testing.assert_array_equal(
      colours.read('train').images, np.repeat(grey.images, 3, axis=-1)
    )
    back = _source('tiny_photos', channels=1, **values).read('train')
    self.assertEqual(back.images.shape, (4, 4, 4, 1))
    self.assertCountEqual(back.images[:, 0, 0, 0], [0, 40, 80, 120])

  def test_preprocessing_goes_along(self):
    dataset = datasets.Dataset(_source('digits', image_size=12))
    self.assertEqual(
      dataset.for_model((6, 6, 1)).test.take(np.arange(2)).preprocessing,
      records.Preprocessing('stretch', ((12, 12), (6, 6))),
    )
    self.assertIs(dataset.for_model((None, None, 1)), dataset)
    self.assertIs(dataset.for_model((16, 16, 1)), dataset)
    self.assertEqual(
      _dataset().test.preprocessing, records.Preprocessing('none', ())
    )

  def test_label_names_are_the_data_sets(self):
    self.assertEqual(_source('tiny_grey').label_names, ['cat', 'dog'])

  def test_images_that_differ_in_size_are_refused_without_image_size(self):
    with self.assertRaisesRegex(
      errors.UsageError, 'tiny_photos differ in size: give --image_size'
    ):
      _source('tiny_photos')

  def test_images_that_differ_in_size_are_resized_to_image_size(self):
    source = _source('tiny_photos', image_size=5)
    examples = source.read('train')
    self.assertEqual(source.image_shape, (5, 5, 3))
    self.assertEqual(examples.images.shape, (4, 5, 5, 3))
    # One colour stays that colour, whatever the size was.
    np.testing.assert_array_equal(
      np.sort(examples.images.reshape(4, -1), axis=0),
      np.repeat([[0], [40], [80], [120]], 75, axis=1),
    )

  def test_shrinking_averages_pixels_instead_of_dropping_them(self):
    # Bilinear interpolation alone would see black rows only.
    small = _source('tiny_stripes', image_size=4).read('train').images[0]
    self.assertEqual(small.dtype, np.uint8)
    np.testing.assert_allclose(small, 255 / 4, atol=25)

  @parameterized.parameters('tiny_unlabelled', 'tiny_captions')
  def test_data_set_that_is_not_classification_is_refused(self, name):
    with self.assertRaisesRegex(
      errors.UsageError,
      f'{name} is not an image classification data set: --dataset takes',
    ):
      _source(name)

  def test_images_of_16_bits_are_refused_rather_than_cut_to_8(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_depth'):
      _source('tiny_depth').read('train')

  def test_images_of_4_channels_are_refused_when_they_are_opened(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_alpha .* 4 channels'):
      _source('tiny_alpha')

  def test_images_with_any_number_of_channels_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_mixed'):
      _source('tiny_mixed', image_size=8).read('train')


class DatasetTest(absltest.TestCase):
  def test_validation_and_train_share_no_image_and_leave_out_none(self):
    dataset = _dataset(validation_examples=100)
    train, validation = _keys(dataset.train), _keys(dataset.validation)
    self.assertLen(validation, 100)
    self.assertLen(train, 500)
    every = _keys(_source('digits').read('train'))
    self.assertTrue(sorted(train + validation) == sorted(every))

  def test_validation_is_never_from_test(self):
    dataset = _dataset(validation_examples=100)
    self.assertEmpty(set(_keys(dataset.validation)) & set(_keys(dataset.test)))
    self.assertLen(dataset.test, 1197)

  def test_labels_go_with_their_images(self):
    every = _source('digits').read('train')
    label = dict(zip(_keys(every), every.labels, strict=True))
    dataset = _dataset(validation_examples=100)
    for part in (dataset.train, dataset.validation):
      self.assertEqual([label[key] for key in _keys(part)], list(part.labels))

  def test_validation_is_a_mixed_choice_and_not_the_head_of_the_file(self):
    head = _keys(_source('digits').read('train'))[:100]
    validation = _keys(_dataset(validation_examples=100).validation)
    self.assertLess(len(set(head) & set(validation)), 40)

  def test_validation_is_the_same_for_every_seed_of_a_recipe(self):
    chosen = []
    for seed in (0, 1):
      recipe = recipes.override(
        catalogue.digits(),
        {'seed': seed, 'view_seed': seed, 'validation_examples': 100},
      )
      dataset = datasets.Dataset.from_recipe(recipe.data, _FOLDER.name)
      chosen.append(_keys(dataset.validation))
    self.assertLen(chosen[0], 100)
    self.assertTrue(chosen[0] == chosen[1])  # A diff would be pages long.

  def test_recipe_decides_splits_and_size(self):
    data = dataclasses.replace(
      catalogue.digits().data,
      train_split='train[:50%]',
      test_split='test[:10]',
      validation_examples=20,
      image_size=10,
    )
    dataset = datasets.Dataset.from_recipe(data, _FOLDER.name)
    self.assertEqual(dataset.image_shape, (10, 10, 1))
    self.assertEqual(dataset.train.images.shape, (280, 10, 10, 1))
    self.assertLen(dataset.validation, 20)
    self.assertLen(dataset.test, 10)

  def test_without_validation_examples_all_images_are_trained_on(self):
    dataset = _dataset()
    self.assertEmpty(dataset.validation)
    np.testing.assert_array_equal(
      dataset.train.images, _source('digits').read('train').images
    )

  def test_more_validation_examples_than_images_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      'train of digits has 600 images: --validation_examples=600 leaves none',
    ):
      _dataset(validation_examples=600).read()

  def test_read_shows_at_once_that_the_test_split_is_wrong(self):
    with self.assertRaisesRegex(errors.UsageError, "no split 'tset'"):
      _dataset(test_split='tset').read()


class UnlabelledTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    for number in range(5):
      Image.new('L', (30, 20), 50 * number).save(
        os.path.join(self._root, f'{number}.png')
      )

  def _dataset(self, **values):
    data = dataclasses.replace(
      catalogue.digits().data,
      validation_examples=100,
      unlabeled=self._root,
      **values,
    )
    return datasets.Dataset.from_recipe(data, _FOLDER.name)

  def test_pictures_stand_behind_those_with_labels(self):
    dataset = self._dataset()
    train, every = dataset.train, dataset.every
    self.assertLen(train, 500)
    self.assertLen(every, 505)
    self.assertAlmostEqual(dataset.labelled_share, 500 / 505)
    np.testing.assert_array_equal(every.images[:500], train.images)
    np.testing.assert_array_equal(every.labels[:500], train.labels)
    np.testing.assert_array_equal(every.labels[500:], [datasets.UNLABELLED] * 5)
    np.testing.assert_array_equal(
      every.images[500:, 8, 8, 0], [0, 50, 100, 150, 200]
    )

  def test_without_them_every_image_has_a_label(self):
    dataset = _dataset()
    self.assertIs(dataset.every, dataset.train)
    self.assertEqual(dataset.labelled_share, 1)

  def test_other_pictures_make_another_data_set(self):
    before = self._dataset().fingerprint
    self.assertEqual(self._dataset().fingerprint, before)
    Image.new('L', (8, 8)).save(os.path.join(self._root, 'more.png'))
    self.assertNotEqual(self._dataset().fingerprint, before)

  def test_rehearsals_see_some_of_both(self):
    part = self._dataset().part(16)
    self.assertLen(part.train, 14)
    self.assertLen(part.every, 19)


class SmallerTest(absltest.TestCase):
  def test_every_part_is_made_smaller_and_labels_stay(self):
    dataset = _dataset(validation_examples=100)
    smaller = dataset.at(4)
    self.assertEqual(smaller.image_shape, (4, 4, 1))
    for name in ('train', 'every', 'validation', 'test'):
      ours, theirs = getattr(smaller, name), getattr(dataset, name)
      np.testing.assert_array_equal(ours.labels, theirs.labels)
      np.testing.assert_array_equal(
        ours.images, records.shrink(tf.constant(theirs.images), (4, 4))
      )
    self.assertIs(dataset.at(4), smaller)
    self.assertEqual(dataset.part(16).at(4).train.images.shape, (14, 4, 4, 1))

  def test_own_size_is_the_data_set_itself(self):
    dataset = _dataset()
    self.assertIs(dataset.at(0), dataset)
    self.assertIs(dataset.at(8), dataset)

  def test_larger_images_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError, '--student_image_size=16: .* of 8x8, made smaller'
    ):
      _dataset().at(16)


class StatisticsTest(absltest.TestCase):
  def test_channel_that_does_not_vary_is_divided_by_nothing(self):
    images = np.full((3, 4, 4, 2), 51, np.uint8)
    images[0, ..., 1] = 255
    examples = datasets.Examples(images, np.arange(3))
    mean, std = datasets.statistics(examples)
    self.assertEqual(mean, (0.2, 0.467))
    self.assertEqual(std, (1.0, 0.377))


class ExamplesTest(absltest.TestCase):
  def test_take_keeps_images_and_labels_together(self):
    examples = datasets.Examples(
      np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), np.array([7, 8, 9])
    )
    taken = examples.take(np.array([2, 0]))
    self.assertLen(taken, 2)
    np.testing.assert_array_equal(taken.labels, [9, 7])
    np.testing.assert_array_equal(taken.images[:, 0, 0, 0], [8, 0])


class MemoryTest(absltest.TestCase):
  """Of digits: 600 images of 64 bytes to train on, 1,197 to test on."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

  def _dataset(self, free, **values):
    recipe = recipes.override(catalogue.digits(), {'image_size': 0, **values})
    with mock.patch.object(datasets.memory, 'available', lambda: free):
      dataset = datasets.Dataset.from_recipe(recipe.data, self.folder)
      dataset.read()
    return dataset

  def test_all_splits_and_copies_count_together(self):
    # Those to train on are copied once; a quarter of the memory stays free.
    wanted = 64 * (2 * 600 + 1197)
    self._dataset(wanted / 0.75 + 1)
    with self.assertRaisesRegex(
      errors.UsageError, 'digits, .* take 0.000143 GiB.*--resizing=crop'
    ):
      self._dataset(wanted / 0.75 - 1)

  def test_parts_of_splits_count_as_they_are(self):
    wanted = 64 * (2 * 60 + 1197)
    values = {'train_split': 'train[:10%]', 'validation_examples': 8}
    self._dataset(wanted / 0.75 + 1, **values)
    with self.assertRaisesRegex(errors.UsageError, 'free memory'):
      self._dataset(wanted / 0.75 - 1, **values)

  def test_split_alone_is_checked_too(self):
    source = datasets.Source('digits', data_dir=self.folder)
    with (
      mock.patch.object(datasets.memory, 'available', lambda: 64 * 1197),
      self.assertRaisesRegex(errors.UsageError, r'such as test\[:10%\]'),
    ):
      source.read('test')

  def test_streams_share_one_tensor(self):
    dataset = self._dataset(2**40)
    self.assertIs(dataset.train.tensor, dataset.train.tensor)
    np.testing.assert_array_equal(dataset.train.tensor, dataset.train.images)


if __name__ == '__main__':
  absltest.main()
