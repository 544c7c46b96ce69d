"""Convolution operations, compared with a count by hand."""

from unittest import mock

from absl.testing import absltest

from ft_tf.benchmark import flops, jobs
from ft_tf.training import strategy
from tests import fixtures


class FlopsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(strategy, 'make', fixtures.strategy))

  def test_operations_equal_those_counted_by_hand(self):
    counted = flops.count_convolution_flops(
      jobs.Job(name='flops', batch_size=4)
    )
    # ResNet-20's multiplications: the first convolution has 32*32*9*3*16; group
    # 1 has 6 convolutions of 32*32*9*16*16; groups 2 and 3 have one of half
    # that, 5 of the same and a 1x1 convolution of 1/18.
    first, unit = 32 * 32 * 9 * 3 * 16, 32 * 32 * 9 * 16 * 16
    group = 5.5 * unit + unit / 18
    student = first + 6 * unit + 2 * group
    chain = 64 * 9 * (64 * 64 + 64 * 32 + 32 * 32)
    self.assertAlmostEqual(
      counted['student'], 2 * (3 * (student + chain) - first)
    )
    # ResNet-56 has 9 blocks in each group: 18 convolutions, 17.5 and 17.5.
    teacher = first + 18 * unit + 2 * (17.5 * unit + unit / 18)
    self.assertAlmostEqual(counted['signal'], 2 * (teacher + chain))
    self.assertEqual(counted['ft'], counted['signal'] + counted['student'])


if __name__ == '__main__':
  absltest.main()
