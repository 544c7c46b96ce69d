"""Paths as users write them."""

import os
import pwd

from absl.testing import absltest, parameterized

from ft_tf import errors, paths


class PathsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.enter_context(
      absltest.mock.patch.dict(os.environ, {'HOME': '/homes/somebody'})
    )

  @parameterized.parameters(
    ('~', '/homes/somebody'),
    ('~/a/b.keras', '/homes/somebody/a/b.keras'),
    ('~root/a', os.path.join(pwd.getpwnam('root').pw_dir, 'a')),
    ('folder:~/images', 'folder:/homes/somebody/images'),
    ('folder:images', 'folder:images'),
    ('a/~/b~', 'a/~/b~'),
    ('./~', './~'),
    ('resnet20', 'resnet20'),
    ('', ''),
  )
  def test_home_is_written_out_at_the_start_alone(self, text, path):
    self.assertEqual(paths.expand(text), path)

  @parameterized.parameters('~nobody_here/x', 'folder:~nobody_here/x')
  def test_user_without_a_home_is_refused(self, text):
    with self.assertRaisesRegex(
      errors.UsageError, r'~nobody_here has no home .* \./~nobody_here/x if'
    ):
      paths.expand(text)


if __name__ == '__main__':
  absltest.main()
