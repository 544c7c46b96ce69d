"""Operations of networks and of a step, compared with counts by hand."""

from unittest import mock

import keras
from absl.testing import absltest

from ft_tf.benchmark import flops, jobs
from ft_tf.training import strategy
from tests import fixtures


class FlopsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(strategy, 'make', fixtures.strategy))

  def test_operations_equal_those_counted_by_hand(self):
    counted = flops.count_step(jobs.Job(name='flops', batch_size=4))
    # ResNet-20's multiplications: the first convolution has 32*32*9*3*16; group
    # 1 has 6 convolutions of 32*32*9*16*16; groups 2 and 3 have one of half
    # that, 5 of the same and a 1x1 convolution of 1/18.
    first, unit = 32 * 32 * 9 * 3 * 16, 32 * 32 * 9 * 16 * 16
    group = 5.5 * unit + unit / 18
    dense = 64 * 10
    student = first + 6 * unit + 2 * group + dense
    chain = 64 * 9 * (64 * 64 + 64 * 32 + 32 * 32)
    self.assertAlmostEqual(
      counted['student'], 2 * (3 * (student + chain) - first)
    )
    # ResNet-56 has 9 blocks in each group: 18 convolutions, 17.5 and 17.5. The
    # signal ends before its dense layer.
    teacher = first + 18 * unit + 2 * (17.5 * unit + unit / 18)
    self.assertAlmostEqual(counted['signal'], 2 * (teacher + chain))
    self.assertEqual(counted['ft'], counted['signal'] + counted['student'])

  def test_operations_are_those_of_multiplying_layers(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding='same', strides=2)(image)
    x = keras.layers.ReLU()(x)
    x = keras.layers.DepthwiseConv2D(3, padding='same')(x)
    x = keras.layers.SeparableConv2D(6, 3, padding='same')(x)
    x = keras.layers.Dense(7)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(5)(x))
    self.assertEqual(
      flops.count_by_layer(model),
      [
        2 * 16 * 27 * 4,
        2 * 16 * 9 * 4,
        2 * 16 * (9 * 4 + 4 * 6),
        2 * 16 * 6 * 7,
        2 * 7 * 5,
      ],
    )

  def test_wide_maps_have_the_operations_of_the_bottleneck(self):
    counted = flops.count_step(
      jobs.Job(
        name='flops',
        batch_size=2,
        teacher='resnet8x8',
        student='resnet8',
        image_size=16,
      )
    )
    # As above, but a group has one block, of 8 times the width, and the first
    # convolution half of that, so that group 1 starts with half a convolution
    # and a 1x1 convolution too.
    first, unit = 16 * 16 * 9 * 3 * 64, 16 * 16 * 9 * 128 * 128
    teacher = first + 3 * (1.5 * unit + unit / 18)
    # Maps of 4x4 with 512 channels, factors of 256.
    bottleneck = 16 * (512 * 256 + 9 * 256 * 256 + 256 * 256)
    self.assertAlmostEqual(counted['signal'], 2 * (teacher + bottleneck))


if __name__ == '__main__':
  absltest.main()
