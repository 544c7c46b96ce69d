"""Sources of labelled images: names, splits, sizes, channels, and errors."""

import os
import tempfile

import numpy as np
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import datasets, image_ops, sources


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
  return sources.Source(name, data_dir=_FOLDER.name, **kwargs)


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
      f'cifar10 is not prepared in {_FOLDER.name}: run `ft-tf prepare-data '
      f'--dataset=cifar10 --data_dir={_FOLDER.name}`, or give the --data_dir',
    ):
      _source('cifar10')

  def test_missing_folder_is_refused_and_not_created(self):
    missing = os.path.join(self.create_tempdir().full_path, 'missing')
    with self.assertRaisesRegex(
      errors.UsageError, f'there is no folder {missing}: --data_dir is'
    ):
      sources.Source('cifar10', data_dir=missing)
    self.assertFalse(os.path.exists(missing))

  def test_digits_in_a_folder_that_cannot_be_written_are_refused(self):
    file = self.create_tempfile().full_path
    source = sources.Source('digits', data_dir=os.path.join(file, 'below'))
    with self.assertRaisesRegex(
      errors.UsageError, 'cannot prepare digits in .*another --data_dir'
    ):
      source.read('train')

  def test_no_image_is_read_and_none_prepared_before_read(self):
    folder = self.create_tempdir().full_path
    source = sources.Source('digits', data_dir=folder)
    self.assertEqual(source.image_shape, (8, 8, 1))
    self.assertEmpty(os.listdir(folder))

  @parameterized.parameters('trian', 'train[:abc]', '', 'train[700:800]')
  def test_unknown_split_is_refused_with_the_splits_there_are(self, split):
    with self.assertRaisesRegex(
      errors.UsageError, 'digits has no split .*train, test.*train\\[:80%\\]'
    ):
      _source('digits').read(split)

  @parameterized.parameters('trian', 'train[x:]', 'train[::2]', 'train[:101%]')
  def test_split_is_refused_before_the_data_are_prepared(self, split):
    folder = self.create_tempdir().full_path
    source = sources.Source('digits', data_dir=folder)
    with self.assertRaisesRegex(errors.UsageError, 'digits has no split'):
      source.read(split)
    self.assertEmpty(os.listdir(folder))

  @parameterized.parameters(
    *('train[:0]', 'train[:0%]', 'train[5:2]', 'train[60%:40%]'),
    *('train[-3:-7]', 'train[5:2]+test', 'test+train[5:2]'),
  )
  def test_split_without_images_is_refused(self, split):
    with self.assertRaisesRegex(errors.UsageError, 'digits'):
      _source('digits').read(split)

  def test_slices_of_a_split_do_not_overlap(self):
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

  def test_squares_of_one_size_are_never_cropped_for_evaluation(self):
    for size in (0, 8, 12, 5):
      crop, stretch = (
        _source('digits', image_size=size, resizing=kind)
        for kind in ('crop', 'stretch')
      )
      self.assertEqual(crop.image_shape, stretch.image_shape)
      np.testing.assert_array_equal(
        crop.read('test[:9]').images, stretch.read('test[:9]').images
      )
      self.assertIsNone(crop.with_other_resizing())
    with self.assertRaisesRegex(errors.UsageError, 'needs one image size'):
      _source('tiny_photos', resizing='crop')

  def test_stored_images_of_the_wanted_aspect_ratio_are_not_cropped(self):
    values = {'resizing': 'crop'}
    for size, shape in ((0, (6, 4)), ('6x4', (6, 4)), ('3x2', (3, 2))):
      source = _source('tiny_grey', image_size=size, **values)
      self.assertEqual(source.image_shape, (*shape, 1))
      self.assertIsNone(source.with_other_resizing())
      kind = 'none' if shape == (6, 4) else 'stretch'
      self.assertEqual(source.read('train').preprocessing.resizing, kind)
    for size, shape in ((4, (4, 4)), ('4x6', (4, 6))):
      source = _source('tiny_grey', image_size=size, **values)
      self.assertEqual(source.image_shape, (*shape, 1))
      self.assertIsNotNone(source.with_other_resizing())
      self.assertEqual(
        source.read('train').preprocessing,
        image_ops.Preprocessing('crop', (shape,)),
      )

  @parameterized.parameters('stretch', 'crop')
  def test_channels_are_converted_to_those_asked_for(self, resizing):
    values = {'image_size': 4, 'resizing': resizing}
    grey = _source('tiny_grey', **values).read('train')
    colours = _source('tiny_grey', channels=3, **values)
    self.assertEqual(colours.image_shape, (4, 4, 3))
    np.testing.assert_array_equal(
      colours.read('train').images, np.repeat(grey.images, 3, axis=-1)
    )
    back = _source('tiny_photos', channels=1, **values).read('train')
    self.assertEqual(back.images.shape, (4, 4, 4, 1))
    self.assertCountEqual(back.images[:][:, 0, 0, 0], [0, 40, 80, 120])

  def test_examples_have_their_preprocessing(self):
    dataset = datasets.Dataset(_source('digits', image_size=12))
    self.assertEqual(
      dataset.for_model((6, 6, 1)).test.take(np.arange(2)).preprocessing,
      image_ops.Preprocessing('stretch', ((12, 12), (6, 6))),
    )
    self.assertIs(dataset.for_model((None, None, 1)), dataset)
    self.assertIs(dataset.for_model((16, 16, 1)), dataset)
    self.assertEqual(
      datasets.Dataset(_source('digits')).test.preprocessing,
      image_ops.Preprocessing('none', ()),
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

  def test_images_are_stretched_to_a_height_and_a_width(self):
    examples = _source('tiny_photos', image_size='5x7').read('train')
    self.assertEqual(examples.images.shape, (4, 5, 7, 3))
    self.assertEqual(
      examples.preprocessing, image_ops.Preprocessing('stretch', ((5, 7),))
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

  def test_images_of_16_bits_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_depth'):
      _source('tiny_depth').read('train')

  def test_images_of_4_channels_are_refused_when_they_are_opened(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_alpha .* 4 channels'):
      _source('tiny_alpha')

  def test_images_with_any_number_of_channels_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'tiny_mixed'):
      _source('tiny_mixed', image_size=8).read('train')


if __name__ == '__main__':
  absltest.main()
