"""Which layer a recipe means, in models of every kind that users bring."""

import os
import re

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import (
  feature_maps,
  folding,
  layer_choice,
  layers,
  model_files,
  taps,
  zoo,
)
from tests import networks, small_models


class LastFeatureMapTest(parameterized.TestCase):
  @parameterized.parameters(
    small_models.functional,
    small_models.sequential,
    small_models.sequential_without_input,
  )
  def test_last_map_is_the_one_before_flattening(self, make):
    self.assertEqual(layer_choice.last_feature_map(make()), 'last')

  @parameterized.parameters('resnet8x0.25', 'wrn-10-1', 'vgg13')
  def test_last_map_of_our_networks_is_their_last_group(self, name):
    spec = layers.Spec((32, 32, 3), 10, (0.5,) * 3, (0.25,) * 3)
    model = zoo.build(name, spec)
    names = [layer.name for layer in model.layers]
    last = max(name for name in names if name.startswith('group'))
    self.assertEqual(layer_choice.last_feature_map(model), last)

  @parameterized.parameters(
    keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D
  )
  def test_pooling_that_keeps_its_axes_is_no_map(self, pooling):
    # As in keras.applications.MobileNetV3, whose head is 1x1 convolutions.
    x = keras.Input(small_models.SHAPE)
    y = keras.layers.Conv2D(4, 3, name='last')(x)
    y = pooling(keepdims=True)(y)
    y = keras.layers.Conv2D(2, 1, name='head')(y)
    model = keras.Model(x, keras.layers.Flatten()(y))
    self.assertEqual(layer_choice.last_feature_map(model), 'last')

  def test_image_size_may_be_open(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, name='last')(x)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(y)
    model = keras.Model(x, keras.layers.Flatten()(y))
    self.assertEqual(layer_choice.last_feature_map(model), 'last')

  def test_last_map_of_a_nested_backbone_is_its_output(self):
    self.assertEqual(
      layer_choice.last_feature_map(small_models.nested()), 'backbone'
    )

  def test_last_map_of_a_backbone_from_keras_applications_is_its_output(self):
    backbone = keras.applications.MobileNetV2(
      input_shape=(64, 64, 3), include_top=False, weights=None, alpha=0.35
    )
    x = keras.Input((64, 64, 3))
    y = keras.layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(x, keras.layers.Dense(2)(y))
    self.assertEqual(layer_choice.last_feature_map(model), backbone.name)
    part = taps.features(model, [backbone.name])
    self.assertEqual(part.output_shape, (None, 2, 2, 1280))

  @parameterized.parameters(
    small_models.functional, small_models.sequential, small_models.nested
  )
  def test_last_map_is_the_same_after_saving_and_loading(self, make):
    model = make()
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    self.assertEqual(
      layer_choice.last_feature_map(model_files.load(path)),
      layer_choice.last_feature_map(model),
    )

  def test_model_without_a_map_is_refused(self):
    x = keras.Input((12,))
    model = keras.Model(x, keras.layers.Dense(2)(x), name='flat')
    with self.assertRaisesRegex(
      errors.UsageError, 'flat has no feature map .*give a convolutional'
    ):
      layer_choice.last_feature_map(model)

  def test_padding_before_what_leaves_no_map_is_not_the_last_map(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=4, padding='same', name='maps')(image)
    x = keras.layers.ZeroPadding2D(name='pad')(x)
    x = keras.layers.Conv2D(8, 4)(x)  # 1x1
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    self.assertEqual(layer_choice.last_feature_map(model), 'maps')

  def test_images_themselves_are_no_feature_map(self):
    x = keras.Input(small_models.SHAPE)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with self.assertRaisesRegex(errors.UsageError, 'no feature map'):
      layer_choice.last_feature_map(model)

  def test_subclassed_model_is_refused(self):
    model = small_models.Subclassed()
    model(small_models.images())
    with self.assertRaisesRegex(
      errors.UsageError, 'subclassed model.*give one built by the functional'
    ):
      layer_choice.last_feature_map(model)


class PairsTest(absltest.TestCase):
  def test_groups_of_two_resnets_are_paired_by_size(self):
    spec = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)
    groups = ('group1', 'group2', 'group3')
    self.assertEqual(
      layer_choice.pair_by_size(
        zoo.build('resnet14', spec), zoo.build('resnet8', spec)
      ),
      (groups, groups),
    )

  def test_sizes_that_one_network_lacks_are_left_out(self):
    spec = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)
    theirs, ours = layer_choice.pair_by_size(
      zoo.build('wrn-10-1', spec), zoo.build('vgg13', spec)
    )
    # What the next group reads, after batch norm and ReLU.
    self.assertEqual(theirs, ('g2b1_relu1', 'g3b1_relu1', 'group3'))
    self.assertEqual(ours, ('group1', 'group2', 'group3'))

  def test_networks_without_a_common_size_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'share no size'):
      layer_choice.pair_by_size(
        small_models.functional(),
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
    self.assertEqual(layer_choice.resolve_layer(self.net, layer), name)

  @parameterized.parameters(('auto', 'g3b1_add'), ('-2', 'g2b1_add'))
  def test_map_before_the_activation_is_found(self, layer, name):
    self.assertEqual(
      layer_choice.resolve_layer(self.net, layer, before=True), name
    )

  @parameterized.parameters('group4', 'logits', 'logit*', '0', '-0', '')
  def test_layer_without_a_map_is_refused_with_those_that_work(self, layer):
    with self.assertRaisesRegex(
      errors.UsageError,
      f"no feature map '{re.escape(layer)}'.*group1, group2, group3",
    ):
      layer_choice.resolve_layer(self.net, layer)

  def test_model_of_one_size_gives_its_map(self):
    model = keras.Sequential(
      [
        keras.Input(small_models.SHAPE),
        keras.layers.Conv2D(4, 3, padding='same', name='only'),
        keras.layers.GlobalAveragePooling2D(),
      ]
    )
    self.assertEqual(layer_choice.resolve_layer(model, '-2'), 'only')


class TokensTest(parameterized.TestCase):
  @parameterized.parameters(False, True)
  def test_tokens_are_the_map_of_their_grid(self, class_token):
    net = networks.transformer((12, 8, 3), 4, class_token=class_token)
    self.assertEqual(layer_choice.last_feature_map(net), 'tokens')
    self.assertEqual(feature_maps.shape(net, 'tokens'), (6, 4, 8))
    self.assertEqual(layer_choice.candidates(net)[-1].shape, (6, 4, 8))
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
    found = layer_choice.candidates(net)
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
      self.assertEqual(layer_choice.resolve_layer(net, each.layer), each.layer)


if __name__ == '__main__':
  absltest.main()
