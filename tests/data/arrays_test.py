"""Images and labels of a notebook: what is accepted, and what is refused."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import array_source, arrays

_RNG = np.random.default_rng(0)
_IMAGES = _RNG.integers(121, size=(6, 5, 7, 3)).astype(np.uint8)  # none bright
_LABELS = np.array([2, 0, 1, 1, 2, 0])


def _source(train=(_IMAGES, _LABELS), test=(_IMAGES, _LABELS), **values):
  return array_source.Arrays(train, test, **values)


class Torchlike:
  """What numpy makes an array of, as tensors of other libraries."""

  def __init__(self, values):
    self._values = values

  def __array__(self, dtype=None, copy=None):
    return np.asarray(self._values, dtype)


class ImagesTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('int16', _IMAGES.astype(np.int16)),
    ('int64', _IMAGES.astype(np.int64)),
    ('float32', _IMAGES.astype(np.float32)),
    ('nearly whole', _IMAGES + 0.3),
    ('float16 in 0..1', (_IMAGES / 255).astype(np.float16)),
    ('float64 in 0..1', _IMAGES / 255),
    ('lists', _IMAGES.tolist()),
    ('other library', Torchlike(_IMAGES)),
    ('tensor', tf.constant(_IMAGES)),
  )
  def test_equivalent_forms_give_equal_arrays(self, given):
    source = _source(train=(given, _LABELS), test=(given, _LABELS))
    converted = source.read('train').images
    self.assertEqual(converted.dtype, np.uint8)
    np.testing.assert_array_equal(converted, _IMAGES)

  def test_range_is_detected(self):
    self.assertFalse(_source().unit)
    unit = (_IMAGES / 255, _LABELS)
    self.assertTrue(_source(unit, unit).unit)
    with self.assertRaisesRegex(errors.UsageError, 'have different ranges'):
      _source(unit)

  def test_grey_without_channels_and_masks(self):
    grey = (_IMAGES[..., 0], _LABELS)
    self.assertEqual(_source(grey, grey).image_shape, (5, 7, 1))
    mask = (_IMAGES[..., 0] > 60, _LABELS)
    images = _source(mask, mask).read('test').images
    np.testing.assert_array_equal(images[..., 0], 255 * mask[0])

  def test_channels_are_converted_both_ways(self):
    grey = (_IMAGES[..., :1], _LABELS)
    source = _source(grey, grey).with_channels(3)
    self.assertEqual(source.image_shape, (5, 7, 3))
    np.testing.assert_array_equal(
      source.read('train').images, np.repeat(grey[0], 3, axis=-1)
    )
    self.assertEqual(
      _source().with_channels(1).read('test').images.shape, (6, 5, 7, 1)
    )

  @parameterized.named_parameters(
    ('NaN', np.where(_IMAGES > 60, np.nan, 200.0), 'not finite'),
    ('infinite', np.where(_IMAGES > 60, np.inf, 200.0), 'not finite'),
    ('normalised', _IMAGES / 60 - 1, 'before normalisation'),
    ('16 bits', _IMAGES.astype(np.uint16) * 257, 'from 0 to 30840; give 0 to'),
    ('neither', _IMAGES / 60, 'neither 0 to 255 nor'),
    ('0 and 1', (_IMAGES > 60).astype(int), 'neither 0 to 255 nor'),
    ('channels first', np.moveaxis(_IMAGES, -1, 1), r'np.moveaxis\(images'),
    ('2 channels', _IMAGES[..., :2], 'give .N, H, W, C. with 1 or 3 channels$'),
    ('4 channels', np.tile(_IMAGES, 2)[..., :4], 'with 1 or 3 channels$'),
    ('flat', _IMAGES.reshape(6, -1), r'uint8 \(6, 105\); give \[N, H, W, C\]'),
    ('none', _IMAGES[:0], 'holds no image'),
    ('texts', np.full((6, 5, 7), 'x'), 'give numbers'),
    ('masked', np.ma.masked_greater(_IMAGES, 60), 'images have masked values'),
    (
      'ragged',
      [_IMAGES[0], _IMAGES[1][:3]],
      'cannot be converted to one array',
    ),
  )
  def test_ambiguous_values_are_refused(self, given, reason):
    with self.assertRaisesRegex(errors.UsageError, f'train: .*{reason}') as e:
      _source(train=(given, _LABELS))
    self.assertNotIn('--', str(e.exception))
    self.assertNotIn('\n', str(e.exception))

  def test_other_shapes_in_test_are_refused_with_both(self):
    with self.assertRaisesRegex(
      errors.UsageError, r'train are \(5, 7, 3\) and those of test \(4, 7, 3\)'
    ):
      _source(test=(_IMAGES[:, :4], _LABELS))


class LabelsTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('column', _LABELS[:, None]),
    ('uint8', _LABELS.astype(np.uint8)),
    ('float', _LABELS.astype(np.float32)),
    ('objects', _LABELS.astype(object)),
    ('one-hot', np.eye(3)[_LABELS]),
    ('one-hot integers', np.eye(3, dtype=int)[_LABELS]),
    ('list', _LABELS.tolist()),
    ('other library', Torchlike(_LABELS)),
    ('masked nowhere', np.ma.masked_equal(_LABELS, 9)),
  )
  def test_equivalent_forms_give_equal_arrays(self, given):
    source = _source(train=(_IMAGES, given))
    converted = source.read('train').labels
    self.assertEqual(converted.dtype, np.int64)
    np.testing.assert_array_equal(converted, _LABELS)
    self.assertEqual(source.label_names, ['0', '1', '2'])

  def test_one_hot_tells_classes_that_no_image_has(self):
    wide = (_IMAGES, np.eye(4)[_LABELS])
    with self.assertRaisesRegex(errors.UsageError, 'no image has the label 3'):
      _source(wide, wide)
    source = _source(wide, wide, label_names=list('abcd'))
    self.assertLen(source.label_names, 4)

  @parameterized.parameters('U', 'S', 'O')
  def test_names_are_numbered_by_label_names(self, kind):
    names = np.array(['hen', 'cat', 'dog'])
    given = (_IMAGES, names[_LABELS].astype(kind))
    source = _source(given, given, label_names=names)
    np.testing.assert_array_equal(source.read('test').labels, _LABELS)
    self.assertEqual(source.label_names, ['hen', 'cat', 'dog'])
    with self.assertRaisesRegex(errors.UsageError, 'order of the outputs'):
      _source(given, given)
    with self.assertRaisesRegex(errors.UsageError, "'hen' that label_names la"):
      _source(given, given, label_names=['cat', 'dog', 'cow'])

  @parameterized.named_parameters(
    ('from 1', _LABELS + 1, None, 'labels are 1 to 3, .*give labels - 1'),
    ('gaps', _LABELS * 2, None, 'no image has the label 1, 3: give labels'),
    ('from 1, named', _LABELS + 1, 'abc', 'count from 0, give labels - 1'),
    ('too few names', _LABELS, 'ab', 'a label 2 and 2 label_names'),
    ('below 0', _LABELS - 1, None, 'there is a label -1'),
    ('shares', np.full((6, 3), 1 / 3), None, 'not one class for each image'),
    ('several', np.ones((6, 3)), None, 'not one class for each image'),
    ('halves', _LABELS / 2, None, 'not whole numbers'),
    ('fewer', _LABELS[:4], None, r'int64 \(4,\) for 6 images'),
    ('NaN', np.full(6, np.nan), None, 'not whole numbers'),
    ('infinite', np.append(_LABELS[:5], np.inf), None, 'not whole numbers'),
    ('large', np.append(_LABELS[:5], 1e300), None, r'a label 1e\+300; give'),
    (
      'unsigned',
      np.append(_LABELS[:5], 2**63 + 2).astype(np.uint64),
      None,
      r'a label 9.22337e\+18; give',
    ),
    (
      'numbers of a data base',
      np.append(_LABELS[:5], 2**31 - 1),
      None,
      'has the label 3, 4, 5, 6, 7, ...: give labels without gaps',
    ),
    (
      'masked',
      np.ma.masked_equal(_LABELS, 1),
      None,
      'train: labels have masked values: leave',
    ),
  )
  def test_ambiguous_values_are_refused(self, given, names, reason):
    with self.assertRaisesRegex(errors.UsageError, reason) as e:
      _source(
        (_IMAGES, given), (_IMAGES, given), label_names=names and list(names)
      )
    self.assertNotIn('--', str(e.exception))

  def test_gaps_are_allowed_where_every_class_has_a_name(self):
    even = (_IMAGES, _LABELS * 2)
    source = _source(even, even, label_names=np.array(list('abcde')))
    np.testing.assert_array_equal(source.read('train').labels, even[1])

  @parameterized.parameters(
    ('abc', 'a str'),
    ({0: 'a', 1: 'b'}, 'a dict'),
    (['a', 'b', 'a'], 'has a twice'),
    (['a', 'b', 'c\nd'], 'names without line breaks'),
  )
  def test_bad_label_names_are_refused(self, given, reason):
    with self.assertRaisesRegex(errors.UsageError, f'label_names .*{reason}'):
      _source(label_names=given)


class PairTest(parameterized.TestCase):
  def _data(self):
    return tf.data.Dataset.from_tensor_slices((_IMAGES, _LABELS))

  def test_tf_data_is_read_in_one_order_in_any_form(self):
    read_sources = []
    for data in (
      self._data(),
      self._data().shuffle(6, seed=1),
      self._data().batch(4),
      self._data().shuffle(6, seed=2).batch(1),
      self._data().map(lambda x, y: (tf.cast(x, tf.float32), y[None])),
      self._data().map(lambda x, y: (x, tf.one_hot(y, 3))).batch(3),
    ):
      source = _source(data, data)
      read_sources.append(source)
      images, labels = source.read('train').images, source.read('train').labels
      place = {image.tobytes(): i for i, image in enumerate(_IMAGES)}
      self.assertLen(images, 6)
      for image, label in zip(images, labels, strict=True):
        self.assertEqual(_LABELS[place[image.tobytes()]], label)
    for source in read_sources[1:4]:
      self.assertEqual(source.fingerprint, read_sources[0].fingerprint)

  def test_dicts_of_tfds_are_read_like_pairs(self):
    data = self._data()
    dicts = data.map(lambda x, y: {'id': y, 'image': x, 'label': y})
    wanted = arrays.read_pair('train', data)
    for given in (dicts, dicts.batch(4)):
      for ours, theirs in zip(
        arrays.read_pair('train', given), wanted, strict=True
      ):
        np.testing.assert_array_equal(ours, theirs)

  def test_batches_of_grey_images_are_distinguished_from_one_image(self):
    grey = tf.data.Dataset.from_tensor_slices((_IMAGES[..., 0], _LABELS))
    for data in (grey, grey.batch(5), grey.batch(3)):
      source = _source(data, data)
      self.assertEqual(source.image_shape, (5, 7, 1))
      self.assertLen(source.read('test'), 6)

  @parameterized.named_parameters(
    ('weights', (_IMAGES, _LABELS, np.ones(6)), 'weights are not supported'),
    ('images alone', _IMAGES, r'ndarray \(6, 5, 7, 3\): give \(images, labels'),
    ('dict', {'image': _IMAGES, 'label': _LABELS}, 'train is a dict: give'),
    ('nothing', None, 'train is a NoneType: give'),
  )
  def test_other_values_than_pairs_are_refused(self, given, reason):
    with self.assertRaisesRegex(errors.UsageError, reason):
      arrays.read_pair('train', given)

  def test_tf_data_of_other_kinds_is_refused(self):
    data = self._data()
    for given, reason in (
      (data.repeat(), r'without repeat\(\)'),
      (data.map(lambda x, y: {'image': x, 'name': y}), r"\(x\['image'\], x"),
      (data.map(lambda x, y: (x, y, 1.0)), 'weights are not supported'),
      (data.map(lambda x, y: x), r'give one of pairs \(image, label\)'),
      (data.take(0), 'holds no image'),
      (data.map(lambda x, y: (x[: 2 + y % 2], y)), 'of different sizes'),
    ):
      with self.assertRaisesRegex(errors.UsageError, reason):
        arrays.read_pair('train', given)


if __name__ == '__main__':
  absltest.main()
