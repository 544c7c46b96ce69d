"""Networks of keras.applications, made for small images."""

import functools
import os

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.evaluation import device_files
from ft_tf.export import convert
from ft_tf.models import (
  applications,
  feature_maps,
  folding,
  fused,
  layer_choice,
  layers,
  model_files,
  taps,
  zoo,
)
from ft_tf.signals import constant
from tests import networks


def _spec(size=32, channels=3, **values):
  return layers.Spec(
    image_shape=(size, size, channels),
    classes=5,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
    **values,
  )


@functools.cache
def _built(name, size):
  """Returns a small network and its pairs, which tests leave as they are."""
  return applications.build(name, _spec(size))


@functools.cache
def _phone(size):
  """Returns a phone's network that has seen images, and these; both shared."""
  keras.utils.set_random_seed(0)
  model = zoo.build('mobilenetv3smallx0.5', _spec(size))
  images = networks.images(16, size, 3)
  norms = []
  for layer in model.layers:
    if isinstance(layer, keras.layers.Dropout):
      layer.rate = 0.0  # Training repeats.
    if isinstance(layer, keras.layers.BatchNormalization):
      norms.append(layer)
      layer.momentum = 0.0  # One pass does.
  model(images, training=True)
  for norm in norms:
    norm.momentum = layers.MOMENTUM
  return model, images


class NamesTest(parameterized.TestCase):
  @parameterized.parameters(
    'mobilenet',
    'mobilenetx0.25',
    'mobilenetv2x0.35',
    'mobilenetv3large',
    'efficientnetb7',
    'efficientnetv2s',
    'resnet50',
    'resnet152v2',
    'convnextxlarge',
    'xception',
    'nasnetlarge',
  )
  def test_function_of_keras_is_a_name(self, name):
    self.assertTrue(applications.is_name(name))

  @parameterized.parameters(
    'MobileNetV2',
    'resnet18',
    'resnet20',
    'vgg13',
    'mobilenetv2x0',
    'mobilenetv2x',
    'resnet50x0.5',  # No width there.
    'imagenet_utils',
    'preprocess_input',
    '',
  )
  def test_others_are_not(self, name):
    self.assertFalse(applications.is_name(name))

  def test_family_is_keras_module(self):
    self.assertEqual(applications.family('resnet50'), 'resnet')
    self.assertEqual(applications.family('resnet50v2'), 'resnet_v2')
    self.assertEqual(applications.family('mobilenetv2x0.35'), 'mobilenet_v2')


class StridesTest(parameterized.TestCase):
  @parameterized.parameters(
    (4, 32), (8, 16), (28, 8), (32, 4), (63, 4), (64, 2), (95, 2), (96, 1)
  )
  def test_rule(self, side, taken):
    self.assertEqual(applications.strides_taken((side, side, 3)), taken)
    self.assertEqual(applications.strides_taken((200, side, 3)), taken)

  @parameterized.parameters(
    ('mobilenetx0.25', 32, 'conv_pw_13_relu', (4, 4, 256)),
    ('mobilenetx0.25', 50, 'conv_pw_13_relu', (6, 6, 256)),
    ('mobilenetx0.25', 96, 'conv_pw_13_relu', (3, 3, 256)),
    ('mobilenetv2x0.35', 8, 'out_relu', (4, 4, 1280)),
    ('mobilenetv2x0.35', 64, 'out_relu', (4, 4, 1280)),
    ('efficientnetb0', 32, 'top_activation', (4, 4, 1280)),
    ('efficientnetv2b0', 32, 'top_activation', (4, 4, 1280)),
    ('resnet50', 32, 'conv5_block3_out', (4, 4, 2048)),
    ('densenet121', 32, 'relu', (4, 4, 1024)),
    ('inceptionv3', 32, 'mixed10', (4, 4, 2048)),
    ('xception', 33, 'block14_sepconv2_act', (5, 5, 2048)),
    ('convnexttiny', 32, 'add_18', (4, 4, 768)),
  )
  def test_last_map_of_each_family(self, name, size, layer, shape):
    if name.startswith('mobilenet'):
      model, _ = _built(name, size)
    else:
      model, _ = applications.build(name, _spec(size))
    self._check_last_map(model, layer, shape)

  def _check_last_map(self, model, layer, shape):
    self.assertEqual(layer_choice.last_feature_map(model), layer)
    self.assertEqual(feature_maps.shape(model, layer), shape)
    images = networks.images(2, model.input.shape[1], 3)
    logits = model(images, training=False)
    self.assertEqual((logits.shape, logits.dtype), ((2, 5), 'float32'))

  def test_large_images_meet_the_network_as_keras_has_it(self):
    model, pairs = _built('mobilenetx0.25', 96)
    theirs = applications.plain('mobilenetx0.25', (96, 96, 3), classes=5)
    ours = [copy for layer, copy in pairs if layer.weights]
    for layer, copy in zip(
      [layer for layer in theirs.layers if layer.weights], ours, strict=True
    ):
      layer.set_weights(copy.get_weights())
    images = networks.images(2, 96, 3)
    np.testing.assert_allclose(
      model(images, training=False),
      theirs((images / 255 - 0.5) / 0.25, training=False),
      atol=1e-5,
    )

  def test_kernels_are_those_of_large_images(self):
    model, pairs = applications.build('resnet50v2', _spec(32))
    self._check_last_map(model, 'post_relu', (4, 4, 2048))
    for layer, copy in pairs:
      self.assertEqual(
        [w.shape for w in copy.weights], [w.shape for w in layer.weights]
      )
    large = applications.plain('resnet50v2', (224, 224, 3), classes=5)
    self.assertEqual(model.count_params(), large.count_params())

  @parameterized.parameters(47, 50, 64)
  def test_padding_fits_the_map_that_it_stands_before(self, size):
    """Keras pads odd and even maps differently before a stride of 2."""
    model, _ = _built('mobilenetv2x0.35', size)
    paddings = [
      layer
      for layer in model.layers
      if isinstance(layer, keras.layers.ZeroPadding2D)
    ]
    self.assertLen(paddings, 3 if size < 64 else 4)
    for layer in paddings:
      height, width = layer.input.shape[1:3]
      self.assertEqual(layer.padding, ((height % 2, 1), (width % 2, 1)))

  @parameterized.parameters('mobilenetv2', 'vgg16')
  def test_specks_are_refused(self, name):
    with self.assertRaisesRegex(
      errors.UsageError, f'{name} needs images of 4x4 .*--image_size=32'
    ):
      applications.build(name, _spec(3))

  def test_images_that_keras_refuses_are_refused_in_one_line(self):
    with self.assertRaisesRegex(
      errors.UsageError, 'xception does not take images.*71x71.*--image_size'
    ) as caught:
      applications.build('xception', _spec(64), as_built=True)
    self.assertNotIn('\n', str(caught.exception))


