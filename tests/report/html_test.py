"""Pages: the shared parts are there, and what is named must be given."""

import os

import jinja2
from absl.testing import absltest

from ft_tf.report import html


class WriteTest(absltest.TestCase):
  def test_value_that_is_missing_is_an_error_and_leaves_no_page(self):
    path = os.path.join(self.create_tempdir().full_path, 'page.html')
    with self.assertRaises(jinja2.UndefinedError):
      html.write(path, 'made.html.jinja', environment={})
    self.assertFalse(os.path.exists(path))


if __name__ == '__main__':
  absltest.main()
