"""Links that stay valid when the folder is moved."""

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import links


class LinksTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir()
    self.root = run_dir.RunDir(self.folder.full_path)

  def test_name_is_quoted_and_never_a_scheme(self):
    self.assertEqual(
      links.to('javascript:alert(1)/a b?#%'),
      (
        './javascript%3Aalert%281%29/a%20b%3F%23%25',
        'javascript:alert(1)/a b?#%',
      ),
    )

  def test_only_existing_files_are_linked(self):
    self.folder.create_file('student/model.keras', '')
    self.assertEqual(
      links.existing(self.root, ['student/model.keras', 'student/best.keras']),
      [('./student/model.keras', 'student/model.keras')],
    )

  def test_nearest_comparison_above_is_found(self):
    run = self.root.child('a/b')
    self.folder.mkdir('a/b')
    self.folder.create_file('comparison.html', '')
    self.assertEqual(
      links.comparison_above(run).address, '../../comparison.html'
    )
    self.folder.create_file('a/comparison.html', '')
    self.assertEqual(links.comparison_above(run).address, '../comparison.html')

  def test_comparison_far_above_is_not_taken(self):
    self.folder.create_file('comparison.html', '')
    self.folder.mkdir('a/b/c/d')
    self.assertIsNone(links.comparison_above(self.root.child('a/b/c/d')))

  def test_reports_below_are_those_of_the_next_folders(self):
    self.folder.create_file('one/report.html', '')
    self.folder.create_file('two/other.html', '')
    self.assertEqual(
      links.reports_below(self.root), [('./one/report.html', 'one/report.html')]
    )


if __name__ == '__main__':
  absltest.main()
