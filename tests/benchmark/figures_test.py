"""Ratios by round, tables, and the machine."""

from absl.testing import absltest

from ft_tf.benchmark import figures


def _figure(*speeds):
  return {'images_per_second': list(speeds), 'peak_bytes': 2e9}


class FiguresTest(absltest.TestCase):
  def test_ratio_is_of_the_same_round(self):
    # The machine ran at half its speed in the second round.
    found = figures.ratio(_figure(300, 100, 310), _figure(200, 100, 200))
    self.assertEqual(found, {'median': 1.5, 'least': 1.0, 'most': 1.55})

  def test_ratio_with_one_that_failed_is_none(self):
    self.assertIsNone(figures.ratio(_figure(1), {'error': 'no compiler'}))

  def test_fastest_is_by_median_and_passes_over_failures(self):
    measured = {
      'a': _figure(10, 900, 10),
      'b': _figure(20, 21, 22),
      'c': {'error': 'no compiler'},
    }
    self.assertEqual(figures.fastest(measured, measured), 'b')
    with self.assertRaises(ValueError):
      figures.fastest(measured, ['c'])

  def test_table_has_a_row_for_each_job_failed_or_not(self):
    text = figures.table(
      {'ours': _figure(1000, 3000, 2000), 'theirs': {'error': 'x'}}
    )
    self.assertIn('| ours | 2,000 | 1,000 | 3,000 | 2,000 |', text)
    self.assertIn('| theirs | failed |', text)

  def test_machine_is_named_with_versions(self):
    found = figures.machine()
    self.assertContainsSubset({'processor', 'cores', 'flags'}, found)
    self.assertEqual(found['tensorflow'].count('.'), 2)


if __name__ == '__main__':
  absltest.main()
