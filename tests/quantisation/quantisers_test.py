"""Values, weights and constants on their grids."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf.quantisation import quantisers


class WeightsTest(parameterized.TestCase):
  @parameterized.parameters(
    ((3, 3, 4, 5), 1, 'channel', 5),
    ((3, 3, 4, 2), 2, 'channel', 8),
    ((6, 7), 1, 'channel', 7),
    ((3, 3, 4, 5), 1, 'tensor', 1),
    ((3, 3, 4, 2), 2, 'tensor', 1),
  )
  def test_weights_are_whole_multiples_of_their_scale(
    self, shape, channel_axes, scales, count
  ):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    rounded = quantisers.round_weights(
      tf.constant(kernel), channel_axes, scales
    ).numpy()
    channels = int(np.prod(shape[-channel_axes:]))
    values = kernel.reshape(-1, channels)
    steps = quantisers.weight_scales(values, scales)
    self.assertLen(steps, count)
    whole = rounded.reshape(-1, channels) / steps
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-3)
    self.assertAlmostEqual(np.abs(whole).max(), 127, places=3)
    self.assertLessEqual(
      (np.abs(rounded.reshape(-1, channels) - values) / steps).max(), 0.501
    )

  def test_gradient_passes_straight_through(self):
    kernel = tf.random.normal((3, 3, 2, 2))
    with tf.GradientTape() as tape:
      tape.watch(kernel)
      y = quantisers.round_weights(kernel, 1, 'channel')
    gradient = tape.gradient(y, kernel)
    np.testing.assert_array_equal(gradient, tf.ones_like(kernel))

  def test_weights_of_zero_stay_zero(self):
    rounded = quantisers.round_weights(tf.zeros((2, 2)), 1, 'channel')
    np.testing.assert_array_equal(rounded, np.zeros((2, 2)))


class ConstantTest(parameterized.TestCase):
  @parameterized.parameters(3.0, -3.0, 1 / 6, 0.0)
  def test_one_number_is_kept(self, number):
    rounded = quantisers.round_constant(tf.constant(number))
    self.assertAlmostEqual(float(rounded), number, places=6)

  def test_bias_is_in_whole_units(self):
    bias = quantisers.round_bias(tf.constant([0.26, -1.0]), tf.constant(0.1))
    np.testing.assert_allclose(bias, [0.3, -1.0], atol=1e-6)


class ScaleTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.0, 255.0, 1.0, -128),
    (-1.0, 1.0, 2 / 255, 0),
    (0.0, 0.0, 2e-6 / 255, -128),
  )
  def test_scale_and_zero_point(self, low, high, scale, zero):
    found, found_zero = quantisers.scale_and_zero(low, high)
    self.assertAlmostEqual(found, scale, places=9)
    self.assertEqual(found_zero, zero)


class QuantiserTest(absltest.TestCase):
  def test_group_that_is_left_out_is_not_rounded(self):
    mode = quantisers.Mode('channel')
    layer = quantisers.Quantiser('place', 'layer', mode)
    x = tf.constant([0.1234, 3.0])
    np.testing.assert_allclose(layer(x), [31 / 255, 1.0], atol=1e-6)
    for switches, wanted in (
      ({}, x),
      ({'other': True}, x),
      ({'layer': False}, x),
      ({'layer': True}, [31 / 255, 1.0]),
    ):
      mode.switches = switches
      np.testing.assert_allclose(layer(x), wanted, atol=1e-6)

  def test_variable_switches_what_is_compiled(self):
    mode = quantisers.Mode('channel')
    switch = tf.Variable(False)
    mode.switches = {'layer': switch}
    layer = quantisers.Quantiser('place', 'layer', mode)
    compiled = tf.function(layer, autograph=False)
    x = tf.constant([0.1234, 3.0])
    np.testing.assert_array_equal(compiled(x), x)
    switch.assign(True)
    np.testing.assert_allclose(compiled(x), [31 / 255, 1.0], atol=1e-6)

  def test_ends_have_the_gradients_of_what_they_cut(self):
    layer = quantisers.Quantiser('p', 'g', quantisers.Mode('channel'))
    layer.low.assign(-1.0)
    x = tf.constant([-2.0, 0.5, 3.0, 4.0])
    with tf.GradientTape() as tape:
      tape.watch(x)
      y = tf.reduce_sum(layer(x))
    low, high, values = tape.gradient(y, [layer.low.value, layer.high.value, x])
    self.assertEqual((float(low), float(high)), (1.0, 2.0))
    np.testing.assert_array_equal(values, [0, 1, 0, 0])


if __name__ == '__main__':
  absltest.main()
