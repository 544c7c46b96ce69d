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

  @parameterized.parameters(
    'x' * 5000, 'dir/' * 2000, 'folder:é/' + 'é/' * 2000
  )
  def test_longer_than_any_path_is_refused(self, text):
    with self.assertRaisesRegex(errors.UsageError, 'give a shorter path'):
      paths.expand(text)

  def test_name_that_is_too_long_is_refused(self):
    paths.check_names('/a/' + 'x' * 255 + '/b', '--workdir=')
    for name in ('x' * 256, 'é' * 128, '\ud800' * 86):
      with self.assertRaisesRegex(errors.UsageError, '^--workdir=/a/.*255 byt'):
        paths.check_names(f'/a/{name}/b', '--workdir=')


if __name__ == '__main__':
  absltest.main()
