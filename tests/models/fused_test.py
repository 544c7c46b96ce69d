"""The fused twin: same numbers, same gradients, same weights, plain Keras."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf.models import fused, layer_choice, layers, zoo
from tests import networks

_SPEC = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)


def _images(count=6):
  return networks.images(count, 32, 3)


def _norm(**config):
  """Returns a one-layer model of batch norm on maps `[B, 5, 4, 3]`."""
  inputs = keras.Input((5, 4, 3))
  return networks.disturb(
    keras.Model(
      inputs, keras.layers.BatchNormalization(name='norm', **config)(inputs)
    )
  )


def _train(model, x, weights):
  """Returns outputs, gradients and weights after a training pass."""
  before = [w.numpy() for w in weights]
  direction = np.random.default_rng(2).normal(size=model(x).shape)
  with tf.GradientTape() as tape:
    tape.watch(x)
    y = model(x, training=True)
    loss = tf.reduce_sum(y * tf.constant(direction, y.dtype))
  trained = [w.value for w in model.trainable_variables]
  gradients = tape.gradient(loss, [x, *trained])
  after = [w.numpy() for w in weights]
  for weight, value in zip(weights, before, strict=True):
    weight.assign(value)
  return y, gradients, after


class FusedBatchNormalizationTest(parameterized.TestCase):
  @parameterized.parameters(
    {},
    {'momentum': 0.9, 'epsilon': 1e-5},
    {'center': False},
    {'scale': False},
    {'axis': 3},
  )
  def test_pass_gradients_and_statistics_are_keras(self, **config):
    model = _norm(**config)
    twin = fused.fuse(model)
    self.assertIsInstance(twin.get_layer('norm'), fused.FusedBatchNormalization)
    x = tf.constant(
      np.random.default_rng(0).normal(1.0, 3.0, (2, 5, 4, 3)), tf.float32
    )
    expected = _train(model, x, model.weights)
    found = _train(twin, x, model.weights)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
    for ours, theirs in zip(found[1], expected[1], strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-5)
    # 40 values a channel: the unbiased variance would be 2.6 % larger.
    for ours, theirs in zip(found[2], expected[2], strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-5)

  def test_one_value_a_channel_leaves_the_statistics_finite(self):
    inputs = keras.Input((1, 1, 2))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    twin = fused.fuse(model)
    twin(np.float32([[[[3.0, -4.0]]]]), training=True)
    for weight in model.weights:
      self.assertTrue(np.isfinite(weight.numpy()).all(), weight.name)

  @parameterized.parameters('mixed_bfloat16', 'mixed_float16')
  def test_statistics_stay_float32_under_mixed_precision(self, policy):
    model = _norm(dtype=policy)
    twin = fused.fuse(model)
    x = np.random.default_rng(0).normal(size=(8, 5, 4, 3)).astype(np.float32)
    # A mean that bfloat16, with its 8 bits, cannot hold.
    moved = twin(x + 0.001, training=True)
    self.assertEqual(moved.dtype, keras.DTypePolicy(policy).compute_dtype)
    for weight in model.weights:
      self.assertEqual(weight.dtype, 'float32')

  @parameterized.parameters(6, 16)
  def test_bfloat16_is_near_float32_whatever_the_channels(self, channels):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(1.0, 3.0, (8, 5, 4, channels)), tf.float32)
    found = []
    for dtype in ('mixed_bfloat16', 'float32'):
      inputs = keras.Input((5, 4, channels))
      model = keras.Model(
        inputs, keras.layers.BatchNormalization(dtype=dtype)(inputs)
      )
      twin = fused.fuse(model)
      y, gradients, after = _train(twin, x, model.weights)
      self.assertEqual(y.dtype, keras.DTypePolicy(dtype).compute_dtype)
      found.append([tf.cast(y, tf.float32), *gradients, *after])
    for half, full in zip(*found, strict=True):
      self.assertLess(
        float(tf.norm(half - full)), 0.02 * float(tf.norm(full)) + 1e-3
      )

  def test_frozen_batch_norm_keeps_its_statistics(self):
    model = _norm(trainable=False)
    before = [w.numpy() for w in model.weights]
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    y = fused.fuse(model)(x, training=True)
    np.testing.assert_allclose(y, model(x, training=False), atol=1e-6)
    for now, then in zip(model.weights, before, strict=True):
      np.testing.assert_array_equal(now.numpy(), then)

  def test_layer_may_be_frozen_or_freed_later(self):
    model = _norm()
    twin, layer = fused.fuse(model), model.get_layer('norm')
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    for trainable in (False, True):
      layer.trainable = trainable
      before = layer.moving_mean.numpy()
      y = twin(x, training=True)
      moved = (layer.moving_mean.numpy() != before).any()
      self.assertEqual(moved, trainable)
      expected = model(x, training=True)
      np.testing.assert_allclose(y, expected, atol=2e-6)

  @parameterized.parameters(
    {'axis': 1}, {'synchronized': True}, {'renorm': True}
  )
  def test_what_the_kernel_does_not_cover_stays_keras(self, **config):
    model = _norm(**config)
    self.assertIs(fused.fuse(model).get_layer('norm'), model.get_layer('norm'))


class SubsampledConvolutionTest(parameterized.TestCase):
  @parameterized.product(
    channels=(1, 3, 5, 8), strides=(2, (3, 1)), padding=('same', 'valid')
  )
  def test_gradients_are_those_of_the_definition(
    self, channels, strides, padding
  ):
    # oneDNN's own filter gradient is wrong for the first three on AVX2.
    keras.utils.set_random_seed(channels)
    inputs = keras.Input((9, 8, channels))
    convolution = keras.layers.Conv2D(
      7,
      1,
      strides=strides,
      padding=padding,
      activation='tanh',
      bias_initializer='random_normal',
      name='shortcut',
    )
    model = keras.Model(inputs, convolution(inputs))
    twin = fused.fuse(model)
    self.assertIsInstance(
      twin.get_layer('shortcut'), fused.SubsampledConvolution
    )
    self.assertEqual(twin.output_shape, model.output_shape)
    x = tf.random.normal((16, 9, 8, channels))
    y, (dx, kernel, bias), _ = _train(twin, x, [])
    direction = np.random.default_rng(2).normal(size=y.shape)
    rows, columns = convolution.strides
    seen = x[:, ::rows, ::columns].numpy().astype(np.float64)
    expected = np.tanh(
      seen @ convolution.kernel[0, 0].numpy() + convolution.bias.numpy()
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    before = direction * (1 - expected**2)
    np.testing.assert_allclose(
      kernel[0, 0], np.einsum('bhwc,bhwd->cd', seen, before), atol=1e-4
    )
    np.testing.assert_allclose(bias, before.sum((0, 1, 2)), atol=1e-4)
    places = np.zeros(x.shape)
    places[:, ::rows, ::columns] = before @ convolution.kernel[0, 0].numpy().T
    np.testing.assert_allclose(dx, places, atol=1e-5)

  def test_other_convolutions_stay_keras(self):
    inputs = keras.Input((8, 8, 16))
    x = keras.layers.Conv2D(4, 1, strides=2, name='channels')(inputs)
    x = keras.layers.Conv2D(4, 1, name='strides')(x)
    x = keras.layers.Conv2D(4, 3, strides=2, name='kernel')(x)
    model = keras.Model(inputs, x)
    twin = fused.fuse(model)
    for name in ('channels', 'strides', 'kernel'):
      self.assertIs(twin.get_layer(name), model.get_layer(name))

  def test_mixed_precision_and_frozen_weights_are_kept(self):
    inputs = keras.Input((8, 8, 4))
    layer = keras.layers.Conv2D(
      4, 1, strides=2, dtype='mixed_bfloat16', trainable=False
    )
    twin = fused.fuse(keras.Model(inputs, layer(inputs)))
    self.assertEqual(twin(np.zeros((1, 8, 8, 4))).dtype, 'bfloat16')
    self.assertEmpty(twin.trainable_variables)
    self.assertLen(twin.variables, 2)


class DepthwiseConvolutionTest(parameterized.TestCase):
  """Its values and gradients are those of Keras's layer in float64."""

  def _layer(self, dtype='float32', **config):
    inputs = keras.Input(
      (9, 9, 6), dtype='float64' if dtype == 'float64' else 'float32'
    )
    layer = keras.layers.DepthwiseConv2D(
      name='depthwise',
      bias_initializer='normal',
      **{'kernel_size': 5, 'dtype': dtype, **config},
    )
    return keras.Model(inputs, layer(inputs))

  @parameterized.parameters(
    {},
    {'strides': 2, 'padding': 'same'},
    {'kernel_size': 7, 'padding': 'same', 'activation': 'relu'},
    {'depth_multiplier': 2, 'use_bias': False},
  )
  def test_pass_and_gradients_are_those_of_the_definition(self, **config):
    model = self._layer(**config)
    exact = self._layer('float64', **config)
    exact.set_weights(model.get_weights())
    twin = fused.fuse(model)
    self.assertIsInstance(
      twin.get_layer('depthwise'), fused.DepthwiseConvolution
    )
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 6))
    found = _train(twin, tf.constant(images, tf.float32), model.weights)
    wanted = _train(exact, tf.constant(images), exact.weights)
    self.assertEqual(twin.output_shape, model.output_shape)
    for one, other in zip(
      [found[0], *found[1]], [wanted[0], *wanted[1]], strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

  @parameterized.parameters(3, 5)
  def test_mixed_precision_is_kept_and_its_gradients_are_as_good(self, size):
    config = {'padding': 'same', 'kernel_size': size}
    model = self._layer(dtype='mixed_bfloat16', **config)
    exact = self._layer('float64', **config)
    exact.set_weights(model.get_weights())
    twin = fused.fuse(model)
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 6))
    x = tf.constant(images, tf.float32)
    self.assertEqual(twin(x).dtype, tf.bfloat16)
    (_, found, _), (_, plain, _) = (
      _train(each, x, model.weights) for each in (twin, model)
    )
    _, wanted, _ = _train(exact, tf.constant(images), exact.weights)
    for ours, keras_own, right in zip(found, plain, wanted, strict=True):
      self.assertEqual(ours.dtype, tf.float32)
      one, other = (
        float(tf.norm(tf.cast(each, tf.float64) - right))
        for each in (ours, keras_own)
      )
      self.assertLess(one, 0.02 * float(tf.norm(right)))
      self.assertLess(one, 1.1 * other)

  def test_others_stay_keras(self):
    for config in (
      {'kernel_size': 3},
      {'strides': 2, 'kernel_size': 3},
      {'dilation_rate': 2},
    ):
      layer = fused.fuse(self._layer(**config)).get_layer('depthwise')
      self.assertIs(type(layer), keras.layers.DepthwiseConv2D)


