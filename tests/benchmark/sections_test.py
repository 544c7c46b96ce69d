"""Sections: refused arguments, ratios of the figures, and their Markdown."""

import importlib.util
from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.benchmark import figures, jobs, markdown, sections


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


class SectionsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.setting = sections.Setting(rounds=2)

  def test_ratios_compare_the_fastest_jobs_that_ran(self):
    with (
      mock.patch.object(jobs, 'measure', _measure),
      mock.patch.object(importlib.util, 'find_spec', return_value=object()),
    ):
      results = sections.run(self.setting, ['steps'])
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
    text = markdown.to_markdown(results)
    self.assertIn('| student_step_vs_pytorch_best | 1.50 | 1.50 | 1.50 |', text)
    self.assertIn('| PyTorch, compiled, bfloat16 | failed |', text)
    self.assertIn(figures.machine()['processor'], text)

  def test_failed_job_of_ft_tf_ends_the_run(self):
    with (
      mock.patch.object(
        jobs, 'measure', return_value={'x': {'error': 'x ended with code 1'}}
      ),
      self.assertRaisesRegex(errors.TrainingError, 'x ended'),
    ):
      self.setting.measure({'x': {}})

  def test_missing_pytorch_is_refused_with_the_install_command(self):
    with (
      mock.patch.object(importlib.util, 'find_spec', return_value=None),
      self.assertRaisesRegex(errors.UsageError, 'pip install torch'),
    ):
      sections.run(self.setting, ['steps'])

  def test_missing_runtimes_are_refused_with_the_install_command(self):
    found = {'onnx': object(), 'tf2onnx': object(), 'onnxruntime': object()}
    with (
      mock.patch.object(importlib.util, 'find_spec', found.get),
      self.assertRaisesRegex(
        errors.UsageError,
        'openvino, nncf.* device is compared.*pip install openvino nncf`',
      ),
    ):
      sections.run(self.setting, ['device'])

  def test_figures_so_far_are_passed_on_after_each_section(self):
    results_so_far = []

    def fails(setting):
      raise errors.TrainingError('died')

    with (
      mock.patch.dict(
        sections.SECTIONS, {'one': lambda s: {'a': 1}, 'two': fails}
      ),
      self.assertRaises(errors.TrainingError),
    ):
      sections.run(
        self.setting,
        ['one', 'two'],
        lambda results: results_so_far.append(dict(results)),
      )
    self.assertLen(results_so_far, 1)
    self.assertEqual(results_so_far[0]['a'], 1)

  def test_unknown_section_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--sections=speed: give'):
      sections.run(self.setting, ['speed'])

  def test_numbers_below_one_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--rounds=0'):
      sections.Setting(rounds=0)
    with self.assertRaisesRegex(errors.UsageError, '--memory_steps=100'):
      sections.run(sections.Setting(memory_steps=100), ['memory'])


if __name__ == '__main__':
  absltest.main()
