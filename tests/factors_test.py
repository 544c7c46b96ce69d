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


def _torch_pointwise(x, kernel, bias):
  """torch.nn.functional.conv2d(x, kernel, bias), a kernel of 1x1."""
  return np.tensordot(kernel[:, :, 0, 0], x, 1) + bias[:, None, None]


def _torch_transposed_pointwise(x, kernel, bias):
  """torch.nn.functional.conv_transpose2d(x, kernel, bias), 1x1."""
  return np.tensordot(kernel[:, :, 0, 0].T, x, 1) + bias[:, None, None]


def _bottleneck(x, weights, middle, around):
  """Runs one image through layers of 1x1, 3x3 and 1x1."""
  y = x.transpose(2, 0, 1).astype(np.float64)
  layers = (around, middle, around)
  for layer, (kernel, bias) in zip(layers, weights, strict=True):
    y = _leaky_relu(layer(y, kernel, bias))
  return y.transpose(1, 2, 0)


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

  @parameterized.parameters(
    (0, 'rate=0: .*must be above 0'),
    (-0.5, 'rate=-0.5: .*must be above 0'),
    (float('nan'), 'rate=nan: give a number'),
    (float('inf'), 'rate=inf: give a number'),
    (None, 'rate=None: give a number'),
    ('0.5', "rate='0.5': give a number"),
    ([1], r'rate=\[1\]: give a number'),
  )
  def test_rate_that_is_not_positive_is_refused(self, rate, message):
    with self.assertRaisesRegex(errors.UsageError, message):
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


class FormTest(parameterized.TestCase):
  def test_bottleneck_equals_pytorchs_layers_with_the_same_weights(self):
    x = _maps(1, 5, 4, 6)
    encoder = _weights(
      [((3, 6, 1, 1), 3), ((3, 3, 3, 3), 3), ((2, 3, 1, 1), 2)], seed=1
    )
    decoder = _weights(
      [((2, 3, 1, 1), 3), ((3, 3, 3, 3), 3), ((3, 6, 1, 1), 6)], seed=2
    )
    paraphraser = factors.Paraphraser(1 / 3, form='bottleneck')
    paraphraser.build(x.shape)
    paraphraser.set_weights(_to_keras(encoder + decoder))
    factor = _bottleneck(x[0], encoder, _torch_convolution, _torch_pointwise)
    np.testing.assert_allclose(paraphraser.encode(x)[0], factor, atol=1e-5)
    np.testing.assert_allclose(
      paraphraser(x)[0],
      _bottleneck(
        factor, decoder, _torch_transposed, _torch_transposed_pointwise
      ),
      atol=1e-5,
    )
    translator = factors.Translator(2, form='bottleneck')
    translator.build(x.shape)
    translator.set_weights(_to_keras(encoder))
    np.testing.assert_allclose(translator(x)[0], factor, atol=1e-5)

  def test_width_of_the_widest_map_chooses_the_form(self):
    def paraphraser(channels, rate=0.5, **form):
      part = factors.Paraphraser(rate, **form)
      part.build((None, 4, 4, channels))
      return part.form

    def translator(student, factor, **form):
      part = factors.Translator(factor, **form)
      part.build((None, 4, 4, student))
      return part.form

    self.assertEqual(paraphraser(256), 'paper')
    self.assertEqual(paraphraser(257), 'bottleneck')
    # The factor may be the wider one.
    self.assertEqual(paraphraser(100, rate=3), 'bottleneck')
    self.assertEqual(translator(256, 256), 'paper')
    self.assertEqual(translator(257, 8), 'bottleneck')
    self.assertEqual(translator(8, 257), 'bottleneck')
    self.assertEqual(paraphraser(257, form='paper'), 'paper')
    self.assertEqual(translator(8, 8, form='bottleneck'), 'bottleneck')

  def test_wide_bottleneck_is_small_beside_the_papers_form(self):
    # The last maps of a ResNet50, and those of a MobileNetV2 beside them.
    paraphraser = factors.Paraphraser(0.5)
    paraphraser.build((None, 4, 4, 2048))
    w = 256
    self.assertEqual(
      paraphraser.count_params(),
      # Kernels of both halves, then the biases.
      2 * (2048 * w + 9 * w * w + w * 1024) + 4 * w + 1024 + 2048,
    )
    translator = factors.Translator(1024)
    translator.build((None, 4, 4, 1280))
    self.assertEqual(
      translator.count_params(),
      1280 * w + 9 * w * w + w * 1024 + 2 * w + 1024,
    )

  def test_middle_is_half_as_wide_as_the_widest_map(self):
    translator = factors.Translator(32, form='bottleneck')
    translator.build((None, 8, 8, 64))
    self.assertEqual(
      [tuple(weight.shape) for weight in translator.weights[::2]],
      [(1, 1, 64, 32), (3, 3, 32, 32), (1, 1, 32, 32)],
    )

  def test_file_keeps_its_form(self):
    x = _maps(1, 4, 4, 8)
    folder = self.create_tempdir().full_path
    for name, part in (
      ('paraphraser', factors.Paraphraser(form='bottleneck')),
      ('translator', factors.Translator(4, form='bottleneck')),
    ):
      expected = part(x)
      path = os.path.join(folder, f'{name}.keras')
      part.save(path)
      loaded = keras.models.load_model(path)
      self.assertEqual(loaded.form, 'bottleneck')
      np.testing.assert_array_equal(loaded(x), expected)

  def test_file_of_an_earlier_version_has_the_papers_form(self):
    config = factors.Paraphraser().get_config()
    del config['form']
    paraphraser = factors.Paraphraser.from_config(config)
    paraphraser.build((None, 4, 4, 300))
    self.assertEqual(paraphraser.encoder[0].kernel_size, (3, 3))
    self.assertEqual(paraphraser.form, 'paper')

  def test_unknown_form_is_refused(self):
    for make in (
      lambda: factors.Paraphraser(form='narrow'),
      lambda: factors.Translator(4, form='narrow'),
    ):
      with self.assertRaisesRegex(
        errors.UsageError, "form='narrow': give one of auto, paper, bottle"
      ):
        make()


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

  def test_number_of_channels_that_is_none_is_refused(self):
    for channels in (0, 2.5, None, 'six', 10**30):
      with self.assertRaisesRegex(
        errors.UsageError, f'channels={channels!r}: give an integer of 1'
      ):
        factors.Translator(channels)


if __name__ == '__main__':
  absltest.main()
