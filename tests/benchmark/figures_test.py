"""Ratios per round, tables, and the machine."""

from absl.testing import absltest

from ft_tf.benchmark import figures


def _figure(*speeds):
  return {'images_per_second': list(speeds), 'peak_bytes': 2e9}


class FiguresTest(absltest.TestCase):
  def test_ratio_is_of_the_same_round(self):
    # The machine ran at half its speed in the second round.
    ratio = figures.ratio(_figure(300, 100, 310), _figure(200, 100, 200))
    self.assertEqual(ratio, {'median': 1.5, 'least': 1.0, 'most': 1.55})

  def test_ratio_with_one_that_failed_is_none(self):
    self.assertIsNone(figures.ratio(_figure(1), {'error': 'no compiler'}))

  def test_fastest_is_by_median_and_ignores_failures(self):
    measured = {
      'a': _figure(10, 900, 10),
      'b': _figure(20, 21, 22),
      'c': {'error': 'no compiler'},
    }
    self.assertEqual(figures.fastest(measured, measured), 'b')
    with self.assertRaises(ValueError):
      figures.fastest(measured, ['c'])

  def test_table_has_a_row_for_every_job_including_failed_ones(self):
    text = figures.table(
      {'ours': _figure(1000, 3000, 2000), 'pytorch': {'error': 'x'}}
    )
    self.assertIn('| ours | 2,000 | 1,000 | 3,000 | 2,000 |', text)
    self.assertIn('| pytorch | failed |', text)

  def test_machine_has_processor_and_versions(self):
    machine = figures.machine()
    self.assertContainsSubset({'processor', 'cores', 'flags'}, machine)
    self.assertEqual(machine['tensorflow'].count('.'), 2)


if __name__ == '__main__':
  absltest.main()
