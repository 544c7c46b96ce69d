"""Programs whose terminal, log or reader is gone, and closed descriptors."""

import os
import pty
import subprocess
import sys
import threading

import pytest
from absl.testing import absltest, parameterized

from ft_tf import standard_streams
from tests.faults import commands

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A program that says something, and then writes a file whose path it is given.
_PROGRAM = """
import os, sys
from ft_tf import standard_streams
standard_streams.secure()
print('said', file=sys.stderr)
print('printed', flush=True)
with open(sys.argv[1], 'w') as file:
  os.write(2, b'a note of C++ code')
  file.write(f'number {file.fileno()}')
"""


class OpenDroppingTest(absltest.TestCase):
  def test_what_can_be_written_is(self):
    reader, writer = os.pipe()
    stream = standard_streams.open_dropping(writer, 'ascii', closes=True)
    stream.write('a line\né\n')
    self.assertEqual(os.read(reader, 99), b'a line\n\\xe9\n')  # at its end
    stream.write('no end')
    stream.close()
    self.assertEqual(os.read(reader, 99), b'no end')
    self.assertEqual(os.read(reader, 99), b'')
    os.close(reader)

  def _say(self, number):
    with standard_streams.open_dropping(number, closes=True) as stream:
      for _ in range(3):
        print('x' * 100_000, file=stream, flush=True)

  def test_reader_of_a_pipe_that_has_ended(self):
    reader, writer = os.pipe()
    os.close(reader)
    self._say(writer)

  def test_descriptor_that_does_not_block_loses_nothing(self):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    talking = threading.Thread(target=self._say, args=(writer,))
    talking.start()
    with os.fdopen(reader) as file:
      self.assertEqual(file.read(), ('x' * 100_000 + '\n') * 3)
    talking.join()

  def test_terminal_that_is_gone(self):
    ours, its = pty.openpty()
    os.close(ours)
    self._say(its)

  def test_disk_that_is_full(self):
    self._say(os.open('/dev/full', os.O_WRONLY))


class SecureTest(parameterized.TestCase):
  @parameterized.parameters((0,), (1,), (2,), (0, 1, 2))
  def test_no_file_gets_the_number_of_a_stream_that_is_closed(self, *closed):
    path = f'{self.create_tempdir().full_path}/file'

    def close():
      for number in closed:
        os.close(number)

    done = subprocess.run(
      [sys.executable, '-c', _PROGRAM, path],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      check=True,
      preexec_fn=close,
    )
    with open(path) as file:
      name, number = file.read().split()
    self.assertEqual(name, 'number')
    self.assertGreater(int(number), 2)
    self.assertEqual(done.stdout, '' if 1 in closed else 'printed\n')
    self.assertEqual(
      done.stderr, '' if 2 in closed else 'said\na note of C++ code'
    )


class CommandTest(parameterized.TestCase):
  @parameterized.parameters(
    ['--version'], ['--help'], ['compress', '--list_recipes'], ['runs', '.']
  )
  def test_full_standard_output_is_one_line(self, *arguments):
    with open('/dev/full', 'w') as full:
      done = subprocess.run(
        [sys.executable, '-m', 'ft_tf', *arguments, *self._json(arguments)],
        cwd=_ROOT,
        stdout=full,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
      )
    self.assertEqual(done.returncode, 1)
    self.assertRegex(
      done.stderr.splitlines()[-1],
      'ft-tf.*: cannot write to standard output .No space left on device',
    )
    self.assertNotIn('Traceback', done.stderr)

  def _json(self, arguments):
    return [] if '--' in arguments[0] else ['--json']

  def test_reader_that_has_seen_enough_is_no_error(self):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
      [sys.executable, '-m', 'ft_tf', '--help'],
      cwd=_ROOT,
      stdout=writer,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
    )
    os.close(writer)
    self.assertEqual((done.returncode, done.stderr), (0, ''))

  @pytest.mark.slow
  def test_training_goes_on_when_nobody_reads(self):
    folder = self.create_tempdir().full_path
    process = commands.start(
      *('train-teacher', '--recipe=digits', '--teacher=resnet8x0.25'),
      *('--teacher_epochs=3', '--log_steps=1'),
      *(f'--data_dir={folder}/data', f'--workdir={folder}/run'),
    )
    process.stderr.readline()
    process.stderr.close()
    self.assertEqual(process.wait(), 0)
    self.assertTrue(os.path.exists(f'{folder}/run/result.json'))


if __name__ == '__main__':
  absltest.main()
