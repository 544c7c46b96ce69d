"""What is refused, what follows from figures, and how they read."""

import importlib.util
from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.benchmark import figures, jobs, sections


def _measure(made, *, rounds, steps):
  """Stands in for the clock: speed hangs on framework, part and precision."""
  del steps
  found = {}
  for job in made:
    speed = 400.0 if job.framework == 'pytorch' else 600.0
    speed *= 2 if job.precision == 'mixed_bfloat16' else 1
    speed *= 1.5 if job.part == 'cached' else 1
    speed *= 1 if job.channels_last else 0.5
    found[job.name] = {'images_per_second': [speed] * rounds, 'peak_bytes': 1e9}
    if job.compiled:
      found[job.name] = {'error': 'no C++ compiler'}
  return found


class SectionsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.setting = sections.Setting(rounds=2)

  def test_ratios_are_of_the_best_that_ran(self):
    with (
      mock.patch.object(jobs, 'measure', _measure),
      mock.patch.object(importlib.util, 'find_spec', return_value=object()),
    ):
      found = sections.run(self.setting, ['steps'])
    self.assertEqual(
      found['best'],
      {
        'ours': 'ours, bfloat16',
        'cached': 'ours, signal cached, bfloat16',
        'pytorch': 'PyTorch, channels last, bfloat16',
      },
    )
    self.assertEqual(found['student_step_vs_pytorch_best'], 1.5)
    self.assertEqual(found['student_step_vs_pytorch_plain'], 6.0)
    self.assertEqual(found['cached_step_vs_pytorch_best'], 2.25)
    text = sections.markdown(found)
    self.assertIn('| student_step_vs_pytorch_best | 1.50 | 1.50 | 1.50 |', text)
    self.assertIn('| PyTorch, compiled, bfloat16 | failed |', text)
    self.assertIn(figures.machine()['processor'], text)

  def test_one_of_ours_that_fails_ends_the_run(self):
    with (
      mock.patch.object(
        jobs, 'measure', return_value={'x': {'error': 'x ended with code 1'}}
      ),
      self.assertRaisesRegex(errors.TrainingError, 'x ended'),
    ):
      self.setting.measure({'x': {}})

  def test_without_pytorch_the_install_command_is_named(self):
    with (
      mock.patch.object(importlib.util, 'find_spec', return_value=None),
      self.assertRaisesRegex(errors.UsageError, 'requirements-benchmark.txt'),
    ):
      sections.run(self.setting, ['steps'])

  def test_figures_so_far_are_handed_over_after_each_section(self):
    handed = []

    def fails(setting):
      raise errors.TrainingError('died')

    with (
      mock.patch.dict(
        sections.SECTIONS, {'one': lambda s: {'a': 1}, 'two': fails}
      ),
      self.assertRaises(errors.TrainingError),
    ):
      sections.run(
        self.setting, ['one', 'two'], lambda found: handed.append(dict(found))
      )
    self.assertLen(handed, 1)
    self.assertEqual(handed[0]['a'], 1)

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