class BuildTest(absltest.TestCase):
  def test_batch_norm_and_dtypes_are_the_runs(self):
    model = zoo.build(
      'mobilenetv3smallx0.5',
      _spec(sync_batch_norm=True, precision='mixed_bfloat16'),
    )
    norms = [
      layer
      for layer in model.layers
      if isinstance(layer, keras.layers.BatchNormalization)
    ]
    self.assertEqual({layer.momentum for layer in norms}, {0.9})
    self.assertTrue(all(layer.synchronized for layer in norms))
    self.assertEqual(model.get_layer('conv').compute_dtype, 'bfloat16')
    self.assertEqual(model.get_layer('logits').compute_dtype, 'float32')
    self.assertEqual(model(networks.images(2, 32, 3)).dtype, 'float32')

  def test_layers_are_called_the_same_each_time(self):
    one, _ = _phone(32)
    two, _ = applications.build('mobilenetv3smallx0.5', _spec())
    self.assertEqual(
      [layer.name for layer in one.operations],
      [layer.name for layer in two.operations],
    )

  def test_grey_images_need_no_colours(self):
    model, _ = applications.build('mobilenetx0.25', _spec(28, channels=1))
    self.assertEqual(model(networks.images(2, 28, 1)).shape, (2, 5))


class PhoneTest(parameterized.TestCase):
  """A MobileNetV3Small through all that is done to a student."""

  @parameterized.parameters(32, 64)
  def test_last_map_is_not_one_of_the_top(self, size):
    model, _ = _phone(size)
    self.assertEqual(layer_choice.last_feature_map(model), 'activation_18')
    self.assertEqual(feature_maps.shape(model, 'activation_18'), (4, 4, 288))
    self.assertEqual(
      taps.features(model, ['activation_18']).layers[-2].name, 'conv_1_bn'
    )

  @parameterized.parameters(32, 64)
  @pytest.mark.slow
  def test_fused_twin_trains_alike(self, size):
    model, images = _phone(size)
    before = model.get_weights()
    self.addCleanup(model.set_weights, before)
    plain = model(images, training=True)
    after = model.get_weights()
    model.set_weights(before)
    np.testing.assert_allclose(
      fused.fuse(model)(images, training=True), plain, atol=1e-3
    )
    for ours, theirs in zip(model.get_weights(), after, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)

  def test_folded_and_constant_it_says_the_same(self):
    model, images = _phone(32)
    expected = model(images, training=False)
    folded = folding.fold(model)
    np.testing.assert_allclose(folded(images), expected, atol=1e-4)
    signal = constant.ConstantSignal(
      lambda images: folded(images, training=False), (32, 32, 3)
    )
    np.testing.assert_allclose(signal(images), expected, atol=1e-4)

  @pytest.mark.slow
  def test_file_brings_it_back(self):
    model, images = _phone(32)
    path = os.path.join(self.create_tempdir().full_path, 'm.keras')
    model.save(path)
    np.testing.assert_allclose(
      model_files.load(path)(images), model(images), atol=1e-5
    )

  @parameterized.parameters(32, 64)
  @pytest.mark.slow
  def test_int8_file_has_integers_alone(self, size):
    model, images = _phone(size)
    path = os.path.join(self.create_tempdir().full_path, 'm.tflite')
    with open(path, 'wb') as file:
      file.write(
        convert.tflite_int8(convert.float32_twin(model, 'float32'), images)
      )
    predict = device_files.LiteRTPredictor(path)
    kinds = {
      np.dtype(tensor['dtype']).name
      for tensor in predict.interpreter.get_tensor_details()
    }
    self.assertNoCommonElements(kinds, {'float32', 'float16'})
    expected = model(images, training=False).numpy()
    correlation = np.corrcoef(predict(images).ravel(), expected.ravel())[0, 1]
    self.assertGreater(correlation, 0.9)

  @pytest.mark.slow
  def test_float32_file_of_a_mixed_network_equals_keras(self):
    model = zoo.build('mobilenetv3smallx0.5', _spec(precision='mixed_bfloat16'))
    twin = convert.float32_twin(model, 'uint8')
    images = networks.images(4, 32, 3)
    path = os.path.join(self.create_tempdir().full_path, 'm.tflite')
    with open(path, 'wb') as file:
      file.write(convert.tflite_float32(twin))
    np.testing.assert_allclose(
      device_files.LiteRTPredictor(path)(images),
      twin(images, training=False),
      atol=1e-4,
    )


if __name__ == '__main__':
  absltest.main()
