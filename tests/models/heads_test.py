"""Logits in place of probabilities, whatever a classifier ends with."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import heads, standard
from tests import networks, small_models

_SHAPE = (8, 8, 3)


def _images(count=4):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, *_SHAPE)).astype(np.uint8)


class LinearLayerTest(parameterized.TestCase):
  @parameterized.parameters(
    (lambda: [keras.layers.Flatten(), keras.layers.Dense(3)], (192,)),
    (lambda: [keras.layers.Conv2D(3, 8)], (8, 8, 3)),
    (
      lambda: [
        keras.layers.GlobalAveragePooling2D(keepdims=True),
        keras.layers.Conv2D(3, 1, padding='same'),
        keras.layers.Flatten(),
      ],
      (1, 1, 3),
    ),
  )
  def test_last_layer_is_found_with_its_input(self, layers, shape):
    model = keras.Sequential([keras.Input(_SHAPE), *layers()])
    features, layer = heads.linear_layer(standard.flatten(model))
    self.assertEqual(features.shape[1:], shape)
    self.assertEqual(layer.kernel.shape, (*shape, 3))

  @parameterized.parameters(
    lambda: [keras.layers.Flatten(), keras.layers.Dense(3, activation='relu')],
    lambda: [keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)],
    lambda: [keras.layers.Dense(3), keras.layers.GlobalAveragePooling2D()],
    lambda: [keras.layers.Conv2D(3, 7, padding='same', strides=8)],
    lambda: [
      keras.layers.Flatten(),
      keras.layers.Dense(3),
      keras.layers.Softmax(),
    ],
  )
  def test_other_ends_have_none(self, layers):
    model = keras.Sequential([keras.Input(_SHAPE), *layers()])
    self.assertIsNone(heads.linear_layer(standard.flatten(model)))


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
    model = standard.flatten(small_models.with_end(*last()))
    probabilities = model(_images()).numpy()
    logits = heads.to_logits(model)[0](_images()).numpy()
    self.assertTrue(heads.look_like_probabilities(probabilities))
    self.assertFalse(heads.look_like_probabilities(logits))
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )

  def test_logits_stay(self):
    model = small_models.with_end(keras.layers.Dense(3))
    self.assertIsNone(heads.to_logits(model)[0])
    self.assertIsNone(heads.to_logits(model, 'logits')[0])

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='softmax')],
    lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
  )
  def test_softmax_taken_for_logits_stays_in_the_file(self, last):
    model = small_models.with_end(*last())
    expected = model(_images())
    made, said = standard.standardize(model, outputs='logits')
    self.assertLen(said, 1)
    self.assertIn('are used as logits', said[0])
    path = os.path.join(self.create_tempdir().full_path, 'softmax.keras')
    made.save(path)
    again, said = standard.standardize(keras.models.load_model(path))
    self.assertEmpty(said)
    np.testing.assert_allclose(again(_images()), expected, atol=1e-6)

  @parameterized.parameters(
    lambda: [
      keras.layers.Dense(3, activation='softmax'),
      keras.layers.Dropout(0.3),
      keras.layers.Identity(),
      keras.layers.Activation('linear', dtype='float32'),
    ],
    lambda: [
      keras.layers.Reshape((1, 1, 4)),
      keras.layers.Conv2D(3, 1, activation='softmax'),
      keras.layers.Flatten(),
    ],
    lambda: [
      keras.layers.Reshape((1, 4)),
      keras.layers.EinsumDense('abc,cd->abd', (1, 3), activation='softmax'),
      keras.layers.Reshape((3,)),
    ],
  )
  def test_softmax_is_seen_through_what_changes_nothing(self, last):
    model = small_models.with_end(*last())
    probabilities = model(_images()).numpy()
    made, said = standard.standardize(model)
    self.assertEqual(said, ['gives probabilities; its logits are used instead'])
    logits = made(_images())
    self.assertFalse(heads.look_like_probabilities(logits.numpy()))
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )
    self.assertEmpty(standard.standardize(made)[1])

  def test_softmax_by_an_operation_is_taken_off(self):
    base = small_models.with_end(keras.layers.Dense(3))
    y = keras.ops.cast(keras.ops.softmax(base.outputs[0]), 'float32')
    made = heads.to_logits(keras.Model(base.inputs[0], y))[0]
    np.testing.assert_allclose(made(_images()), base(_images()), atol=1e-6)

  def test_softmax_over_less_than_the_classes_stays(self):
    model = small_models.with_end(
      keras.layers.Dense(6),
      keras.layers.Reshape((2, 3)),
      keras.layers.Softmax(),
      keras.layers.Flatten(),
    )
    self.assertIsNone(heads.to_logits(model)[0])

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='sigmoid')],
    lambda: [
      keras.layers.Dense(3),
      keras.layers.Activation('sigmoid', dtype='float32'),
      keras.layers.Identity(),
    ],
  )
  def test_sigmoid_of_several_classes_is_taken_off_and_said(self, last):
    model = small_models.with_end(*last())
    images = _images() / 255
    each = model(images).numpy()
    self.assertTrue(heads.look_like_probabilities(each))
    made, said = standard.standardize(model)
    self.assertLen(said, 1)
    self.assertIn('sigmoid', said[0])
    np.testing.assert_allclose(keras.ops.sigmoid(made(images)), each, atol=1e-6)

  @parameterized.named_parameters(
    ('dense', lambda: [keras.layers.Dense(1, activation='sigmoid')], 'auto'),
    (
      'activation',
      lambda: [keras.layers.Dense(1), keras.layers.Activation('sigmoid')],
      'probabilities',
    ),
    (
      'hidden',
      lambda: [
        keras.layers.Dense(1),
        keras.layers.Lambda(lambda z: 1 / (1 + keras.ops.exp(-z))),
      ],
      'probabilities',
    ),
  )
  def test_one_sigmoid_output_is_two_logits(self, last, outputs):
    model = small_models.with_end(*last())
    images = _images() / 255
    high = model(images).numpy()[:, 0]
    made, said = standard.standardize(model, outputs=outputs)
    self.assertIn('high z means the second class', said[-1])
    both = keras.ops.softmax(made(images)).numpy()
    np.testing.assert_allclose(both, np.stack([1 - high, high], 1), atol=1e-5)
    self.assertEqual(made.output_shape, (None, 2))

  @parameterized.parameters('auto', 'logits')
  def test_one_linear_output_is_two_logits(self, outputs):
    model = small_models.with_end(keras.layers.Dense(1))
    made, said = standard.standardize(model, outputs=outputs)
    self.assertLen(said, 1)
    z = model(_images()).numpy()[:, 0]
    np.testing.assert_array_equal(made(_images()), np.stack([0 * z, z], 1))
    path = os.path.join(self.create_tempdir().full_path, 'two.keras')
    made.save(path)
    again, said = standard.standardize(keras.models.load_model(path))
    self.assertEmpty(said)
    np.testing.assert_allclose(again(_images()), made(_images()), atol=1e-6)

  @parameterized.parameters('int8', 'int4', 'float8')
  def test_softmax_of_a_quantized_layer_is_taken_off(self, mode):
    model = small_models.with_end(keras.layers.Dense(3, activation='softmax'))
    model.quantize(mode)
    probabilities = model(_images()).numpy()
    made, _ = standard.standardize(model)
    np.testing.assert_allclose(
      keras.ops.softmax(made(_images())), probabilities, atol=1e-6
    )

  def test_softmax_of_a_layer_with_lora_is_taken_off(self):
    model = small_models.with_end(keras.layers.Dense(3, activation='softmax'))
    networks.adapt(model.layers[-1])
    probabilities = model(_images()).numpy()
    made, _ = standard.standardize(model)
    np.testing.assert_allclose(
      keras.ops.softmax(made(_images())), probabilities, atol=1e-6
    )

  @parameterized.parameters(
    ([[0.1, 0.9], [0.7, 0.3]], True),
    ([[0.1, 0.2], [0.7, 1.0]], True),  # sigmoids
    ([[0.5, 0.5], [0.5, 0.5]], True),
    ([[0.0, 0.0], [0.0, 0.2]], False),  # hardly of any class
    ([[0.1, 0.9], [0.7, 1.3]], False),
    ([[-0.1, 0.9], [0.7, 0.3]], False),
  )
  def test_probabilities_are_told_by_their_values(self, outputs, expected):
    self.assertEqual(
      heads.look_like_probabilities(np.float32(outputs)), expected
    )

  def test_log_softmax_is_logits(self):
    model = small_models.with_end(
      keras.layers.Dense(3, activation='log_softmax')
    )
    self.assertIsNone(heads.to_logits(model)[0])
    self.assertFalse(heads.look_like_probabilities(model(_images()).numpy()))

  def test_probabilities_without_a_softmax_get_a_logarithm(self):
    model = standard.flatten(
      small_models.with_end(
        keras.layers.Dense(3, 'sigmoid'), keras.layers.UnitNormalization()
      )
    )
    made = heads.to_logits(model, 'probabilities')[0]
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
