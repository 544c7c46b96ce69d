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


class EscapeMarkdownTest(absltest.TestCase):
  def test_plain_names_stay(self):
    for name in ('zero', 'resnet8x0.25', 'Käuzchen 鳥', '8: 69.8 % (-0.5)'):
      self.assertEqual(tables.escape_markdown(name), name)

  def test_marks_are_escaped_on_one_line(self):
    for name, escaped in (
      ('a|b', 'a&#124;b'),
      ('<b>&amp;', '&#60;b&#62;&#38;amp;'),
      ('[a](b) ![c](d)', r'\[a\](b) \!\[c\](d)'),
      ('`a`\n\n# b\t\u202ec', r'\`a\` \# b c'),
      ('http://a.b WWW.a.b a@b.c', 'http&#58;//a.b WWW&#46;a.b a&#64;b.c'),
    ):
      self.assertEqual(tables.escape_markdown(name), escaped)


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
