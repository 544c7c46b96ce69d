"""The comparison's tables and page, of folders made by hand."""

import csv
import io
import json
import os
import re

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import comparison, summary

_RECIPE = {
  'data': {
    'dataset': 'digits',
    'test_split': 'test',
    'batch_size': 32,
    'validation_examples': 200,
  },
  'teacher': {'model': '/models/big.keras'},
  'student': {'model': 'resnet8x0.5', 'epochs': 8},
}
_ENVIRONMENT = {
  'command': ['python3', 'bin/compare.py'],
  'started': '2025-01-31T12:00:00+00:00',
  'python': '3.11.7',
  'machine': 'x86_64, 2 cores',
  'packages': {'tensorflow': '2.21.0'},
}


class ComparisonTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._folder = self.create_tempdir()
    self._root = run_dir.RunDir(self._folder.full_path)
    self._write('recipe.json', _RECIPE)
    self._write('environment.json', [_ENVIRONMENT])
    self._write('plan.json', ['scratch', 'kd', 'ft'])
    self._run('teacher', 'teacher', None, 0.96, parameters=4000)
    for seed in range(5):
      self._run(f'runs/ft-{seed}', 'ft', seed, 0.90 + 0.01 * seed)
      self._run(f'runs/scratch-{seed}', 'scratch', seed, 0.88 + 0.009 * seed)
    self._run('runs/kd-1', 'kd', 1, 0.87)
    self._write('runs/kd-0/recipe.json', {})  # not finished
    self._write(
      'paraphrasers/k0.5/result.json',
      {
        'reconstruction': 0.1234,
        'reconstruction_of_mean': 0.5678,
        'factors': 32,
        'dead_factors': 3,
      },
    )

  def test_gain_is_over_the_student_alone_at_the_same_point(self):
    for epochs, alone in ((8, 0.5), (16, 0.6)):
      point = f'student_epochs={epochs}'
      for seed in range(5):
        self._run(f'runs/s{epochs}-{seed}', f'scratch,{point}', seed, alone)
        for beta in (1.0, 2.0):
          name = f'ft,beta={beta},{point}'
          accuracy = alone + 0.1 * beta
          self._run(f'runs/f{epochs}{beta}-{seed}', name, seed, accuracy)
    rows = comparison.rows(comparison.runs(self._root))
    gains = {row.method: row.gain and row.gain.mean for row in rows}
    for epochs in (8, 16):
      self.assertIsNone(gains[f'scratch,student_epochs={epochs}'])
      for beta in (1.0, 2.0):
        gain = gains[f'ft,beta={beta},student_epochs={epochs}']
        self.assertAlmostEqual(gain, 0.1 * beta)
    # Without a point, over the student alone without one.
    self.assertAlmostEqual(gains['ft'], 0.022)
    labels = [row.label for row in rows]
    self.assertIn('student alone, student_epochs=8', labels)
    self.assertIn(
      'student, factor transfer, beta=1.0, student_epochs=8', labels
    )

  def _write(self, name, value):
    self._folder.create_file(name, json.dumps(value))

  def _run(self, name, method, seed, accuracy, parameters=100):
    student = {
      'best_accuracy': accuracy + 0.01,
      'teacher_agreement': accuracy - 0.01,
      'teacher_divergence': 0.25,
    }
    self._write(
      f'{name}/result.json',
      {
        'method': method,
        'seed': seed,
        'accuracy': accuracy,
        'calibration_error': 0.05,
        'parameters': parameters,
        'wall_seconds': 12.3,
        **({} if method == 'teacher' else student),
      },
    )
    rows = [
      {
        'step': e,
        'epoch': e,
        'cross_entropy': 1.0,
        'validation_accuracy': accuracy,
      }
      for e in (1, 2)
    ]
    self._folder.create_file(
      f'{name}/metrics.jsonl', ''.join(json.dumps(r) + '\n' for r in rows)
    )

  def _read(self, name):
    with open(os.path.join(self._root.path, name), encoding='utf-8') as file:
      return file.read()

  def test_rows_come_in_the_plans_order_behind_the_teacher(self):
    table = comparison.rows(comparison.runs(self._root))
    self.assertEqual(
      [row.method for row in table], ['teacher', 'scratch', 'kd', 'ft']
    )

  def test_json_holds_the_contracts_rows_and_their_gains(self):
    found = comparison.write(self._root)
    self.assertEqual(json.loads(self._read('comparison.json')), found)
    rows = {row['method']: row for row in found['rows']}
    ft = rows['ft']
    self.assertAlmostEqual(ft['mean'], 0.92)
    self.assertAlmostEqual(ft['std'], 0.0158114, places=6)
    self.assertEqual(ft['seeds'], 5)
    self.assertEqual(
      ft['accuracies'], [0.9, 0.91, 0.92, 0.93, 0.9400000000000001]
    )
    # Differences of 2, 2.1, .., 2.4 points: the standard error is 0.0707, and
    # Student's t of four degrees of freedom at 97.5 % is 2.7764.
    gain = ft['gain']
    self.assertAlmostEqual(gain['mean'], 0.022)
    self.assertAlmostEqual(gain['low'], 0.022 - 0.001963, places=6)
    self.assertAlmostEqual(gain['high'], 0.022 + 0.001963, places=6)
    self.assertBetween(gain['p'], 1e-6, 1e-5)
    self.assertEqual((gain['seeds'], gain['verdict']), (5, 'better'))
    self.assertAlmostEqual(rows['kd']['gain']['mean'], 0.87 - 0.889)
    self.assertIsNone(rows['kd']['gain']['low'])
    self.assertEqual(rows['kd']['gain']['verdict'], 'no clear difference')
    self.assertIsNone(rows['scratch']['gain'])
    self.assertIsNone(rows['teacher']['gain'])

  def test_gains_are_corrected_for_the_methods_of_the_comparison(self):
    for seed in range(5):
      self._run(f'runs/kd-{seed}', 'kd', seed, 0.9 + 0.002 * seed**2)
    alone = {
      row.method: row.gain
      for methods in (('scratch', 'kd'), ('scratch', 'ft'))
      for row in comparison.rows(
        [r for r in comparison.runs(self._root) if r.method in methods]
      )
    }
    table = comparison.rows(comparison.runs(self._root))
    together = {row.method: row.gain for row in table}
    self.assertLess(alone['ft'].p, alone['kd'].p)
    # Holm: the smaller of two is doubled, and its interval wider.
    self.assertAlmostEqual(together['ft'].p, 2 * alone['ft'].p)
    self.assertGreater(together['ft'].high, alone['ft'].high)
    self.assertLess(alone['kd'].p, 0.05)
    self.assertEqual(together['kd'].p, alone['kd'].p)
    comparison.write(self._root)
    self.assertIn(
      'corrected for 2 methods: better', self._read('comparison.html')
    )

  def test_cells_stand_under_their_header(self):
    *_, ft = comparison.rows(comparison.runs(self._root))
    self.assertEqual(
      dict(zip(comparison.HEADER, comparison.cells(ft), strict=True)),
      {
        '': 'student, factor transfer',
        'accuracy %': '92.00',
        'std': '1.58',
        'seeds': '5',
        'gain': '+2.20',
        '95 % interval': '+2.00 .. +2.40',
        'p': '< 0.001',
        'best epoch %': '93.00',
        'as teacher %': '91.00',
        'KL to teacher': '0.250',
        'ECE %': '5.00',
        'parameters': '100',
        'int8 bytes': '-',
        'int8 %': '-',
        'seconds': '12',
      },
    )

  def test_verdicts_are_a_sentence_for_each_method(self):
    found = comparison.write(self._root)['verdicts']
    self.assertLen(found, 2)
    self.assertStartsWith(found[0], 'kd: -1.90 points over 1 paired seed:')
    self.assertEndsWith(found[1], 'interval +2.00 to +2.40: better.')

  def test_without_the_student_alone_nothing_is_concluded(self):
    self._write('plan.json', ['ft'])
    runs = [r for r in comparison.runs(self._root) if r.method == 'ft']
    (verdict,) = comparison.verdicts(comparison.rows(runs))
    self.assertIn('add scratch to --methods', verdict)

  def test_csv_has_a_line_for_each_row_unrounded(self):
    comparison.write(self._root)
    lines = list(csv.DictReader(io.StringIO(self._read('comparison.csv'))))
    self.assertLen(lines, 4)
    self.assertEqual(lines[3]['method'], 'ft')
    self.assertEqual(
      [float(x) for x in lines[3]['accuracies'].split()],
      [0.9, 0.91, 0.92, 0.93, 0.9400000000000001],
    )
    self.assertEqual(lines[3]['gain_verdict'], 'better')
    self.assertBetween(float(lines[3]['gain_p']), 1e-6, 1e-5)
    self.assertEqual(lines[2]['gain_p'], '')  # one pair

  def test_every_form_holds_every_row(self):
    comparison.write(self._root)
    for form in ('md', 'tex', 'html', 'csv'):
      text = self._read(f'comparison.{form}')
      for mean in ('0.96', '0.9') if form == 'csv' else ('96.00', '92.00'):
        self.assertIn(mean, text, form)

  def test_page_names_verdicts_failures_and_paraphrasers(self):
    comparison.write(self._root, {'kd-0': 'loss is nan <b>'})
    text = self._read('comparison.html')
    words = ' '.join(re.sub(r'<[^>]*>', ' ', text).split())
    for part in (
      'resnet8x0.5 taught by big.keras on digits',
      'kd-0: loss is nan &lt;b&gt;',
      'k0.5 0.123 0.568 32 3',
      'interval +2.00 to +2.40: better',
      'python3 bin/compare.py',
    ):
      self.assertIn(part, words)
    self.assertEqual(text.count('<svg'), 2)  # No factor loss, no export.
    for tag in ('<script', '<link', '<iframe'):
      self.assertNotIn(tag, text)

  def test_comparison_that_has_just_begun_has_a_page(self):
    for name in os.listdir(os.path.join(self._root.path, 'runs')):
      os.rename(
        os.path.join(self._root.path, 'runs', name),
        os.path.join(self._root.path, f'away-{name}'),
      )
    self.assertLen(comparison.write(self._root)['rows'], 1)

  def test_knowledge_is_a_mean_over_seeds_of_arms_that_have_it(self):
    for seed in range(5):
      self._write(
        f'runs/ft-{seed}/knowledge.json',
        {
          'feature_cka': 0.1 * seed,
          'feature_cka_shuffled': -0.01,
          'probe_accuracy': 0.9,
          'factor_cka': 0.5,
          'factor_cka_shuffled': 0.004,
        },
      )
    self._write('runs/scratch-0/knowledge.json', {'feature_cka': 0.5})
    table = comparison.rows(comparison.runs(self._root))
    (line,) = comparison.knowledge(self._root, table)
    self.assertLen(line, len(comparison.KNOWLEDGE_HEADER))
    self.assertEqual(
      line,
      [
        'student, factor transfer',
        *('0.200', '-0.010'),
        *('0.500', '0.004'),
        *('-', '-'),
        '90.00',
      ],
    )
    comparison.write(self._root)
    self.assertIn('<th>shuffled</th>', self._read('comparison.html'))

  def test_biased_cka_of_an_older_version_is_not_shown(self):
    older = {'feature_cka': 0.8, 'probe_accuracy': 0.5}
    newer = {**older, 'feature_cka': 0.1, 'feature_cka_shuffled': 0.0}
    for seed in range(5):
      known = older if seed == 2 else newer
      self._write(f'runs/ft-{seed}/knowledge.json', known)
    self._write('runs/kd-1/knowledge.json', older)
    table = comparison.rows(comparison.runs(self._root))
    for line in comparison.knowledge(self._root, table):
      self.assertEqual(line[1], '-')
      self.assertEqual(line[-1], '50.00')
    comparison.write(self._root)  # The page, too.

  def test_cka_that_does_not_exist_is_a_dash(self):
    for seed in range(5):
      self._write(
        f'runs/ft-{seed}/knowledge.json',
        {
          'feature_cka': None,
          'feature_cka_shuffled': None,
          'probe_accuracy': 0.5,
        },
      )
    table = comparison.rows(comparison.runs(self._root))
    (line,) = comparison.knowledge(self._root, table)
    self.assertEqual(line[1:], ['-'] * 6 + ['50.00'])

  def test_page_shows_maps_at_first_halfway_and_last(self):
    run = self._root.child('runs/ft-0')
    for step in (100, 200, 300, 400):
      run.write_picture(step, b'png %d' % step)
    comparison.write(self._root)
    text = self._read('comparison.html')
    steps = re.findall(r'factor transfer, step (\d+)</figcaption>', text)
    self.assertEqual(steps, ['100', '300', '400'])

  def test_run_of_no_plan_comes_last(self):
    self._run('runs/at-0', 'at', 0, 0.5)
    self.assertEqual(comparison.runs(self._root)[-1].method, 'at')
    self.assertIsInstance(comparison.runs(self._root)[0], summary.Run)


if __name__ == '__main__':
  absltest.main()
