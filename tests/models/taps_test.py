"""Feature maps out of models of every kind that users bring."""

import os
import re

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import folding, graph, layers, taps, zoo
from tests import networks

_SHAPE = (8, 8, 3)


def _images(count=2):
  return np.random.default_rng(0).normal(size=(count, *_SHAPE))


def _layers():
  return [
    keras.Input(_SHAPE),
    keras.layers.Conv2D(4, 3, name='first'),
    keras.layers.Conv2D(5, 3, name='last'),
    keras.layers.Flatten(),
    keras.layers.Dense(2, name='logits'),
  ]


def _sequential():
  return keras.Sequential(_layers())


def _sequential_without_input():
  model = keras.Sequential(_layers()[1:])
  model.build((None, *_SHAPE))
  return model


def _functional():
  x, *rest = _layers()
  y = x
  for layer in rest:
    y = layer(y)
  return keras.Model(x, y)


def _nested(name='backbone'):
  """A classifier on a backbone that is a model of its own."""
  x = keras.Input(_SHAPE)
  y = keras.layers.Conv2D(4, 3, name='inner')(x)
  backbone = keras.Model(x, keras.layers.ReLU()(y), name=name)
  x = keras.Input(_SHAPE)
  y = keras.layers.GlobalAveragePooling2D(name='pool')(backbone(x))
  return keras.Model(x, keras.layers.Dense(2, name='logits')(y))


class _Subclassed(keras.Model):
  def __init__(self):
    super().__init__()
    self.last = keras.layers.Conv2D(4, 3, name='last')

  def call(self, x):
    return self.last(x)


class LastFeatureMapTest(parameterized.TestCase):
  @parameterized.parameters(_functional, _sequential, _sequential_without_input)
  def test_last_map_is_the_one_before_flattening(self, make):
    self.assertEqual(taps.last_feature_map(make()), 'last')

  @parameterized.parameters('resnet8x0.25', 'wrn-10-1', 'vgg13')
  def test_last_map_of_our_networks_is_their_last_group(self, name):
    spec = layers.Spec((32, 32, 3), 10, (0.5,) * 3, (0.25,) * 3)
    model = zoo.build(name, spec)
    names = [layer.name for layer in model.layers]
    last = max(name for name in names if name.startswith('group'))
    self.assertEqual(taps.last_feature_map(model), last)

  @parameterized.parameters(
    keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D
  )
  def test_pooling_that_keeps_its_axes_is_no_map(self, pooling):
    # As in keras.applications.MobileNetV3, whose head is 1x1 convolutions.
    x = keras.Input(_SHAPE)
    y = keras.layers.Conv2D(4, 3, name='last')(x)
    y = pooling(keepdims=True)(y)
    y = keras.layers.Conv2D(2, 1, name='head')(y)
    model = keras.Model(x, keras.layers.Flatten()(y))
    self.assertEqual(taps.last_feature_map(model), 'last')

  def test_image_size_may_be_open(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, name='last')(x)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    model = keras.Model(x, keras.layers.Flatten()(y))
    self.assertEqual(taps.last_feature_map(model), 'last')

  def test_last_map_of_a_nested_backbone_is_its_output(self):
    self.assertEqual(taps.last_feature_map(_nested()), 'backbone')

  def test_last_map_of_a_backbone_from_keras_applications_is_its_output(self):
    backbone = keras.applications.MobileNetV2(
      input_shape=(64, 64, 3), include_top=False, weights=None, alpha=0.35
    )
    x = keras.Input((64, 64, 3))
    y = keras.layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(x, keras.layers.Dense(2)(y))
    self.assertEqual(taps.last_feature_map(model), backbone.name)
    part = taps.features(model, [backbone.name])
    self.assertEqual(part.output_shape, (None, 2, 2, 1280))

  @parameterized.parameters(_functional, _sequential, _nested)
  def test_last_map_is_the_same_after_saving_and_loading(self, make):
    model = make()
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    self.assertEqual(
      taps.last_feature_map(zoo.load(path)), taps.last_feature_map(model)
    )

  def test_model_without_a_map_is_refused(self):
    x = keras.Input((12,))
    model = keras.Model(x, keras.layers.Dense(2)(x), name='flat')
    with self.assertRaisesRegex(
      errors.UsageError, 'flat has no feature map .*give a convolutional'
    ):
      taps.last_feature_map(model)

  def test_padding_before_what_leaves_no_map_is_not_the_last_map(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, padding='same', name='maps')(image)
    x = keras.layers.ZeroPadding2D(name='pad')(x)
    x = keras.layers.Conv2D(8, 4)(x)  # 1x1
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    self.assertEqual(taps.last_feature_map(model), 'maps')

  def test_images_themselves_are_no_feature_map(self):
    x = keras.Input(_SHAPE)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with self.assertRaisesRegex(errors.UsageError, 'no feature map'):
      taps.last_feature_map(model)

  def test_subclassed_model_is_refused(self):
    model = _Subclassed()
    model(_images())
    with self.assertRaisesRegex(
      errors.UsageError, 'subclassed model.*give one built by the functional'
    ):
      taps.last_feature_map(model)


