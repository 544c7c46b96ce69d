"""The experiment in examples/ that compares ways to an int8 file."""

import json
import os
import subprocess
import sys

import pytest
from absl.testing import absltest

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_EPOCHS = [
  f'--{stage}_epochs=1'
  for stage in ('teacher', 'paraphraser', 'student', 'qat')
] + ['--teacher_learning_rate=0.01', '--paraphraser_learning_rate=0.001']


class CompareQuantisationTest(absltest.TestCase):
  def _run(self, *flags):
    return subprocess.run(
      [sys.executable, 'examples/compare_quantisation.py', *flags],
      cwd=_ROOT,
      env={**os.environ, 'PYTHONPATH': _ROOT},
      capture_output=True,
      text=True,
      check=False,
    )

  @pytest.mark.slow
  def test_every_way_has_a_row_and_its_figures_stay(self):
    workdir = self.create_tempdir().full_path
    done = self._run(
      '--recipe=digits',
      '--student=resnet8x0.25',
      '--seeds=2',
      '--scales=tensor',
      f'--workdir={workdir}',
      *_EPOCHS,
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    with open(os.path.join(workdir, 'int8.json'), encoding='utf-8') as file:
      measured = json.load(file)['tensor']
    self.assertEqual(set(measured), {'0', '1'})
    for way in ('keras', 'ptq', 'float', 'qat', 'qat_scratch'):
      self.assertIn(f'| {way} ', done.stdout)
      for accuracies in measured.values():
        self.assertBetween(accuracies[way], 0, 1)


if __name__ == '__main__':
  absltest.main()
