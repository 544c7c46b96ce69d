"""Every part of the benchmark runs."""

import dataclasses
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from ft_tf.benchmark import jobs, parts
from ft_tf.training import strategy
from tests import fixtures

_JOB = jobs.Job(
  name='tiny',
  batch_size=4,
  teacher='resnet8',
  student='resnet8',
  image_size=16,
)


class PartsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(mock.patch.object(strategy, 'make', fixtures.strategy))

  @parameterized.parameters(
    *(part for part in parts.parts() if not part.startswith('students'))
  )
  @pytest.mark.slow
  def test_part_runs(self, part):
    run = parts.make(dataclasses.replace(_JOB, part=part))
    run(1)
    run(2)

  @parameterized.parameters('ft', 'kd', 'paraphraser')
  @pytest.mark.slow
  def test_part_runs_with_networks_of_keras(self, part):
    run = parts.make(
      dataclasses.replace(
        _JOB,
        part=part,
        teacher='mobilenetv2x0.35',
        student='mobilenetv3smallx0.35',
        image_size=32,
      )
    )
    run(1)

  @pytest.mark.slow
  def test_students_are_trained_with_and_without_a_cache(self):
    with mock.patch.object(jobs, 'STUDENT_IMAGES', 32):
      for part in ('students', 'students_cached'):
        run = parts.make(dataclasses.replace(_JOB, part=part))
        run(0)
        run(2)


if __name__ == '__main__':
  absltest.main()
