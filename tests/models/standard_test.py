"""Models of every build made flat, with raw images in and logits out."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import (
  feature_maps,
  folding,
  heads,
  layer_choice,
  standard,
  taps,
)
from ft_tf.signals import constant
from tests import small_models

_SHAPE = (8, 8, 3)


def _images(count=4):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, *_SHAPE)).astype(np.uint8)


def _backbone(name='backbone'):
  x = keras.Input(_SHAPE)
  y = keras.layers.Conv2D(4, 3, name='conv')(x)
  y = keras.layers.BatchNormalization(name='norm')(y)
  # Both of the same tensor, and an operation that is no layer.
  y = keras.layers.Add()([y, keras.layers.ReLU()(y)]) * 0.5
  return keras.Model(x, y, name=name)


def _nested(activation=None):
  """A classifier of two models in a model; both have a layer `conv`."""
  x = keras.Input(_SHAPE, name='pixels')
  y = keras.layers.Rescaling(1 / 255)(x)
  y = _backbone()(y)
  y = keras.layers.Conv2D(5, 1, name='conv')(y)
  head = keras.Sequential(
    [
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(3, activation=activation, name='out'),
    ],
    name='head',
  )
  return keras.Model(x, head(y))


class FlatTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def test_flat_model_says_the_same_and_names_inner_layers(self):
    model = _nested()
    expected = model(_images(), training=False)
    self.assertTrue(standard.is_nested(model))
    flat = standard.flatten(model)
    self.assertFalse(standard.is_nested(flat))
    np.testing.assert_allclose(flat(_images(), training=False), expected)
    names = [layer.name for layer in flat.layers]
    self.assertIn('backbone.conv', names)
    self.assertIn('backbone.norm', names)
    self.assertIn('conv', names)
    self.assertIn('head.out', names)
    feature = taps.features(flat, ['backbone.conv'])(_images())
    self.assertEqual(feature['backbone.conv'].shape, (4, 6, 6, 4))

  def test_flat_model_can_be_saved_and_loaded(self):
    flat = standard.flatten(_nested())
    path = os.path.join(self.create_tempdir().full_path, 'flat.keras')
    flat.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_allclose(
      again(_images(), training=False),
      flat(_images(), training=False),
      atol=1e-6,
    )

  def test_deeper_nesting_is_opened_too(self):
    x = keras.Input(_SHAPE)
    outer = keras.Model(x, _backbone('inner')(x), name='outer')
    x = keras.Input(_SHAPE)
    flat = standard.flatten(keras.Model(x, outer(x)))
    self.assertIn('outer.inner.conv', [layer.name for layer in flat.layers])

  def test_several_outputs_stay_as_they_are_structured(self):
    x = keras.Input(_SHAPE)
    y = _backbone('inner')(x)
    model = keras.Model(x, {'map': y, 'twice': [y, y + 1]})
    flat = standard.flatten(model)
    self.assertFalse(standard.is_nested(flat))
    keras.tree.map_structure(
      np.testing.assert_allclose, flat(_images()), model(_images())
    )

  def test_owner_gets_the_names_of_inner_layers_back(self):
    x = keras.Input(_SHAPE)
    outer = keras.Model(x, _backbone('inner')(x) * 2, name='outer')
    x = keras.Input(_SHAPE)
    model = keras.Model(x, outer(x))
    inner = outer.get_layer('inner')
    names = [layer.name for layer in (*outer.layers, *inner.layers)]
    with standard.keeping_names(model):
      flat = standard.flatten(model)
      self.assertIn('outer.inner.conv', [layer.name for layer in flat.layers])
    self.assertEqual(
      [layer.name for layer in (*outer.layers, *inner.layers)], names
    )
    np.testing.assert_allclose(flat(_images()), model(_images()))

  @parameterized.parameters(
    ('0..1', lambda x: x / 255),
    ('-1..1', lambda x: x / 127.5 - 1),
    (
      'imagenet',
      lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
    (
      'caffe',
      lambda x: keras.applications.imagenet_utils.preprocess_input(
        np.array(x), mode='caffe'
      ),
    ),
  )
  def test_raw_images_are_preprocessed(self, kind, expected):
    model = small_models.with_end()
    flat = standard.flatten(model, kind)
    self.assertEqual(flat.inputs[0].dtype, 'uint8')
    np.testing.assert_allclose(
      flat(_images()), model(expected(np.float64(_images()))), atol=1e-5
    )

  @parameterized.parameters('imagenet', 'caffe')
  def test_preprocessing_of_colours_is_refused_for_grey(self, kind):
    image = keras.Input((8, 8, 1))
    y = keras.layers.Dense(2)(keras.layers.Flatten()(image))
    with self.assertRaisesRegex(
      errors.UsageError, f'--preprocessing={kind} is for images of 3 channels'
    ):
      standard.flatten(keras.Model(image, y), kind)

  def test_model_within_of_several_outputs_is_opened(self):
    image = keras.Input(_SHAPE)
    one = keras.layers.Conv2D(4, 3, name='one')(image)
    two = keras.layers.Conv2D(5, 3, name='two')(one)
    backbone = keras.Model(image, {'b': one, 'a': two}, name='backbone')
    image = keras.Input(_SHAPE)
    maps = backbone(inputs=image)
    y = keras.layers.GlobalAveragePooling2D()(maps['b'])
    model = keras.Model(image, keras.layers.Dense(3)(y))
    flat = standard.flatten(model)
    self.assertFalse(standard.is_nested(flat))
    self.assertEqual(layer_choice.last_feature_map(flat), 'backbone.one')
    np.testing.assert_allclose(flat(_images()), model(_images()), atol=1e-5)

  def test_softmax_within_a_nested_head_is_taken_off(self):
    model = _nested('softmax')
    probabilities = model(_images()).numpy()
    logits = heads.to_logits(standard.flatten(model))[0](_images())
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )


def _augmented(_):
  """Returns a model that begins as the tutorials' do, of any image size."""
  x = keras.Input((None, None, 3))
  y = keras.layers.RandomFlip()(x)
  y = keras.layers.RandomRotation(0.2)(y)
  y = keras.layers.GaussianNoise(1.0)(y)
  y = keras.layers.Resizing(9, 7)(y)
  y = keras.layers.RandomCrop(8, 6)(y)
  y = keras.layers.CenterCrop(7, 6)(y)
  y = keras.layers.Rescaling(1 / 127.5, offset=-1)(y)
  y = keras.layers.Conv2D(4, 3, name='maps')(y)
  y = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(y))
  return keras.Model(x, keras.layers.Dense(3)(y))


class OpenTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def _backbone(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, strides=2, name='conv')(x)
    y = keras.layers.BatchNormalization()(y)
    return keras.Model(x, keras.layers.ReLU(name='maps')(y), name='backbone')

  def _any_size(self):
    """A head on a backbone, as in transfer learning."""
    x = keras.Input((None, None, 3))
    y = keras.layers.GlobalAveragePooling2D()(self._backbone()(x))
    return keras.Model(x, keras.layers.Dense(3)(y))

  def _any_channels(self):
    x = keras.Input((None, None, None))
    y = keras.ops.mean(x, axis=-1, keepdims=True)
    y = keras.layers.Conv2D(4, 3, name='maps')(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, keras.layers.Dense(3)(y))

  def _one_by_one(self):
    x = keras.Input(batch_shape=(1, *_SHAPE))
    y = keras.layers.Conv2D(4, 3, name='maps')(x)
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(y)))

  def _batch_of_a_sequential(self):
    return keras.Sequential(
      [
        keras.Input((None, 8, 3), batch_size=5),
        keras.layers.Conv2D(4, 3, name='maps'),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(3),
      ]
    )

  @parameterized.named_parameters(
    ('any_size', _any_size, 'backbone.maps', (3, 3, 4), True),
    ('any_channels', _any_channels, 'maps', (6, 6, 4), True),
    ('one_by_one', _one_by_one, 'maps', (6, 6, 4), False),
    ('batch', _batch_of_a_sequential, 'maps', (6, 6, 4), True),
    ('augmented', _augmented, 'maps', (5, 4, 4), True),
  )
  def test_model_is_of_the_data_sets_images(
    self, make, layer, shape, open_size
  ):
    given = make(self)
    expected = np.concatenate(
      [given(each[None], training=False) for each in _images()]
    )
    tolerance = 1e-5 * np.abs(expected).max()
    model, said = standard.standardize(given, image_shape=_SHAPE)
    self.assertEqual(model.input_shape, (None, *_SHAPE))
    self.assertEqual(any('open image size' in each for each in said), open_size)
    self.assertEqual(layer_choice.resolve_layer(model), layer)
    self.assertEqual(feature_maps.shape(model, layer), shape)
    for _ in range(2):  # Nothing random is left.
      np.testing.assert_allclose(
        model(_images(), training=False), expected, atol=tolerance
      )
    tapped = taps.logits_and_features(model, [layer])
    for dtype, times in (('float32', 1), ('bfloat16', 1e4)):
      folded = folding.fold(tapped, dtype)
      logits, maps = constant.ConstantSignal(
        lambda images, folded=folded: folded(images, training=False),
        _SHAPE,
      )(_images())
      self.assertEqual(maps[layer].shape, (4, *shape))
      np.testing.assert_allclose(logits, expected, atol=times * tolerance)
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    model.save(path)
    again, said = standard.standardize(
      keras.models.load_model(path), image_shape=_SHAPE
    )
    self.assertEmpty(said)
    np.testing.assert_allclose(
      again(_images(), training=False), expected, atol=tolerance
    )

  def test_size_stays_open_where_none_is_given(self):
    model, said = standard.standardize(self._any_size())
    self.assertEqual(said, ['nested models replaced by their layers'])
    self.assertEqual(model.input_shape, (None, None, None, 3))
    self.assertEqual(layer_choice.resolve_layer(model, '-1'), 'backbone.maps')

  def test_fixed_batch_is_said(self):
    _, said = standard.standardize(self._one_by_one())
    self.assertEqual(said, ['fixed batch size 1 replaced by any batch size'])

  def test_images_that_are_too_small_are_refused_in_a_line(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 7)(x)
    y = keras.layers.Conv2D(4, 7)(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    model = keras.Model(x, keras.layers.Dense(3)(y))
    with self.assertRaisesRegex(
      errors.UsageError, r'^.*images of \(8, 8, 3\).*--image_size.*$'
    ):
      standard.standardize(model, image_shape=_SHAPE)

  @parameterized.parameters((2, (2, -1)), (1, (1, 192)))
  def test_operations_of_one_batch_size_are_refused_in_a_line(
    self, batch, shape
  ):
    x = keras.Input(batch_shape=(batch, *_SHAPE))
    y = keras.layers.Dense(3)(keras.ops.reshape(x, shape))
    with self.assertRaisesRegex(
      errors.UsageError, '^.* accepts? .*batches of .* batch_size.*$'
    ):
      standard.standardize(keras.Model(x, y))


class SaidTest(absltest.TestCase):
  def test_only_what_was_done_is_said(self):
    nested, plain = _nested(), small_models.with_end(keras.layers.Dense(3))
    self.assertEmpty(standard.standardize(plain)[1])
    self.assertEqual(
      standard.standardize(nested)[1],
      ['nested models replaced by their layers'],
    )
    self.assertEqual(
      standard.standardize(plain, preprocessing='0..1')[1],
      ['preprocessing 0..1 added'],
    )
    self.assertEqual(
      standard.standardize(_nested(), preprocessing='-1..1')[1],
      ['nested models replaced by their layers', 'preprocessing -1..1 added'],
    )


if __name__ == '__main__':
  absltest.main()
