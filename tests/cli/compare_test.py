"""`ft-tf compare` as a user runs it."""

import json
import os

import pytest
from absl.testing import absltest

from tests.cli import commands


class CompareTest(absltest.TestCase):
  @pytest.mark.slow
  def test_comparison_leaves_every_form_and_continues(self):
    folder = self.create_tempdir().full_path
    workdir, data = (os.path.join(folder, name) for name in ('run', 'data'))
    command = (
      *commands.TINY,
      f'--workdir={workdir}',
      f'--data_dir={data}',
      f'--signal_cache={folder}/signals',
    )
    code, out, err = commands.run('compare', *command, '--methods=scratch')
    self.assertEqual(code, 0, err)
    code, out, err = commands.run(
      'compare', *command, '--methods=scratch,ft', '--seeds=2', '--jobs=2'
    )
    self.assertEqual(code, 0, err)
    found = commands.result(out)
    self.assertEqual(
      [(row['method'], row['seeds']) for row in found['rows']],
      [('teacher', 1), ('scratch', 2), ('ft', 2)],
    )
    for row in found['rows']:
      self.assertLen(row['accuracies'], row['seeds'])
      self.assertGreater(row['tflite_bytes'], row['tflite_int8_bytes'])
      self.assertAlmostEqual(row['mean'], sum(row['accuracies']) / row['seeds'])
    # What was complete is not trained again.
    self.assertIn('student ft seed 1  epoch', err)
    self.assertNotIn('baseline seed 0  epoch', err)
    self.assertLen(out.splitlines(), 1)
    self.assertIn('\nstudent, factor transfer  ', err)
    self.assertIn('ft: ', err)
    for form in ('json', 'md', 'csv', 'tex', 'html'):
      self.assertTrue(os.path.exists(f'{workdir}/comparison.{form}'), form)
    with open(f'{workdir}/comparison.json') as file:
      self.assertEqual(json.load(file), found)

  @pytest.mark.slow
  def test_dry_run_prints_the_plan_and_leaves_nothing(self):
    folder = self.create_tempdir().full_path
    code, out, err = commands.run(
      'compare',
      *commands.SHORT,
      '--methods=scratch,ft',
      '--seeds=3',
      '--dry_run',
      f'--workdir={folder}/run',
      f'--data_dir={folder}/data',
    )
    self.assertEqual(code, 0, err)
    self.assertRegex(err, r'(?m)^\| ft +\| +3 \|')
    found = commands.result(out)
    self.assertAlmostEqual(
      found['seconds'], sum(part['seconds'] for part in found['parts'])
    )
    self.assertFalse(os.path.exists(f'{folder}/run'))

  def test_bad_comparison_is_one_line_with_the_fix_and_writes_nothing(self):
    folder = self.create_tempdir().full_path
    cases = {
      '--methods=nope': '--method=nope: give scratch, one of at, .*sp, a sum',
      '--methods=ft,ft': 'has ft twice',
      '--seeds=0': '--seeds=0',
      '--jobs=0': '--jobs=0',
      '--sweep=nope=1': '--sweep=nope=1: give a number of the recipe',
      '--sweep=rate': 'such as paraphraser.rate=0.5,1,2',
      '--sweep=rate=a': '--sweep=paraphraser.rate=a: paraphrase rate',
      '--signal_cache=': '--signal_cache is empty',
    }
    common = (
      '--recipe=digits',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/new',
    )
    found = commands.each(
      'compare', *([*common, argument] for argument in cases)
    )
    for (argument, pattern), (code, out, err) in zip(
      cases.items(), found, strict=True
    ):
      with self.subTest(argument):
        self.assertEqual((code, out), (2, ''), err)
        self.assertRegex(err.splitlines()[-1], f'^ft-tf compare: .*{pattern}')
    self.assertFalse(os.path.exists(f'{folder}/new'))


if __name__ == '__main__':
  absltest.main()
