"""A bar on real terminals: pseudo terminals of some widths, and of none."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from absl.testing import absltest, parameterized

_ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
_PROGRAM = """
import sys
from ft_tf.progress import reporter
progress = reporter.Progress(mode=sys.argv[1])
with progress.part('.', 'student ft seed 1') as part:
  part.start(step=0, steps=40, epochs=4)
  part.compiled()
  for step in range(1, 41):
    part.row({'step': step, 'epoch': step / 10, 'loss': 1.2345,
              'images_per_second': 1015.0, 'validation_accuracy': 0.912},
             ends_epoch=step % 10 == 0)
    if step == 15:
      print('a note', file=sys.stderr)
"""


def _run(mode='auto', columns=None, term='xterm'):
  """Returns what a program writes to a terminal of so many columns.

  Args:
    mode: The mode of its progress.
    columns: None: standard error is a pipe.
    term: The environment's TERM.
  """
  command = [sys.executable, '-c', _PROGRAM, mode]
  environment = {**os.environ, 'TERM': term}
  if columns is None:
    return subprocess.run(
      command, cwd=_ROOT, env=environment, stderr=subprocess.PIPE, check=True
    ).stderr.decode()
  reader, writer = pty.openpty()
  size = struct.pack('HHHH', 24, columns, 0, 0)
  fcntl.ioctl(writer, termios.TIOCSWINSZ, size)
  process = subprocess.Popen(
    command, cwd=_ROOT, env=environment, stderr=writer, stdout=writer
  )
  os.close(writer)
  parts = []
  while True:
    try:
      part = os.read(reader, 65536)
    except OSError:  # Linux's end of a terminal
      break
    if not part:
      break
    parts.append(part)
  os.close(reader)
  assert process.wait() == 0
  return b''.join(parts).decode()


class ScreenTest(parameterized.TestCase):
  @parameterized.parameters(20, 40, 80, 200)
  def test_bar_never_reaches_the_last_column(self, columns):
    text = _run(columns=columns)
    self.assertGreater(text.count('ft seed 1'), 40)
    for line in re.split(r'[\r\n]+', text.replace('\x1b[K', '')):
      self.assertLess(len(line), columns, repr(line))
    self.assertIn('4/4', text)
    self.assertIn('a note\r\n', text)

  @parameterized.parameters(
    {'columns': 0},  # as in some containers
    {'columns': None},
    {'columns': 80, 'term': 'dumb'},
    {'columns': 80, 'mode': 'lines'},
  )
  def test_lines_are_plain(self, **arguments):
    text = _run(**arguments).replace('\r\n', '\n')
    self.assertNotIn('\r', text)
    self.assertNotIn('\x1b', text)
    self.assertRegex(
      text,
      r'^\d\d:\d\d:\d\d student ft seed 1  compiling\na note\n'
      r'\d\d:\d\d:\d\d student ft seed 1  epoch 4/4  loss 1\.23  val 91\.2 %  '
      r'1,015 img/s  0:0\d\n$',
    )

  def test_bar_that_is_asked_for_has_80_columns_where_there_is_no_width(self):
    text = _run(mode='bar')
    self.assertRegex(text, r'4/4 \|#{7}\| loss 1\.23')
    for line in re.split(r'[\r\n]+', text.replace('\x1b[K', '')):
      self.assertLess(len(line), 80)


if __name__ == '__main__':
  absltest.main()
