"""Models of every build made flat, with raw images in and logits out."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import standard, taps

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


def _small(*last):
  return keras.Sequential(
    [
      keras.Input(_SHAPE),
      keras.layers.Conv2D(4, 3),
      keras.layers.GlobalAveragePooling2D(),
      *last,
    ]
  )


class FlatTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def test_flat_model_says_the_same_and_names_inner_layers(self):
    model = _nested()
    expected = model(_images(), training=False)
    self.assertTrue(standard.is_nested(model))
    flat = standard.flat(model)
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
    flat = standard.flat(_nested())
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
    flat = standard.flat(keras.Model(x, outer(x)))
    self.assertIn('outer.inner.conv', [layer.name for layer in flat.layers])

  @parameterized.parameters(
    ('0..1', lambda x: x / 255),
    ('-1..1', lambda x: x / 127.5 - 1),
    (
      'imagenet',
      lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
  )
  def test_raw_images_are_preprocessed(self, kind, expected):
    model = _small()
    flat = standard.flat(model, kind)
    self.assertEqual(flat.inputs[0].dtype, 'uint8')
    np.testing.assert_allclose(
      flat(_images()), model(expected(np.float64(_images()))), atol=1e-5
    )


class SaidTest(absltest.TestCase):
  def test_only_what_was_done_is_said(self):
    nested, plain = _nested(), _small(keras.layers.Dense(3))
    self.assertEmpty(standard.standard(plain)[1])
    self.assertEqual(standard.standard(nested)[1], ['models within opened'])
    self.assertEqual(
      standard.standard(plain, preprocessing='0..1')[1], ['preprocessing 0..1']
    )
    self.assertEqual(
      standard.standard(_nested(), preprocessing='-1..1')[1],
      ['models within opened', 'preprocessing -1..1'],
    )


class LogitsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='softmax')],
    lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
    lambda: [keras.layers.Dense(3), keras.layers.Activation('softmax')],
  )
  def test_softmax_is_seen_and_taken_off(self, last):
    model = standard.flat(_small(*last()))
    probabilities = model(_images()).numpy()
    logits = standard.logits_of(model)(_images()).numpy()
    self.assertTrue(standard.look_like_probabilities(probabilities))
    self.assertFalse(standard.look_like_probabilities(logits))
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )

  def test_softmax_within_a_nested_head_is_taken_off(self):
    model = _nested('softmax')
    probabilities = model(_images()).numpy()
    logits = standard.logits_of(standard.flat(model))(_images())
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )

  def test_logits_stay(self):
    model = _small(keras.layers.Dense(3))
    self.assertIsNone(standard.logits_of(model))
    self.assertIsNone(standard.logits_of(model, 'logits'))

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='softmax')],
    lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
  )
  def test_softmax_taken_for_logits_stays_in_the_file(self, last):
    model = _small(*last())
    expected = model(_images())
    made, said = standard.standard(model, outputs='logits')
    self.assertLen(said, 1)
    self.assertIn('taken for logits', said[0])
    path = os.path.join(self.create_tempdir().full_path, 'softmax.keras')
    made.save(path)
    again, said = standard.standard(keras.models.load_model(path))
    self.assertEmpty(said)
    np.testing.assert_allclose(again(_images()), expected, atol=1e-6)

  def test_probabilities_without_a_softmax_get_a_logarithm(self):
    model = standard.flat(
      _small(keras.layers.Dense(3, 'sigmoid'), keras.layers.UnitNormalization())
    )
    made = standard.logits_of(model, 'probabilities')
    np.testing.assert_allclose(
      made(_images() / 255), np.log(model(_images() / 255)), atol=1e-6
    )
    path = os.path.join(self.create_tempdir().full_path, 'logarithm.keras')
    made.save(path)
    np.testing.assert_allclose(
      keras.models.load_model(path)(_images()), made(_images()), atol=1e-6
    )


if __name__ == '__main__':
  absltest.main()
