"""Every part runs, and operations are counted as by hand."""

import dataclasses
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from ft_tf.benchmark import jobs, ours
from ft_tf.training import strategy
from tests import fixtures

_JOB = jobs.Job(
  name='tiny',
  batch_size=4,
  teacher='resnet8',
  student='resnet8',
  image_size=16,
)


class OursTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(strategy, 'make', fixtures.strategy))

  @parameterized.parameters(
    *(part for part in ours.parts() if not part.startswith('students'))
  )
  @pytest.mark.slow
  def test_part_runs(self, part):
    run = ours.make(dataclasses.replace(_JOB, part=part))
    run(1)
    run(2)

  @pytest.mark.slow
  def test_students_are_trained_end_to_end_and_share_their_signals(self):
    with mock.patch.object(jobs, 'STUDENT_IMAGES', 16):
      for part in ('students', 'students_cached'):
        run = ours.make(dataclasses.replace(_JOB, part=part))
        run(0)
        run(2)

  def test_operations_are_those_counted_by_hand(self):
    found = ours.convolution_flops(
      dataclasses.replace(
        _JOB, teacher='resnet56', student='resnet20', image_size=32
      )
    )
    # ResNet-20's products: first 32*32*9*3*16; group 1: 6 of 32*32*9*16*16;
    # groups 2 and 3: one of half that, 5 of as many, and a 1x1 of 1/18.
    first, unit = 32 * 32 * 9 * 3 * 16, 32 * 32 * 9 * 16 * 16
    group = 5.5 * unit + unit / 18
    student = first + 6 * unit + 2 * group
    chain = 64 * 9 * (64 * 64 + 64 * 32 + 32 * 32)
    self.assertAlmostEqual(
      found['student'], 2 * (3 * (student + chain) - first)
    )
    # ResNet-56 has 9 blocks in each group: 18 convolutions, 17.5 and 17.5.
    teacher = first + 18 * unit + 2 * (17.5 * unit + unit / 18)
    self.assertAlmostEqual(found['signal'], 2 * (teacher + chain))
    self.assertEqual(found['ft'], found['signal'] + found['student'])


if __name__ == '__main__':
  absltest.main()
