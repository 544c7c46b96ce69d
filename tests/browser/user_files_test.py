"""Files of the user: their bytes, or one line with what to do."""

import os

from absl.testing import absltest

from ft_tf import errors
from ft_tf.browser import user_files


class UserFilesTest(absltest.TestCase):
  def test_content_is_read_as_it_is(self):
    path = self.create_tempfile(content=b'a\r\n\x00', mode='wb').full_path
    self.assertEqual(user_files.read(path, 'look again'), b'a\r\n\x00')

  def test_file_that_cannot_be_read_is_refused_with_the_fix(self):
    folder = self.create_tempdir().full_path
    for path in (folder, os.path.join(folder, 'none')):
      with self.assertRaisesRegex(
        errors.UsageError, rf'^cannot read {path} \(.+\): look again$'
      ):
        user_files.read(path, 'look again')


if __name__ == '__main__':
  absltest.main()