class PairsTest(absltest.TestCase):
  def test_groups_of_two_resnets_are_paired_by_size(self):
    spec = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)
    groups = ('group1', 'group2', 'group3')
    self.assertEqual(
      taps.pairs(zoo.build('resnet14', spec), zoo.build('resnet8', spec)),
      (groups, groups),
    )

  def test_sizes_that_one_network_lacks_are_left_out(self):
    spec = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)
    theirs, ours = taps.pairs(
      zoo.build('wrn-10-1', spec), zoo.build('vgg13', spec)
    )
    # What the next group reads, after batch norm and ReLU.
    self.assertEqual(theirs, ('g2b1_relu1', 'g3b1_relu1', 'group3'))
    self.assertEqual(ours, ('group1', 'group2', 'group3'))

  def test_networks_without_a_common_size_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'share no size'):
      taps.pairs(
        _functional(),
        zoo.build('resnet8', layers.Spec((32, 32, 3), 4, (0.5,) * 3, (1,) * 3)),
      )


class ChooseTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    spec = layers.Spec((16, 16, 1), 4, (0.5,), (1,))
    self.net = zoo.build('resnet8', spec)

  @parameterized.parameters(
    ('auto', 'group3'),
    ('-1', 'group3'),
    ('-2', 'group2'),
    ('-3', 'group1'),
    ('-9', 'group1'),  # There are three sizes.
    ('g2b1_relu1', 'g2b1_relu1'),
    ('group?', 'group3'),
    ('g2b1_*', 'g2b1_add'),
    ('*[12]', 'g3b1_bn2'),
  )
  def test_layer_is_the_one_that_is_meant(self, layer, name):
    self.assertEqual(taps.choose(self.net, layer), name)

  @parameterized.parameters(('auto', 'g3b1_add'), ('-2', 'g2b1_add'))
  def test_map_before_the_activation_is_found(self, layer, name):
    self.assertEqual(taps.choose(self.net, layer, before=True), name)

  @parameterized.parameters('group4', 'logits', 'logit*', '0', '-0', '')
  def test_layer_without_a_map_is_refused_with_those_that_work(self, layer):
    with self.assertRaisesRegex(
      errors.UsageError,
      f"no feature map '{re.escape(layer)}'.*group1, group2, group3",
    ):
      taps.choose(self.net, layer)

  def test_model_of_one_size_gives_its_map(self):
    model = keras.Sequential(
      [
        keras.Input(_SHAPE),
        keras.layers.Conv2D(4, 3, padding='same', name='only'),
        keras.layers.GlobalAveragePooling2D(),
      ]
    )
    self.assertEqual(taps.choose(model, '-2'), 'only')


class TokensTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_tokens_are_the_map_of_their_grid(self, class_token):
    net = networks.transformer((12, 8, 3), 4, class_token=class_token)
    self.assertEqual(taps.last_feature_map(net), 'tokens')
    self.assertEqual(taps.shape(net, 'tokens'), (6, 4, 8))
    self.assertEqual(taps.candidates(net)[-1].shape, (6, 4, 8))
    images = networks.images(2, 12, 3)[:, :, :8]
    raw = keras.Model(net.inputs, net.get_layer('tokens').output)(images)
    found = taps.features(net, ['tokens'])(images)['tokens']
    # Row by row: the place (2, 3) is token 2 * 4 + 3 behind the class's.
    np.testing.assert_array_equal(found[:, 2, 3], raw[:, 11 + class_token])
    folded = folding.fold(taps.logits_and_features(net, ['tokens']))
    logits, maps = folded(images)
    np.testing.assert_allclose(logits, net(images), atol=1e-5)
    np.testing.assert_allclose(maps['tokens'], found, atol=1e-5)


class CandidatesTest(absltest.TestCase):
  def test_maps_are_listed_with_all_their_names(self):
    net = zoo.build('resnet8', layers.Spec((16, 16, 1), 4, (0.5,), (1,)))
    found = taps.candidates(net)
    named = {each.layer: each.called for each in found if each.called}
    self.assertEqual(
      named, {'group1': ('-3',), 'group2': ('-2',), 'group3': ('auto', '-1')}
    )
    shapes = {each.layer: each.shape for each in found}
    self.assertEqual(shapes['group2'], (8, 8, 32))
    shares = [each.share for each in found]
    self.assertEqual(shares, sorted(shares))
    # Behind the last map there is the classifier alone.
    behind = net.get_layer('logits').count_params() / net.count_params()
    self.assertAlmostEqual(shares[-1], 1 - behind)
    for each in found:
      self.assertEqual(taps.choose(net, each.layer), each.layer)


