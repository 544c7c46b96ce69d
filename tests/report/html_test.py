"""HTML pages: shared templates, and errors for missing variables."""

import os

from absl.testing import absltest

from ft_tf.report import html


class WriteTest(absltest.TestCase):
  def test_missing_variable_is_an_error_and_writes_no_page(self):
    path = os.path.join(self.create_tempdir().full_path, 'page.html')
    with self.assertRaises(LookupError):
      html.write(path, 'made.html.jinja', environment={})
    self.assertFalse(os.path.exists(path))


if __name__ == '__main__':
  absltest.main()
