"""The files of a comparison's report: JSON, CSV, page and verdicts."""

import csv
import io
import json
import os
import re

from absl.testing import absltest

from ft_tf.report import comparison, comparison_table
from tests.report import comparison_folder, markup


class ComparisonTest(comparison_folder.TestCase):
  def test_json_has_the_rows_of_the_contract_and_their_gains(self):
    written = comparison.write(self.root)
    self.assertEqual(json.loads(self.read_text('comparison.json')), written)
    rows = {row['method']: row for row in written['rows']}
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
      self.write_run(f'runs/kd-{seed}', 'kd', seed, 0.9 + 0.002 * seed**2)
    alone = {
      row.method: row.gain
      for methods in (('scratch', 'kd'), ('scratch', 'ft'))
      for row in comparison_table.make_rows(
        [
          r
          for r in comparison_table.read_runs(self.root)
          if r.method in methods
        ]
      )
    }
    table = comparison_table.make_rows(comparison_table.read_runs(self.root))
    together = {row.method: row.gain for row in table}
    self.assertLess(alone['ft'].p, alone['kd'].p)
    # Holm: the smaller of two is doubled, and its interval wider.
    self.assertAlmostEqual(together['ft'].p, 2 * alone['ft'].p)
    self.assertGreater(together['ft'].high, alone['ft'].high)
    self.assertLess(alone['kd'].p, 0.05)
    self.assertEqual(together['kd'].p, alone['kd'].p)
    comparison.write(self.root)
    self.assertIn(
      'corrected for 2 methods: better', self.read_text('comparison.html')
    )

  def test_verdicts_are_a_sentence_for_each_method(self):
    verdicts = comparison.write(self.root)['verdicts']
    self.assertLen(verdicts, 2)
    self.assertStartsWith(verdicts[0], 'kd: -1.90 points over 1 paired seed:')
    self.assertEndsWith(verdicts[1], 'interval +2.00 to +2.40: better.')

  def test_verdict_without_a_baseline_tells_how_to_add_one(self):
    self.write_json('plan.json', ['ft'])
    runs = [
      r for r in comparison_table.read_runs(self.root) if r.method == 'ft'
    ]
    (verdict,) = comparison.make_verdicts(comparison_table.make_rows(runs))
    self.assertIn('add scratch to --methods', verdict)

  def test_csv_has_a_line_for_each_row_unrounded(self):
    comparison.write(self.root)
    lines = list(csv.DictReader(io.StringIO(self.read_text('comparison.csv'))))
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
    comparison.write(self.root)
    for form in ('md', 'tex', 'html', 'csv'):
      text = self.read_text(f'comparison.{form}')
      for mean in ('0.96', '0.9') if form == 'csv' else ('96.00', '92.00'):
        self.assertIn(mean, text, form)

  def test_page_has_verdicts_failures_and_paraphrasers(self):
    comparison.write(self.root, {'kd-0': 'loss is nan <b>'})
    text = self.read_text('comparison.html')
    words = ' '.join(re.sub(r'<[^>]*>', ' ', text).split())
    for part in (
      'resnet8x0.5 distilled from big.keras on digits',
      'kd-0: loss is nan &lt;b&gt;',
      'k0.5 0.123 0.568 32 3',
      'interval +2.00 to +2.40: better',
      'python3 bin/compare.py',
    ):
      self.assertIn(part, words)
    # Gains and two curves; there is no factor loss and no export.
    self.assertLen(markup.plots(text), 3)
    markup.check_page(self, text)

  def test_page_explains_every_column_and_method(self):
    evil = '"><img src=x onerror=alert(1)>'
    self.write_json(
      'methods.json', {'ft': 'factor transfer (2018)', evil: evil}
    )
    comparison.write(self.root)
    text = self.read_text('comparison.html')
    for column in comparison_table.COLUMNS[1:]:
      self.assertIn(f'<dt>{column.name}</dt><dd>{column.about}</dd>', text)
      self.assertIn(f' title="{column.about}">{column.name}</th>', text)
    self.assertIn('<dt>ft</dt><dd>factor transfer (2018)</dd>', text)
    markup.check_page(self, text)
    self.assertNotIn('img', markup.Elements(text).tags)

  def test_comparison_of_an_older_version_has_no_methods_section(self):
    comparison.write(self.root)
    self.assertNotIn('<h3>Methods</h3>', self.read_text('comparison.html'))

  def test_page_links_to_runs_exports_and_reports(self):
    os.makedirs(os.path.join(self.root.path, 'runs/ft-0/export'))
    self.folder.create_file('mine/report.html', '')
    comparison.write(self.root)
    links = markup.Elements(self.read_text('comparison.html')).links
    self.assertContainsSubset(
      (
        './teacher',
        './runs/ft-0',
        './runs/ft-0/export',
        './runs/scratch-4',
        './mine/report.html',
        './comparison.csv',
      ),
      links,
    )
    for link in links:
      self.assertTrue(os.path.exists(os.path.join(self.root.path, link)), link)

  def test_methods_of_a_sweep_cannot_change_the_page(self):
    evil = 'ft,student_layer=<script>alert(1)</script>$x_{$'
    self.write_run('runs/evil-0', evil, 0, 0.9)
    comparison.write(self.root)
    text = self.read_text('comparison.html')
    markup.check_page(self, text)
    self.assertNotIn('<script>alert', text)

  def test_comparison_without_students_has_a_page(self):
    for name in os.listdir(os.path.join(self.root.path, 'runs')):
      os.rename(
        os.path.join(self.root.path, 'runs', name),
        os.path.join(self.root.path, f'away-{name}'),
      )
    self.assertLen(comparison.write(self.root)['rows'], 1)

  def test_page_shows_maps_at_first_halfway_and_last(self):
    run = self.root.child('runs/ft-0')
    for step in (100, 200, 300, 400):
      run.write_picture(step, b'png %d' % step)
    comparison.write(self.root)
    text = self.read_text('comparison.html')
    steps = re.findall(r'factor transfer, step (\d+)</figcaption>', text)
    self.assertEqual(steps, ['100', '300', '400'])
    self.assertIn(
      '<details><summary>student, factor transfer: steps 100, 300, 400', text
    )


if __name__ == '__main__':
  absltest.main()
