"""The section `networks`: its jobs, ratios and Markdown; both sides alike."""

import importlib
from unittest import mock

import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.benchmark import (
  counterparts,
  figures,
  jobs,
  markdown,
  measurements,
  networks,
)

_FACTS = {
  'layers': {'teacher': 'last', 'student': 'out'},
  'maps': {'teacher': [4, 4, 2048], 'student': [4, 4, 1280]},
  'forms': {'encoder': 'bottleneck', 'translator': 'bottleneck'},
  'parameters': {'teacher': 23_000_000, 'student': 2_000_000},
}
_SPEEDS = {'alone': 40.0, 'kd': 20.0, 'ft': 16.0}


def _measure(to_measure, *, rounds, steps):
  """Returns speeds and memory that depend on part and framework alone."""
  del steps
  measured = {}
  for job in to_measure:
    is_torch = job.framework == 'pytorch'
    measured[job.name] = {
      'images_per_second': [_SPEEDS[job.part] / (2 if is_torch else 1)]
      * rounds,
      'cpu_seconds': [(256 if is_torch else 160) / _SPEEDS[job.part]] * rounds,
      'peak_bytes': 2e9 if is_torch else 1e9,
      'file_bytes': 0.4e9,
      'start_seconds': 12.5,
    }
    if job.compiled:
      measured[job.name] = {'error': 'no C++ compiler'}
  return measured


class NetworksTest(parameterized.TestCase):
  def _run(self, measure):
    job = jobs.Job(name='', teacher='resnet50', student='mobilenetv2')
    with (
      mock.patch.object(networks, 'compare', return_value=_FACTS),
      mock.patch.object(jobs, 'measure', measure),
    ):
      return networks.measure(measurements.Setting(job=job, rounds=2))

  def test_ratios_are_of_the_fastest_pytorch_of_the_same_precision(self):
    results = self._run(_measure)['networks']
    for short in ('float32', 'bfloat16'):
      measured = results[short]
      self.assertLen(measured['steps'], 9)
      for part in networks.PARTS:
        self.assertEqual(measured['speed'][part]['median'], 2.0)
        self.assertEqual(measured['memory'][part], 0.5)
        self.assertAlmostEqual(measured['own_memory'][part], 0.6 / 1.6)
        self.assertEqual(measured['cpu_time'][part]['median'], 160 / 256)
      for ratio in measured['ft_over_kd'].values():
        self.assertAlmostEqual(ratio['median'], 20 / 16)

  def test_results_become_tables(self):
    text = markdown.to_markdown(
      {'machine': figures.machine(), **self._run(_measure)}
    )
    self.assertIn('resnet50 teaches mobilenetv2, 32x32, batches of 128', text)
    self.assertIn("the student's out, 4x4x1280", text)
    # 128 images at 16 and 8 a second.
    self.assertIn(
      '| ft, ours | 8,000 | 8,000 | 8,000 | 10,000 | 1,000 | 400 | 12.5 |', text
    )
    self.assertIn(
      '| ft, PyTorch | 16,000 | 16,000 | 16,000 | 16,000 | 2,000 |', text
    )
    self.assertIn('| kd, PyTorch, compiled | failed |', text)
    self.assertIn('| ft over kd, CPU time, ours | 1.25 | 1.25 |', text)
    self.assertIn('| ft: peak memory over that of this PyTorch | 0.50 |', text)
    self.assertIn('| ft: the same without pages of files | 0.38 |', text)

  def test_run_without_any_figure_of_pytorch_ends(self):
    def fails(to_measure, **sizes):
      measured = _measure(to_measure, **sizes)
      for name in measured:
        if 'PyTorch' in name:
          measured[name] = {'error': f'{name} ended with code 1'}
      return measured

    with self.assertRaisesRegex(errors.TrainingError, 'alone, PyTorch ended'):
      self._run(fails)

  def _compare(self, teacher, student, image_size):
    job = jobs.Job(
      name='',
      batch_size=2,
      teacher=teacher,
      student=student,
      image_size=image_size,
    )
    for package in counterparts.packages(job):
      try:
        importlib.import_module(package)
      except (ImportError, RuntimeError) as error:
        self.skipTest(f'{package} of requirements-benchmark.txt: {error}')
    return networks.compare(job)

  def test_networks_of_both_sides_are_the_same(self):
    facts = self._compare('resnet20', 'resnet8', 16)
    self.assertEqual(
      facts['layers'], {'teacher': 'group3', 'student': 'group3'}
    )
    self.assertEqual(facts['maps']['student'], [4, 4, 64])
    self.assertEqual(facts['parameters']['teacher'], 272_474)

  def test_other_parameters_in_pytorch_are_refused(self):
    with (
      mock.patch.object(counterparts, 'cifar_depth', return_value=14),
      self.assertRaisesRegex(errors.UsageError, 'differ.*272474.* here and'),
    ):
      self._compare('resnet20', 'resnet14', 16)

  @parameterized.parameters(
    ('resnet50', 'mobilenetv2', 23_555_082, 2_236_682),
    ('efficientnetb0', 'mobilenetv3small', 4_020_358, 1_528_106),
    ('resnet20', 'mobilenetv3small', 272_474, 1_528_106),
  )
  @pytest.mark.slow
  def test_networks_of_torchvision_are_the_same(
    self, teacher, student, of_teacher, of_student
  ):
    counts = self._compare(teacher, student, 96)['parameters']
    self.assertEqual(counts['teacher'], of_teacher)
    self.assertEqual(counts['student'], of_student)


if __name__ == '__main__':
  absltest.main()