class Relu6Test(parameterized.TestCase):
  """Its values and gradients are those of TensorFlow's kernel."""

  def _twin(self, layer):
    inputs = keras.Input((None, None, 5), dtype=layer.compute_dtype)
    return fused.fuse(keras.Model(inputs, layer(inputs))).layers[-1]

  @parameterized.parameters(
    keras.layers.ReLU(6.0, dtype='mixed_bfloat16'),
    keras.layers.Activation('relu6', dtype='mixed_bfloat16'),
  )
  def test_pass_and_gradients_are_tensorflows(self, layer):
    twin = self._twin(layer)
    self.assertIsInstance(twin, fused.Relu6)
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, 7, 9, 5)) * 10 ** generator.uniform(
      -40, 38, (4, 7, 9, 5)
    )
    next_to_six = np.nextafter(np.float32(6), [0, 7], dtype=np.float32)
    values[0, 1, :7, 0] = [0, -0.0, 6, -6, *next_to_six, 6.03125]
    values[1, 1, :2, 0] = np.inf, -np.inf
    x = tf.cast(values, tf.bfloat16)
    factor = tf.cast(generator.normal(size=x.shape), tf.bfloat16)
    results = []
    for clamp in (twin, tf.nn.relu6, tf.function(twin), twin.layer):
      with tf.GradientTape() as tape:
        tape.watch(x)
        y = clamp(x)
        loss = y * factor
      self.assertEqual(y.dtype, tf.bfloat16)
      results.append((y, tape.gradient(loss, x)))
    for y, dx in results[1:]:
      np.testing.assert_array_equal(y, results[0][0])
      np.testing.assert_array_equal(dx, results[0][1])
    self.assertGreater(np.mean(np.float32(results[0][1]) != 0), 0.01)

  @parameterized.parameters(np.nan, -np.nan)
  def test_a_channel_that_is_not_a_number_shows(self, nan):
    twin = self._twin(keras.layers.ReLU(6.0, dtype='mixed_bfloat16'))
    x = np.ones((2, 3, 3, 5), np.float32)
    x[..., 3] = nan
    x = tf.cast(x, tf.bfloat16)
    for clamp in (twin, tf.function(twin)):
      self.assertTrue(np.isnan(np.float32(clamp(x))).all())
    flat = tf.function(twin)(tf.reshape(x, [18, 5]))
    self.assertTrue(np.isnan(np.float32(flat)).all())
    # The corners of such a map do not meet this weight.
    kernel = np.ones((3, 3, 5, 1), np.float32)
    kernel[0, 0] = nan
    y = tf.nn.depthwise_conv2d(tf.ones([1, 4, 5, 5]), kernel, [1] * 4, 'SAME')
    self.assertFalse(np.isnan(y[0, 0]).any())
    y = twin(tf.cast(y, tf.bfloat16))
    self.assertTrue(np.isnan(np.float32(y)).all())

  def test_others_stay_keras(self):
    for layer in (
      keras.layers.ReLU(6.0),
      keras.layers.ReLU(dtype='mixed_bfloat16'),
      keras.layers.ReLU(6.0, negative_slope=0.1, dtype='mixed_bfloat16'),
      keras.layers.ReLU(6.0, threshold=1.0, dtype='mixed_bfloat16'),
      keras.layers.Activation('relu', dtype='mixed_bfloat16'),
    ):
      self.assertIs(self._twin(layer), layer)


