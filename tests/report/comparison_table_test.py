"""The rows of a comparison: order, baselines, cells."""

from absl.testing import absltest

from ft_tf.report import comparison_table, summary
from tests.report import comparison_folder


class ComparisonTableTest(comparison_folder.TestCase):
  def test_gain_is_over_the_baseline_at_the_same_point(self):
    for epochs, baseline in ((8, 0.5), (16, 0.6)):
      point = f'student_epochs={epochs}'
      for seed in range(5):
        self.write_run(
          f'runs/s{epochs}-{seed}', f'scratch,{point}', seed, baseline
        )
        for beta in (1.0, 2.0):
          name = f'ft,beta={beta},{point}'
          accuracy = baseline + 0.1 * beta
          self.write_run(f'runs/f{epochs}{beta}-{seed}', name, seed, accuracy)
    rows = comparison_table.make_rows(comparison_table.read_runs(self.root))
    gains = {row.method: row.gain and row.gain.mean for row in rows}
    for epochs in (8, 16):
      self.assertIsNone(gains[f'scratch,student_epochs={epochs}'])
      for beta in (1.0, 2.0):
        gain = gains[f'ft,beta={beta},student_epochs={epochs}']
        self.assertAlmostEqual(gain, 0.1 * beta)
    # Without changes, the baseline is the one without changes.
    self.assertAlmostEqual(gains['ft'], 0.022)
    labels = [row.label for row in rows]
    self.assertIn('baseline (no teacher), student_epochs=8', labels)
    self.assertIn(
      'student, factor transfer, beta=1.0, student_epochs=8', labels
    )

  def test_rows_are_in_planned_order_after_the_teacher(self):
    table = comparison_table.make_rows(comparison_table.read_runs(self.root))
    self.assertEqual(
      [row.method for row in table], ['teacher', 'scratch', 'kd', 'ft']
    )

  def test_cells_match_the_header(self):
    *_, ft = comparison_table.make_rows(comparison_table.read_runs(self.root))
    self.assertEqual(
      dict(
        zip(
          comparison_table.HEADER,
          comparison_table.format_cells(ft),
          strict=True,
        )
      ),
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

  def test_run_outside_the_plan_comes_last(self):
    self.write_run('runs/at-0', 'at', 0, 0.5)
    self.assertEqual(comparison_table.read_runs(self.root)[-1].method, 'at')
    self.assertIsInstance(comparison_table.read_runs(self.root)[0], summary.Run)


if __name__ == '__main__':
  absltest.main()
