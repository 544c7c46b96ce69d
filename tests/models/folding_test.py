"""Folded copies: the same function, one layer fewer for each batch norm."""

from unittest import mock

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.models import folding, layers, taps, zoo
from ft_tf.signals import constant
from tests import networks

_SPEC = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)


def _images(count=4):
  return networks.images(count, 32, 3)


def _norms(model):
  return [
    layer
    for layer in model.layers
    if isinstance(layer, keras.layers.BatchNormalization)
  ]


class FoldTest(parameterized.TestCase):
  @parameterized.parameters(
    ('resnet20', 0), ('resnet20-parameter-free', 0), ('vgg13', 0)
  )
  def test_network_gives_the_same_logits_without_batch_norm(self, name, left):
    model = networks.disturb(zoo.build(name, _SPEC))
    folded = folding.fold(model)
    self.assertLen(_norms(folded), left)
    expected = model(_images(), training=False).numpy()
    found = folded(_images(), training=False).numpy()
    # Stated tolerance: 1e-5 of the largest logit.
    self.assertLess(
      np.abs(found - expected).max(), 1e-5 * np.abs(expected).max()
    )

  def test_feature_map_of_a_deep_teacher_is_the_same_within_1e5(self):
    model = networks.disturb(zoo.build('resnet56', _SPEC))
    feature = taps.features(model, ['group3'])
    expected = feature(_images(), training=False)['group3'].numpy()
    found = folding.fold(feature)(_images())['group3'].numpy()
    self.assertLess(
      np.abs(found - expected).max(), 1e-5 * np.abs(expected).max()
    )

  def test_batch_norm_before_a_convolution_stays(self):
    # A wide ResNet normalises first; only norms behind a convolution fold.
    model = networks.disturb(zoo.build('wrn-10-1', _SPEC))
    folded = folding.fold(model)
    self.assertBetween(len(_norms(folded)), 1, len(_norms(model)) - 1)
    np.testing.assert_allclose(
      folded(_images()), model(_images(), training=False), rtol=1e-4, atol=1e-5
    )

  def test_depthwise_convolutions_fold(self):
    model = networks.disturb(
      keras.applications.MobileNetV3Small(
        input_shape=(32, 32, 3), weights=None, classes=4
      )
    )
    folded = folding.fold(model)
    self.assertEmpty(_norms(folded))
    np.testing.assert_allclose(
      folded(_images()), model(_images(), training=False), atol=1e-5
    )

  def _convolved(self, tail, **config):
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, name='conv', **config)(inputs)
    return networks.disturb(keras.Model(inputs, tail(x)))

  @parameterized.named_parameters(
    (
      'read_twice',
      lambda x: keras.layers.Add()([keras.layers.BatchNormalization()(x), x]),
      {},
    ),
    (
      'activated_before',
      lambda x: keras.layers.BatchNormalization()(x),
      {'activation': 'relu'},
    ),
    (
      'an_output_itself',
      lambda x: [keras.layers.BatchNormalization()(x), x],
      {},
    ),
  )
  def test_convolution_that_must_stay_does(self, tail, config):
    model = self._convolved(tail, **config)
    folded = folding.fold(model)
    self.assertLen(_norms(folded), 1)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    for found, expected in zip(
      keras.tree.flatten(folded(x)), keras.tree.flatten(model(x)), strict=True
    ):
      np.testing.assert_allclose(found, expected, atol=1e-6)

  @parameterized.parameters({}, {'scale': False}, {'center': False})
  def test_every_form_of_batch_norm_folds(self, **config):
    model = self._convolved(
      lambda x: keras.layers.BatchNormalization(**config)(x)
    )
    folded = folding.fold(model)
    self.assertEmpty(_norms(folded))
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(folded(x), model(x), atol=2e-6)

  def test_model_itself_is_left_alone(self):
    model = networks.disturb(zoo.build('resnet8', _SPEC))
    before = [w.numpy() for w in model.weights]
    folded = folding.fold(model)
    self.assertEmpty(
      {id(w) for w in folded.weights} & {id(w) for w in model.weights}
    )
    for now, then in zip(model.weights, before, strict=True):
      np.testing.assert_array_equal(now.numpy(), then)

  def test_maps_are_in_the_asked_dtype_and_logits_in_float32(self):
    model = networks.disturb(zoo.build('resnet8', _SPEC))
    folded = folding.fold(
      taps.logits_and_features(model, ['group3']), 'bfloat16'
    )
    logits, features = folded(_images())
    self.assertEqual(logits.dtype, 'float32')
    self.assertEqual(features['group3'].dtype, 'bfloat16')
    expected = model(_images()).numpy()
    # bfloat16 holds 8 bits: 3e-3 by operation, over some ten of them.
    self.assertLess(
      np.abs(logits - expected).max(), 0.05 * np.abs(expected).max()
    )

  def test_mixed_precision_teacher_folds_into_float32(self):
    model = networks.disturb(
      zoo.build(
        'resnet8',
        layers.Spec(
          (32, 32, 3),
          4,
          (0.5,) * 3,
          (0.25,) * 3,
          precision='mixed_bfloat16',
        ),
      )
    )
    plain = zoo.build('resnet8', _SPEC)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
      folding.fold(model)(_images()), plain(_images()), rtol=1e-4, atol=1e-5
    )

  def test_nested_backbone_folds(self):
    backbone = keras.Sequential(
      [
        keras.Input((8, 8, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
      ],
      name='backbone',
    )
    inputs = keras.Input((8, 8, 3), dtype='uint8')
    pooled = keras.layers.GlobalAveragePooling2D()(backbone(inputs))
    model = networks.disturb(keras.Model(inputs, keras.layers.Dense(2)(pooled)))
    networks.disturb(backbone)
    folded = folding.fold(model)
    self.assertEmpty(_norms(folded.get_layer('backbone')))
    x = _images()[:, :8, :8]
    np.testing.assert_allclose(folded(x), model(x), atol=1e-5)

  def test_output_that_nothing_reads_is_no_matter(self):
    image = keras.Input((8, 8, 6))
    _, x, y = keras.ops.split(image, 3, axis=-1)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    _, second = keras.layers.Lambda(lambda z: (z[:, :1], z[:, 1:]))(x)
    second = keras.layers.Conv2D(4, 3, padding='same')(second)
    second = keras.layers.BatchNormalization(name='kept')(second)
    outputs = [keras.layers.Flatten()(each) for each in (second, y)]
    model = networks.disturb(keras.Model(image, outputs))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 6))
    folded = folding.fold(model)
    self.assertEmpty(_norms(folded))
    for found, expected in zip(
      folded(images), model(images, training=False), strict=True
    ):
      np.testing.assert_allclose(found, expected, atol=1e-5)

  @parameterized.product(
    mode=('int8', 'int4', 'float8', 'lora'), dtype=('float32', 'bfloat16')
  )
  def test_layers_changed_after_they_were_built_stay_themselves(
    self, mode, dtype
  ):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, use_bias=False, name='conv')(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(name='maps')(x)
    x = keras.layers.Dense(5, activation='relu', name='places')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(4, name='logits')(x))
    networks.disturb(model)
    if mode == 'lora':
      for name in ('conv', 'places', 'logits'):
        networks.adapt(model.get_layer(name))
    else:
      model.quantize(mode)
    images = networks.images(4, 8, 3)
    tapped = taps.logits_and_features(model, ['maps', 'places'])
    expected, maps = tapped(images, training=False)
    before = [np.array(each) for each in model.variables]
    signal = constant.ConstantSignal(folding.fold(tapped, dtype), (8, 8, 3))
    logits, found = signal(images)
    tolerance = 1e-5 if dtype == 'float32' else 0.05
    if mode == 'float8':
      # What folding rounds otherwise may fall on the next of its values, which
      # are an eighth apart.
      tolerance += 1 / 8
    for ours, theirs in (
      (logits, expected),
      *((found[name], maps[name]) for name in maps),
    ):
      ours, theirs = (np.float32(each) for each in (ours, theirs))
      self.assertLess(
        np.abs(ours - theirs).max(), tolerance * np.abs(theirs).max()
      )
    for was, variable in zip(before, model.variables, strict=True):
      np.testing.assert_array_equal(was, variable)

  @parameterized.parameters('bfloat16', 'float16')
  def test_weights_are_cast_once_to_the_same_values(self, dtype):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, use_bias=False, name='conv')(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, name='depthwise')(x)
    x = keras.layers.Dense(5, activation='gelu', name='places')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(4, name='logits')(x))
    tapped = taps.logits_and_features(
      networks.disturb(model), ['conv', 'depthwise', 'places']
    )
    cast = folding.fold(tapped, dtype)
    with mock.patch.object(folding, '_CAST_TO_COMPUTE', ()):
      in_every_call = folding.fold(tapped, dtype)
    for name in ('conv', 'depthwise', 'places'):
      for kept, weight in zip(
        cast.get_layer(name).weights,
        in_every_call.get_layer(name).weights,
        strict=True,
      ):
        self.assertEqual((kept.dtype, weight.dtype), (dtype, 'float32'))
    self.assertEqual(cast.get_layer('logits').kernel.dtype, 'float32')
    for ours, theirs in zip(
      keras.tree.flatten(cast(networks.images(4, 8, 3))),
      keras.tree.flatten(in_every_call(networks.images(4, 8, 3))),
      strict=True,
    ):
      self.assertEqual(ours.dtype, theirs.dtype)
      np.testing.assert_array_equal(ours, theirs)

  def test_adapted_normalisation_comes_along(self):
    inputs = keras.Input((8, 8, 3))
    normalise = keras.layers.Normalization()
    x = np.random.default_rng(0).normal(5.0, 3.0, (16, 8, 8, 3))
    normalise.adapt(x)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(normalise(inputs)))
    np.testing.assert_allclose(folding.fold(model)(x), model(x), atol=1e-5)


if __name__ == '__main__':
  absltest.main()
