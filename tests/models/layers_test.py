"""Layers against numpy references of PyTorch's defaults."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import layers

_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2023, 0.1994, 0.2010)


def _spec(**values):
  return layers.Spec(
    **{
      'image_shape': (6, 5, 3),
      'classes': 7,
      'mean': _MEAN,
      'std': _STD,
      **values,
    }
  )


def _torch_convolution(x, kernel, bias, stride, padding):
  """torch.nn.functional.conv2d, on [H, W, I] and [h, w, I, O], in float64."""
  x = np.pad(x.astype(np.float64), ((padding,) * 2, (padding,) * 2, (0, 0)))
  size = kernel.shape[0]
  height, width = ((n - size) // stride + 1 for n in x.shape[:2])
  y = np.zeros((height, width, kernel.shape[-1]))
  for i in range(height):
    for j in range(width):
      top, left = i * stride, j * stride
      patch = x[top : top + size, left : left + size]
      y[i, j] = np.tensordot(patch, kernel, 3)
  return y + bias


class ImagesTest(absltest.TestCase):
  def test_bytes_are_normalised_inside_the_model(self):
    model = keras.Model(*layers.images(_spec()))
    x = np.random.default_rng(0).integers(256, size=(2, 6, 5, 3))
    np.testing.assert_allclose(
      model(x.astype(np.uint8)),
      (x / 255 - np.array(_MEAN)) / np.array(_STD),
      rtol=1e-5,
      atol=1e-6,
    )

  def test_input_takes_raw_images_of_any_batch(self):
    inputs, _ = layers.images(_spec())
    self.assertEqual(inputs.shape, (None, 6, 5, 3))
    self.assertEqual(inputs.dtype, 'uint8')


class ConvolutionTest(parameterized.TestCase):
  def _built(self, shape, channels, **kwargs):
    x = keras.Input(shape)
    return keras.Model(
      x, layers.convolution(x, channels, name='conv', **kwargs)
    )

  @parameterized.product(
    stride=(1, 2), size=(1, 3), height=(7, 8), bias=(True, False)
  )
  def test_convolution_equals_pytorchs_with_even_padding(
    self, stride, size, height, bias
  ):
    # Keras's own 'same' pads (0, 1) at stride 2 and even height.
    rng = np.random.default_rng(0)
    model = self._built((height, 6, 2), 3, size=size, stride=stride, bias=bias)
    kernel = rng.normal(size=(size, size, 2, 3))
    offset = rng.normal(size=3) if bias else np.zeros(3)
    model.get_layer('conv').set_weights([kernel] + [offset] * bias)
    x = rng.normal(size=(height, 6, 2)).astype(np.float32)
    theirs = _torch_convolution(x, kernel, offset, stride, size // 2)
    np.testing.assert_allclose(model(x[None])[0], theirs, rtol=1e-4, atol=1e-5)

  def test_kernel_and_bias_are_uniform_within_one_over_root_fan_in(self):
    keras.utils.set_random_seed(0)
    layer = self._built((4, 4, 16), 256, bias=True).get_layer('conv')
    bound = 1 / np.sqrt(3 * 3 * 16)
    for weight in (layer.kernel.numpy(), layer.bias.numpy()):
      largest = np.abs(weight).max()
      self.assertBetween(largest, 0.95 * bound, bound * (1 + 1e-6))
      # A uniform distribution's deviation; a normal one's would be smaller.
      np.testing.assert_allclose(weight.std(), bound / np.sqrt(3), rtol=0.1)

  def test_bias_is_there_only_when_it_is_asked_for(self):
    layer = self._built((4, 4, 2), 3).get_layer('conv')
    self.assertLen(layer.weights, 1)


class BatchNormTest(absltest.TestCase):
  def _layer(self, **values):
    x = keras.Input((4, 4, 2))
    model = keras.Model(x, layers.batch_norm(x, _spec(**values), name='bn'))
    return model.get_layer('bn')

  def test_inference_uses_epsilon_1e_5(self):
    layer = self._layer()
    gamma, beta, mean, variance = [2, 1], [0.5, 0], [1, -1], [0, 3e-5]
    layer.set_weights(np.array([gamma, beta, mean, variance]))
    x = np.full((1, 4, 4, 2), 1.01, np.float32)
    # gamma * (x - mean) / sqrt(variance + 1e-5) + beta
    np.testing.assert_allclose(
      layer(x, training=False)[0, 0, 0],
      [2 * 0.01 / np.sqrt(1e-5) + 0.5, 2.01 / np.sqrt(4e-5)],
      rtol=1e-4,
    )

  def test_training_keeps_nine_tenths_of_the_statistics(self):
    # PyTorch's momentum of 0.1 is Keras's of 0.9.
    layer = self._layer()
    layer(np.full((2, 4, 4, 2), 5, np.float32), training=True)
    np.testing.assert_allclose(layer.moving_mean, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.9, 0.9], rtol=1e-6)

  def test_spec_decides_whether_replicas_share_statistics(self):
    self.assertFalse(self._layer().synchronized)
    self.assertTrue(self._layer(sync_batch_norm=True).synchronized)


class LogitsTest(absltest.TestCase):
  def _model(self):
    x = keras.Input((3, 2, 400))
    return keras.Model(x, layers.logits(x, _spec(classes=7)))

  def test_logits_are_a_dense_layer_on_the_mean_over_places(self):
    model = self._model()
    kernel, bias = model.get_layer('logits').get_weights()
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 400))
    np.testing.assert_allclose(
      model(x.astype(np.float32)),
      x.mean(axis=(1, 2)) @ kernel + bias,
      rtol=1e-4,
      atol=1e-5,
    )

  def test_weights_are_uniform_within_one_over_root_fan_in(self):
    keras.utils.set_random_seed(0)
    kernel, bias = self._model().get_layer('logits').get_weights()
    for weight in (kernel, bias):
      self.assertBetween(np.abs(weight).max(), 0.5 / 20, (1 + 1e-6) / 20)

  def test_logits_stay_float32_under_mixed_precision(self):
    before = keras.config.dtype_policy()
    self.addCleanup(keras.config.set_dtype_policy, before)
    keras.config.set_dtype_policy('mixed_bfloat16')
    model = self._model()
    self.assertEqual(model.get_layer('pool').compute_dtype, 'bfloat16')
    self.assertEqual(model.output.dtype, 'float32')


if __name__ == '__main__':
  absltest.main()
