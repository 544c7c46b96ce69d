"""Measurements: ratios and their Markdown, failed jobs, refused numbers."""

from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.benchmark import figures, jobs, markdown, measurements


def _measure(to_measure, *, rounds, steps):
  """Returns speeds that depend on framework, part and precision alone."""
  del steps
  measured = {}
  for job in to_measure:
    speed = 400.0 if job.framework == 'pytorch' else 600.0
    speed *= 2 if job.precision == 'mixed_bfloat16' else 1
    speed *= 1.5 if job.part == 'cached' else 1
    speed *= 1 if job.channels_last else 0.5
    measured[job.name] = {
      'images_per_second': [speed] * rounds,
      'peak_bytes': 1e9,
    }
    if job.compiled:
      measured[job.name] = {'error': 'no C++ compiler'}
  return measured


class MeasurementsTest(absltest.TestCase):
  def test_ratios_compare_the_fastest_jobs_that_ran(self):
    with mock.patch.object(jobs, 'measure', _measure):
      results = measurements.steps(measurements.Setting(rounds=2))
    self.assertEqual(
      results['best'],
      {
        'ours': 'ours, bfloat16',
        'cached': 'ours, signal cached, bfloat16',
        'pytorch': 'PyTorch, channels last, bfloat16',
      },
    )
    self.assertEqual(results['student_step_vs_pytorch_best'], 1.5)
    self.assertEqual(results['student_step_vs_pytorch_plain'], 6.0)
    self.assertEqual(results['cached_step_vs_pytorch_best'], 2.25)
    machine = figures.machine()
    text = markdown.to_markdown({'machine': machine, **results})
    self.assertIn('| student_step_vs_pytorch_best | 1.50 | 1.50 | 1.50 |', text)
    self.assertIn('| PyTorch, compiled, bfloat16 | failed |', text)
    self.assertIn(machine['processor'], text)

  def test_failed_job_of_ft_tf_ends_the_run(self):
    with (
      mock.patch.object(
        jobs, 'measure', return_value={'x': {'error': 'x ended with code 1'}}
      ),
      self.assertRaisesRegex(errors.TrainingError, 'x ended'),
    ):
      measurements.Setting().measure({'x': {}})

  def test_numbers_below_one_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--rounds=0'):
      measurements.Setting(rounds=0)
    with self.assertRaisesRegex(errors.UsageError, '--memory_steps=100'):
      measurements.memory(measurements.Setting(memory_steps=100))


if __name__ == '__main__':
  absltest.main()
