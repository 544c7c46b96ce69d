"""Notes of C++ code are held back, and shown when something fails."""

import contextlib
import io
import os
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import native_output
from tests import descriptors

_LEVEL = 'TF_CPP_MIN_LOG_LEVEL'


class HeldTest(parameterized.TestCase):
  @parameterized.parameters(
    (None, ''), ('2', ''), ('3', ''), ('1', 'a note\n'), ('0', 'a note\n')
  )
  def test_note_is_shown_when_the_level_asks_for_it(self, level, shown):
    environment = {} if level is None else {_LEVEL: level}
    others = {k: v for k, v in os.environ.items() if k != _LEVEL}
    with (
      mock.patch.dict(os.environ, others | environment, clear=True),
      descriptors.captured_stderr() as read,
    ):
      with native_output.held():
        os.write(2, b'a note\n')
      os.write(2, b'after\n')
      self.assertEqual(read(), shown + 'after\n')

  def test_note_is_shown_when_the_work_fails(self):
    with (
      mock.patch.dict(os.environ, {_LEVEL: '2'}),
      contextlib.redirect_stderr(io.StringIO()) as said,
      descriptors.captured_stderr() as read,
    ):
      with self.assertRaisesRegex(ValueError, 'too bad'):
        with native_output.held():
          os.write(2, b'the reason\n')
          raise ValueError('too bad')
      os.write(2, b'after\n')
      self.assertEqual(read(), 'after\n')
    self.assertEqual(said.getvalue(), 'the reason\n')

  def test_line_of_progress_is_shown_at_once(self):
    with (
      mock.patch.dict(os.environ, {_LEVEL: '2'}),
      descriptors.captured_stderr() as read,
      open(2, 'w', closefd=False) as stderr,
      open(os.devnull, 'w') as elsewhere,
    ):
      self.assertIs(native_output.past(stderr), stderr)
      with native_output.held():
        self.assertIs(native_output.past(elsewhere), elsewhere)
        os.write(2, b'a note\n')
        stream = native_output.past(stderr)
        stream.write('compiling\n')
        stream.flush()
        with native_output.held():
          stream = native_output.past(stderr)
          stream.write('held twice\n')
          stream.flush()
      self.assertIs(native_output.past(stderr), stderr)
      self.assertEqual(read(), 'compiling\nheld twice\n')

  def test_work_is_done_when_there_is_no_standard_error(self):
    with mock.patch.object(os, 'dup', side_effect=OSError):
      with native_output.held():
        done = True
    self.assertTrue(done)


if __name__ == '__main__':
  absltest.main()
