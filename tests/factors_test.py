"""Paraphraser and translator against a numpy reference of PyTorch's layers."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors, factors

# Shapes are PyTorch's: images [C, H, W], kernels [O, I, 3, 3], transposed
# kernels [I, O, 3, 3]; sums are written out in float64.


def _torch_convolution(x, kernel, bias):
  """torch.nn.functional.conv2d(x, kernel, bias, padding=1)."""
  _, height, width = x.shape
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
  y = np.zeros((kernel.shape[0], height, width))
  for i in range(height):
    for j in range(width):
      patch = padded[:, i : i + 3, j : j + 3]
      y[:, i, j] = np.tensordot(kernel, patch, 3)
  return y + bias[:, None, None]


def _torch_transposed(x, kernel, bias):
  """torch.nn.functional.conv_transpose2d(x, kernel, bias, padding=1)."""
  _, height, width = x.shape
  y = np.zeros((kernel.shape[1], height + 2, width + 2))
  for i in range(height):
    for j in range(width):
      y[:, i : i + 3, j : j + 3] += np.tensordot(x[:, i, j], kernel, 1)
  return y[:, 1:-1, 1:-1] + bias[:, None, None]


def _leaky_relu(x):
  return np.where(x > 0, x, 0.1 * x)


def _weights(shapes, seed):
  rng = np.random.default_rng(seed)
  return [
    (0.3 * rng.normal(size=shape), 0.3 * rng.normal(size=outputs))
    for shape, outputs in shapes
  ]


def _to_keras(weights):
  """Kernels to Keras's layout; one transpose serves both kinds."""
  return [
    array
    for kernel, bias in weights
    for array in (kernel.transpose(2, 3, 1, 0), bias)
  ]


def _maps(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _chain(layer, x, weights):
  """Runs one image [H, W, C] through layers and their activations."""
  y = x.transpose(2, 0, 1).astype(np.float64)
  for kernel, bias in weights:
    y = _leaky_relu(layer(y, kernel, bias))
  return y.transpose(1, 2, 0)


class ParaphraserTest(parameterized.TestCase):
  def test_factor_and_reconstruction_equal_pytorchs_with_the_same_weights(self):
    x = _maps(2, 5, 4, 6)
    encoder = _weights(
      [((6, 6, 3, 3), 6), ((3, 6, 3, 3), 3), ((3, 3, 3, 3), 3)], seed=1
    )
    decoder = _weights(
      [((3, 3, 3, 3), 3), ((3, 6, 3, 3), 6), ((6, 6, 3, 3), 6)], seed=2
    )
    paraphraser = factors.Paraphraser(rate=0.5)
    paraphraser.build(x.shape)
    paraphraser.set_weights(_to_keras(encoder + decoder))
    factor = paraphraser.encode(x)
    reconstruction = paraphraser(x)
    for i in range(2):
      expected = _chain(_torch_convolution, x[i], encoder)
      np.testing.assert_allclose(factor[i], expected, atol=1e-5)
      np.testing.assert_allclose(
        reconstruction[i],
        _chain(_torch_transposed, expected, decoder),
        atol=1e-5,
      )
    np.testing.assert_array_equal(reconstruction, paraphraser.decode(factor))

  @parameterized.parameters(
    (0.5, 64, 32),
    (0.75, 64, 48),
    (1, 64, 64),
    (2, 8, 16),
    (4, 4, 16),
    (0.3, 5, 2),
  )
  def test_factor_has_round_of_rate_times_channels(self, rate, m, expected):
    factor = factors.Paraphraser(rate).encode(_maps(1, 2, 2, m))
    self.assertEqual(factor.shape, (1, 2, 2, expected))

  def test_layers_are_the_papers(self):
    paraphraser = factors.Paraphraser(0.5)
    paraphraser.build((None, 8, 8, 64))
    shapes = [tuple(w.shape) for w in paraphraser.weights]
    # m -> m -> mk -> mk, then transposed (kernels [h, w, out, in]) back.
    self.assertEqual(
      shapes,
      [
        (3, 3, 64, 64),
        (64,),
        (3, 3, 64, 32),
        (32,),
        (3, 3, 32, 32),
        (32,),
        (3, 3, 32, 32),
        (32,),
        (3, 3, 64, 32),
        (64,),
        (3, 3, 64, 64),
        (64,),
      ],
    )

  def test_initial_weights_are_within_pytorchs_bounds(self):
    keras.utils.set_random_seed(0)
    paraphraser = factors.Paraphraser(0.5)
    paraphraser.build((None, 8, 8, 64))
    fans = [64, 64, 32, 32, 64, 64]  # of transposed kernels, their outputs
    for i, channels in enumerate(fans):
      bound = 1 / np.sqrt(9 * channels)
      for weight in paraphraser.weights[2 * i : 2 * i + 2]:
        largest = np.abs(weight.numpy()).max()
        self.assertLessEqual(largest, bound)
        self.assertGreater(largest, 0.8 * bound)

  def test_saved_file_gives_the_same_factor(self):
    x = _maps(1, 4, 4, 8)
    paraphraser = factors.Paraphraser(0.75)
    factor = paraphraser.encode(x)
    path = os.path.join(self.create_tempdir().full_path, 'p.keras')
    paraphraser.save(path)
    loaded = keras.models.load_model(path)
    self.assertEqual(loaded.rate, 0.75)
    np.testing.assert_array_equal(loaded.encode(x), factor)

  @parameterized.parameters(0, -0.5, float('nan'))
  def test_rate_that_is_not_positive_is_refused(self, rate):
    with self.assertRaisesRegex(errors.UsageError, 'above 0'):
      factors.Paraphraser(rate)

  def test_rate_that_leaves_no_channel_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'leaves no factor'):
      factors.Paraphraser(0.1).encode(_maps(1, 2, 2, 4))

  def test_decoding_before_m_is_known_is_refused(self):
    with self.assertRaisesRegex(ValueError, 'encode'):
      factors.Paraphraser().decode(_maps(1, 2, 2, 4))

  def test_input_that_is_no_feature_map_is_refused(self):
    with self.assertRaisesRegex(ValueError, r'\[B, H, W, C\]'):
      factors.Paraphraser().encode(_maps(2, 3))


class TranslatorTest(absltest.TestCase):
  def test_factor_equals_pytorchs_with_the_same_weights(self):
    x = _maps(1, 4, 5, 3)
    weights = _weights(
      [((3, 3, 3, 3), 3), ((5, 3, 3, 3), 5), ((5, 5, 3, 3), 5)], seed=1
    )
    translator = factors.Translator(5)
    translator.build(x.shape)
    translator.set_weights(_to_keras(weights))
    np.testing.assert_allclose(
      translator(x)[0], _chain(_torch_convolution, x[0], weights), atol=1e-5
    )

  def test_saved_file_gives_the_same_factor(self):
    x = _maps(1, 4, 4, 3)
    translator = factors.Translator(6)
    factor = translator(x)
    path = os.path.join(self.create_tempdir().full_path, 't.keras')
    translator.save(path)
    np.testing.assert_array_equal(keras.models.load_model(path)(x), factor)

  def test_factor_without_channels_is_refused(self):
    with self.assertRaisesRegex(ValueError, '1 channel or more'):
      factors.Translator(0)


if __name__ == '__main__':
  absltest.main()
