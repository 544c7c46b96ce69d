"""The table of CKA and linear probe: means over seeds, missing values."""

from absl.testing import absltest

from ft_tf.report import comparison, comparison_table, knowledge_table
from tests.report import comparison_folder


class KnowledgeTableTest(comparison_folder.TestCase):
  def test_knowledge_is_a_mean_over_seeds_of_arms_that_have_it(self):
    for seed in range(5):
      self.write_json(
        f'runs/ft-{seed}/knowledge.json',
        {
          'feature_cka': 0.1 * seed,
          'feature_cka_shuffled': -0.01,
          'probe_accuracy': 0.9,
          'factor_cka': 0.5,
          'factor_cka_shuffled': 0.004,
        },
      )
    self.write_json('runs/scratch-0/knowledge.json', {'feature_cka': 0.5})
    table = comparison_table.make_rows(comparison_table.read_runs(self.root))
    (line,) = knowledge_table.make_cells(self.root, table)
    self.assertLen(line, len(knowledge_table.HEADER))
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
    comparison.write(self.root)
    self.assertIn('>shuffled</th>', self.read_text('comparison.html'))

  def test_biased_cka_of_an_older_version_is_not_shown(self):
    older = {'feature_cka': 0.8, 'probe_accuracy': 0.5}
    newer = {**older, 'feature_cka': 0.1, 'feature_cka_shuffled': 0.0}
    for seed in range(5):
      measured = older if seed == 2 else newer
      self.write_json(f'runs/ft-{seed}/knowledge.json', measured)
    self.write_json('runs/kd-1/knowledge.json', older)
    table = comparison_table.make_rows(comparison_table.read_runs(self.root))
    for line in knowledge_table.make_cells(self.root, table):
      self.assertEqual(line[1], '-')
      self.assertEqual(line[-1], '50.00')
    comparison.write(self.root)  # The page, too.

  def test_cka_that_does_not_exist_is_a_dash(self):
    for seed in range(5):
      self.write_json(
        f'runs/ft-{seed}/knowledge.json',
        {
          'feature_cka': None,
          'feature_cka_shuffled': None,
          'probe_accuracy': 0.5,
        },
      )
    table = comparison_table.make_rows(comparison_table.read_runs(self.root))
    (line,) = knowledge_table.make_cells(self.root, table)
    self.assertEqual(line[1:], ['-'] * 6 + ['50.00'])


if __name__ == '__main__':
  absltest.main()
