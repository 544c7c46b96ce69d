"""Tables as text: aligned columns, escaped characters."""

from absl.testing import absltest

from ft_tf.report import tables


class MarkdownTest(absltest.TestCase):
  def test_columns_are_aligned(self):
    self.assertEqual(
      tables.to_markdown(['', 'seeds'], [['baseline', '3'], ['ft', '10']]),
      '|          | seeds |\n'
      '|----------|------:|\n'
      '| baseline |     3 |\n'
      '| ft       |    10 |',
    )


class LatexTest(absltest.TestCase):
  def test_table_is_a_tabular_of_booktabs(self):
    self.assertEqual(
      tables.to_latex(['', 'accuracy %'], [['ft_no_translator', '90']]),
      '\\begin{tabular}{lr}\n'
      '\\toprule\n'
      ' & accuracy \\% \\\\\n'
      '\\midrule\n'
      'ft\\_no\\_translator & 90 \\\\\n'
      '\\bottomrule\n'
      '\\end{tabular}',
    )

  def test_backslash_is_escaped_once(self):
    self.assertIn(
      r'a\textbackslash{}b', tables.to_latex([r'a\b'], []).replace('\n', ' ')
    )


if __name__ == '__main__':
  absltest.main()