class BeforeActivationTest(absltest.TestCase):
  def test_layer_is_the_one_that_feeds_the_activation(self):
    net = zoo.build('resnet8', layers.Spec(_SHAPE, 4, (0.5,) * 3, (1,) * 3))
    self.assertEqual(taps.before_activation(net, 'group3'), 'g3b1_add')
    self.assertEqual(taps.before_activation(net, 'g3b1_add'), 'g3b1_add')

  def test_every_activation_counts(self):
    image = keras.Input(_SHAPE)
    for number, activate in enumerate(
      (
        keras.layers.LeakyReLU(),
        keras.layers.PReLU(),
        keras.layers.Activation('swish'),
        keras.ops.gelu,
      )
    ):
      x = _conv(image, 4, name=f'before{number}')
      y = activate(x)
      name = graph.producer(y).operation.name
      self.assertEqual(
        taps.before_activation(_classifier(image, y), name), f'before{number}'
      )


def _norm_relu(x):
  return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def _conv(x, channels, **kwargs):
  return keras.layers.Conv2D(channels, 3, padding='same', **kwargs)(x)


def _classifier(image, x):
  y = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(2)(y))


class BlockOutputTest(parameterized.TestCase):
  def _outputs(self, model):
    """Returns what blocks end with, by the last map of each size."""
    return {
      name: taps.block_output(model, name)
      for name in taps._last_of_each_size(model).values()
    }

  @parameterized.parameters(
    ('wrn-16-1', ('group1', 'group2', 'g3b2_add')),
    ('wrn-10-2', ('group1', 'group2', 'g3b1_add')),  # a block in each group
    ('resnet20', ('group1', 'group2', 'group3')),
    ('resnet8x0.5-parameter-free', ('group1', 'group2', 'group3')),
    ('vgg13', ('group1', 'group2', 'group3', 'group4', 'group5')),
  )
  def test_our_networks_blocks_end_with_their_groups(self, name, layers_of):
    spec = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)
    found = self._outputs(zoo.build(name, spec))
    self.assertEqual(tuple(found.values()), layers_of)

  def test_pre_activation_networks_of_keras_end_with_raw_sums(self):
    model = keras.applications.ResNet50V2(
      weights=None, input_shape=(64, 64, 3), classes=3
    )
    self.assertEqual(
      list(self._outputs(model).items())[1:],
      [
        # The next block's, with a quarter of the channels.
        ('conv2_block3_1_relu', 'conv2_block2_out'),
        ('conv3_block4_1_relu', 'conv3_block3_out'),
        ('conv4_block6_1_relu', 'conv4_block5_out'),
        ('post_relu', 'conv5_block3_out'),
      ],
    )

  def test_networks_that_activate_their_sums_stay_as_they_are(self):
    model = keras.applications.ResNet50(
      weights=None, input_shape=(64, 64, 3), classes=3
    )
    for name, output in self._outputs(model).items():
      self.assertEqual(output, name)

  def test_linear_bottlenecks_stay_as_they_are(self):
    model = keras.applications.MobileNetV2(
      weights=None, input_shape=(64, 64, 3), classes=3, alpha=0.35
    )
    for name, output in self._outputs(model).items():
      self.assertEqual(output, name)

  def test_operations_count_as_layers_do(self):
    # Not a layer in the block but the convolutions: operators and functions.
    image = keras.Input(_SHAPE)
    x = _conv(image, 4)
    total = x + _conv(keras.activations.relu(x), 4)
    y = keras.ops.leaky_relu(total)
    y = _conv(y, 6, strides=2) + keras.layers.Conv2D(6, 1, strides=2)(total)
    model = _classifier(image, y)
    # The sum of 8x8 goes past its activation, as the shortcut.
    output = graph.producer(total).operation.name
    self.assertIn(output, self._outputs(model).values())

  def test_sum_that_is_only_activated_is_no_output(self):
    image = keras.Input(_SHAPE)
    x = _conv(image, 4)
    x = keras.layers.LeakyReLU(name='last')(x + _conv(x, 4))
    model = _classifier(image, x)
    self.assertEqual(taps.block_output(model, 'last'), 'last')

  def test_layers_behind_the_last_block_are_not_taken_for_a_block(self):
    image = keras.Input(_SHAPE)
    x = _conv(image, 4)
    x = keras.layers.Add(name='sum')([x, _conv(_norm_relu(x), 4)])
    x = _norm_relu(_conv(_norm_relu(x), 9))
    last = graph.producer(x).operation.name
    self.assertEqual(taps.block_output(_classifier(image, x), last), last)

  def test_sum_of_another_size_is_no_output(self):
    image = keras.Input(_SHAPE)
    x = _conv(image, 4)
    x = keras.layers.Add()([x, _conv(_norm_relu(x), 4)])
    y = keras.layers.Conv2D(4, 3, name='smaller')(_norm_relu(x))
    x = keras.layers.Add()([y, keras.layers.Cropping2D(1)(x)])
    model = _classifier(image, keras.layers.ReLU()(x))
    self.assertEqual(taps.block_output(model, 'smaller'), 'smaller')