class FuseTest(parameterized.TestCase):
  @parameterized.parameters('resnet8', 'resnet8x0.25', 'wrn-10-1', 'vgg13')
  def test_network_trains_as_its_plain_form_does(self, name):
    model = networks.disturb(zoo.build(name, _SPEC))
    twin = fused.fuse(model)
    # The tests' tolerance for a whole network; float32 holds 7 digits.
    images = tf.constant(_images())
    plain = model(images, training=True).numpy()
    after = [w.numpy() for w in model.weights]
    networks.disturb(model)
    np.testing.assert_allclose(
      twin(images, training=True), plain, rtol=1e-4, atol=1e-4
    )
    for weight, value in zip(model.weights, after, strict=True):
      if not weight.trainable:
        np.testing.assert_allclose(
          weight.numpy(), value, rtol=1e-4, atol=1e-4, err_msg=weight.path
        )

  def test_weights_are_shared_and_layers_keep_their_names(self):
    model = zoo.build('resnet8', _SPEC)
    twin = fused.fuse(model)
    self.assertEqual(
      [id(w) for w in twin.trainable_variables],
      [id(w) for w in model.trainable_variables],
    )
    self.assertEqual(
      layer_choice.last_feature_map(twin), layer_choice.last_feature_map(model)
    )

  def test_model_is_saved_as_plain_keras_after_its_twin_trained(self):
    model = zoo.build('resnet8', _SPEC)
    fused.fuse(model)(_images(), training=True)
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    loaded = keras.models.load_model(path)
    self.assertNotIn('ft_tf', loaded.to_json())
    np.testing.assert_allclose(loaded(_images()), model(_images()), atol=1e-6)

  def test_nested_and_sequential_models_are_fused_too(self):
    backbone = keras.Sequential(
      [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(),
      ],
      name='backbone',
    )
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    model = keras.Model(inputs, x)
    twin = fused.fuse(model)
    kinds = {type(layer) for layer in twin.get_layer('backbone').layers}
    self.assertIn(fused.FusedBatchNormalization, kinds)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected = model(x, training=True)
    np.testing.assert_allclose(twin(x, training=True), expected, atol=1e-5)

  def test_losses_of_layers_are_those_of_the_plain_model(self):
    penalty = {'activity_regularizer': 'l1', 'kernel_regularizer': 'l2'}
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, strides=2, **penalty)(x)
    x = keras.layers.DepthwiseConv2D(5, activity_regularizer='l2')(
      keras.layers.ZeroPadding2D()(x)
    )
    x = keras.layers.BatchNormalization(
      activity_regularizer='l2', gamma_regularizer='l1'
    )(x)
    model = networks.disturb(keras.Model(inputs, x))
    twin = fused.fuse(model)
    kept = [layer for layer in twin.layers if layer in model.layers]
    self.assertLen(kept, 1)  # the padding
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    model(x, training=True)
    expected = sorted(float(loss) for loss in model.losses)
    twin(x, training=True)
    # To the model that holds the layers, too, as a Distiller holds its student.
    for found in (twin.losses, model.losses):
      found = sorted(float(loss) for loss in found)
      np.testing.assert_allclose(found, expected, rtol=1e-4)
    self.assertLen(expected, 5)

  def test_layer_that_is_called_twice_stays_one(self):
    inputs = keras.Input((4, 4, 2))
    norm = keras.layers.BatchNormalization(name='norm')
    model = keras.Model(inputs, norm(keras.layers.ReLU()(norm(inputs))))
    twin = fused.fuse(model)
    found = [layer for layer in twin.layers if layer.name == 'norm']
    self.assertLen(found, 1)


if __name__ == '__main__':
  absltest.main()
