"""The last lines of a command, in a terminal of 80 columns."""

import contextlib
import json
import os

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import closing
from ft_tf.report import comparison as comparison_report
from tests.report import comparison_folder


class CompressionTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()
    self._root = run_dir.RunDir(self._scratch.full_path)
    self._write('recipe.json', {'data': {'dataset': 'digits'}})
    self._run('teacher', 'teacher', 0, 0.95, 272_186)
    self._run('student', 'ft', 0, 0.9, 19_810)
    self._run('comparison/ft-1', 'ft', 1, 0.92, 19_810)
    self._write('export/export.json', self._export())
    self._write('comparison/scratch-0/recipe.json', {})  # not finished

  def _write(self, name, value):
    self._scratch.create_file(name, json.dumps(value))

  def _run(self, name, method, seed, accuracy, parameters):
    result = {
      'method': method,
      'seed': seed,
      'accuracy': accuracy,
      'parameters': parameters,
    }
    self._write(f'{name}/result.json', result)

  def _export(self):
    int8 = {'bytes': 33_808, 'latency_ms': {'p50': 0.0113}}
    return {'student_int8.tflite': int8}

  def test_table_verdict_and_what_is_next(self):
    with contextlib.chdir(os.path.dirname(self._root.path)):
      text = closing.describe_compression(self._root, data_dir='/data/my sets')
    folder = os.path.basename(self._root.path)
    self.assertEqual(
      text,
      '                            accuracy %  seeds  parameters  int8 bytes  '
      'int8 ms\n'
      'teacher                          95.00      1     272,186           -  '
      '      -\n'
      'student, factor transfer  91.00 ± 1.41      2      19,810      33,808  '
      '  0.011\n'
      '\n'
      'The student reaches 91.00 % with 13.7 times fewer parameters than the '
      "teacher's\n"
      '95.00 %. There is no baseline (the same student trained without a '
      'teacher) to\n'
      'compare it with: add --baseline.\n'
      '\n'
      'Next:\n'
      f'  report         {folder}/report.html\n'
      f'  .tflite files  {folder}/export\n'
      f'  curves         tensorboard --logdir={folder}\n'
      '  check a file   ft-tf evaluate '
      f'--model={folder}/export/student_int8.tflite --dataset=digits '
      "'--data_dir=/data/my sets'\n"
      f'  in a browser   ft-tf demo --export={folder}/export',
    )

  def test_path_outside_of_the_current_folder_is_whole(self):
    text = closing.describe_compression(self._root)
    self.assertIn(f'report         {self._root.path}/report.html\n', text)
    self.assertIn('--dataset=digits\n', text)


class ComparisonTest(comparison_folder.TestCase):
  def _text(self):
    comparison = comparison_report.write(self.root)
    return closing.describe_comparison(self.root, comparison)

  def test_table_verdicts_and_what_is_next(self):
    text = self._text()
    table, verdicts, following = text.split('\n\n')
    self.assertLen(table.splitlines(), 5)
    for line in (*table.splitlines(), *verdicts.splitlines()):
      self.assertLess(len(line), 80, line)
    self.assertRegex(table, r'student, factor transfer  92\.00 ± 1\.58 +5 +\+2')
    self.assertIn('ft: +2.20 points over 5 paired seeds', verdicts)
    self.assertIn('comparison.html', following)

  def test_points_of_a_sweep_have_short_names_where_the_table_is_wide(self):
    self.write_run('runs/ft,beta=20.0-0', 'ft,beta=20.0', 0, 0.91)
    table = self._text().partition('\n\n')[0]
    self.assertIn('\nft,beta=20.0 ', table)
    self.assertIn('\nstudent, factor transfer ', table)
    for line in table.splitlines():
      self.assertLess(len(line), 80, line)

  def test_more_seeds_are_proposed_where_a_verdict_is_open(self):
    self.assertIn('more seeds', self._text())  # kd has a single pair

  def test_more_seeds_are_not_proposed_where_all_is_clear(self):
    comparison = comparison_report.write(self.root)
    for row in comparison['rows']:
      if row['gain']:
        row['gain']['verdict'] = 'better'
    text = closing.describe_comparison(self.root, comparison)
    self.assertNotIn('more seeds', text)


if __name__ == '__main__':
  absltest.main()
