"""Activations and the outputs of residual blocks, read from a model's graph."""

import keras
from absl.testing import absltest, parameterized

from ft_tf.models import blocks, feature_maps, graph, layers, zoo
from tests import small_models


class BeforeActivationTest(absltest.TestCase):
  def test_layer_is_the_one_that_feeds_the_activation(self):
    net = zoo.build(
      'resnet8', layers.Spec(small_models.SHAPE, 4, (0.5,) * 3, (1,) * 3)
    )
    self.assertEqual(blocks.before_activation(net, 'group3'), 'g3b1_add')
    self.assertEqual(blocks.before_activation(net, 'g3b1_add'), 'g3b1_add')

  def test_every_activation_counts(self):
    image = keras.Input(small_models.SHAPE)
    for number, activate in enumerate(
      (
        keras.layers.LeakyReLU(),
        keras.layers.PReLU(),
        keras.layers.Activation('swish'),
        keras.ops.gelu,
      )
    ):
      x = small_models.conv(image, 4, name=f'before{number}')
      y = activate(x)
      name = graph.producer(y).operation.name
      self.assertEqual(
        blocks.before_activation(small_models.classifier(image, y), name),
        f'before{number}',
      )


class BlockOutputTest(parameterized.TestCase):
  def _outputs(self, model):
    """Returns what blocks end with, by the last map of each size."""
    return {
      name: blocks.block_output(model, name)
      for name in feature_maps.last_of_each_size(model).values()
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
    image = keras.Input(small_models.SHAPE)
    x = small_models.conv(image, 4)
    total = x + small_models.conv(keras.activations.relu(x), 4)
    y = keras.ops.leaky_relu(total)
    y = small_models.conv(y, 6, strides=2) + keras.layers.Conv2D(
      6, 1, strides=2
    )(total)
    model = small_models.classifier(image, y)
    # The sum of 8x8 goes past its activation, as the shortcut.
    output = graph.producer(total).operation.name
    self.assertIn(output, self._outputs(model).values())

  def test_sum_that_is_only_activated_is_no_output(self):
    image = keras.Input(small_models.SHAPE)
    x = small_models.conv(image, 4)
    x = keras.layers.LeakyReLU(name='last')(x + small_models.conv(x, 4))
    model = small_models.classifier(image, x)
    self.assertEqual(blocks.block_output(model, 'last'), 'last')

  def test_layers_behind_the_last_block_are_not_taken_for_a_block(self):
    image = keras.Input(small_models.SHAPE)
    x = small_models.conv(image, 4)
    x = keras.layers.Add(name='sum')(
      [x, small_models.conv(small_models.norm_relu(x), 4)]
    )
    x = small_models.norm_relu(small_models.conv(small_models.norm_relu(x), 9))
    last = graph.producer(x).operation.name
    self.assertEqual(
      blocks.block_output(small_models.classifier(image, x), last), last
    )

  def test_sum_of_another_size_is_no_output(self):
    image = keras.Input(small_models.SHAPE)
    x = small_models.conv(image, 4)
    x = keras.layers.Add()([x, small_models.conv(small_models.norm_relu(x), 4)])
    y = keras.layers.Conv2D(4, 3, name='smaller')(small_models.norm_relu(x))
    x = keras.layers.Add()([y, keras.layers.Cropping2D(1)(x)])
    model = small_models.classifier(image, keras.layers.ReLU()(x))
    self.assertEqual(blocks.block_output(model, 'smaller'), 'smaller')


if __name__ == '__main__':
  absltest.main()