class AveragedTest(absltest.TestCase):
  def test_whole_ratio_is_average_pooling(self):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
      taps.averaged(tf.constant(x), (2, 4)),
      tf.nn.avg_pool2d(x, (4, 2), (4, 2), 'VALID'),
      atol=1e-6,
    )

  def test_other_ratios_are_adaptive_average_pooling(self):
    # Places 0..1, 1..2 of three, as torch.nn.AdaptiveAvgPool2d has them.
    x = np.float32([1, 2, 6]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(
      np.ravel(taps.averaged(tf.constant(x), (2, 1))), [1.5, 4]
    )


class FeaturesTest(parameterized.TestCase):
  @parameterized.parameters(_functional, _sequential, _sequential_without_input)
  def test_features_are_what_the_layers_make(self, make):
    model = make()
    found = taps.features(model, ['first', 'last'])(_images())
    first = model.get_layer('first')(_images())
    self.assertEqual(found.keys(), {'first', 'last'})
    np.testing.assert_allclose(found['first'], first, atol=1e-6)
    np.testing.assert_allclose(
      found['last'], model.get_layer('last')(first), atol=1e-6
    )

  def test_features_of_a_nested_backbone_are_its_output(self):
    model = _nested()
    found = taps.features(model, ['backbone'])(_images())
    np.testing.assert_allclose(
      found['backbone'], model.get_layer('backbone')(_images()), atol=1e-6
    )

  @parameterized.parameters(_functional, _sequential, _nested)
  def test_features_of_a_loaded_model_are_those_of_the_saved_one(self, make):
    model = make()
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    name = taps.last_feature_map(model)
    np.testing.assert_allclose(
      taps.features(zoo.load(path), [name])(_images())[name],
      taps.features(model, [name])(_images())[name],
      atol=1e-6,
    )

  def test_what_lies_behind_the_last_feature_is_left_out(self):
    part = taps.features(_functional(), ['first'])
    names = [layer.name for layer in part.layers]
    self.assertIn('first', names)
    self.assertNotIn('last', names)
    self.assertNotIn('logits', names)
    self.assertLen(part.weights, 2)

  def test_weights_are_shared_with_the_model(self):
    model = _functional()
    part = taps.features(model, ['last'])
    model.get_layer('last').kernel.assign(
      np.zeros_like(model.get_layer('last').kernel)
    )
    model.get_layer('last').bias.assign(np.arange(5.0))
    np.testing.assert_array_equal(
      part(_images())['last'], np.broadcast_to(np.arange(5.0), (2, 4, 4, 5))
    )

  def test_unknown_layer_is_named(self):
    with self.assertRaisesRegex(ValueError, 'group4'):
      taps.features(_functional(), ['group4'])

  def test_subclassed_model_is_refused(self):
    model = _Subclassed()
    model(_images())
    with self.assertRaisesRegex(errors.UsageError, 'subclassed model'):
      taps.features(model, ['last'])


class LogitsAndFeaturesTest(parameterized.TestCase):
  @parameterized.parameters(_functional, _sequential, _nested)
  def test_one_call_gives_both(self, make):
    model = make()
    name = taps.last_feature_map(model)
    both = taps.logits_and_features(model, [name])
    logits, features = both(_images())
    np.testing.assert_allclose(logits, model(_images()), atol=1e-6)
    self.assertEqual(features.keys(), {name})
    np.testing.assert_allclose(
      features[name],
      taps.features(model, [name])(_images())[name],
      atol=1e-6,
    )

  def test_weights_are_those_of_the_model_and_no_more(self):
    model = _functional()
    both = taps.logits_and_features(model, ['last'])
    self.assertEqual(
      {id(weight) for weight in both.trainable_weights},
      {id(weight) for weight in model.trainable_weights},
    )

  def test_subclassed_model_is_refused(self):
    model = _Subclassed()
    model(_images())
    with self.assertRaisesRegex(errors.UsageError, 'subclassed model'):
      taps.logits_and_features(model, ['last'])


if __name__ == '__main__':
  absltest.main()
