"""The experiment in examples/ that compares ways to an int8 file."""

import json
import os

import pytest
from absl.testing import absltest

from tests.cli import commands
from tests.forks import forks

_EPOCHS = [
  f'--{stage}_epochs=1'
  for stage in ('teacher', 'paraphraser', 'student', 'qat')
] + ['--teacher_learning_rate=0.01', '--paraphraser_learning_rate=0.001']


class CompareQuantisationTest(absltest.TestCase):
  def _run(self, *flags):
    """Returns exit code, standard output and standard error."""
    program = forks.server().start('examples/compare_quantisation.py', *flags)
    printed, said = program.communicate()
    return program.returncode, printed, said

  @pytest.mark.slow
  def test_every_way_has_a_row_and_its_figures_stay(self):
    workdir = self.create_tempdir().full_path
    code, printed, said = self._run(
      *commands.SHORT,
      '--seeds=2',
      '--scales=tensor',
      f'--workdir={workdir}',
      *_EPOCHS,
    )
    self.assertEqual(code, 0, said)
    with open(os.path.join(workdir, 'int8.json'), encoding='utf-8') as file:
      measured = json.load(file)['tensor']
    self.assertEqual(set(measured), {'0', '1'})
    for way in ('keras', 'ptq', 'float', 'qat', 'qat_scratch'):
      self.assertIn(f'| {way} ', printed)
      for accuracies in measured.values():
        self.assertBetween(accuracies[way], 0, 1)


if __name__ == '__main__':
  absltest.main()
