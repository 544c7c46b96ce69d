"""Programs in forks are to their tests what processes of their own are."""

import os
import signal
import subprocess
import time

from absl.testing import absltest

from tests.forks import forks

_PROGRAM = """
import os, signal, sys, time
import json  # The server has imported it.
kind = sys.argv[1]
if kind == 'tell':
  print(json.dumps([os.getcwd(), os.environ['GIVEN'], sys.argv[1:], __name__]))
  print('said', file=sys.stderr)
elif kind == 'exit':
  sys.exit(7)
elif kind == 'complain':
  sys.exit('words')
elif kind == 'raise':
  raise KeyError('missing')
elif kind == 'wait':
  with open(sys.argv[2], 'w') as file:
    file.write(str(os.getpid()))
  os.rename(sys.argv[2], sys.argv[2] + '.whole')
  time.sleep(600)
"""


def _is_running(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  return True


class ForksTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.server = forks.Server(['json'])
    cls.addClassCleanup(cls.server.close)

  def setUp(self):
    super().setUp()
    self.program = self.create_tempfile('program.py', _PROGRAM).full_path
    self.place = os.path.join(self.create_tempdir().full_path, 'process')

  def _run(self, *arguments, **options):
    program = self.server.start(self.program, *arguments, **options)
    return program, *program.communicate()

  def _wait_for_process(self):
    while not os.path.exists(f'{self.place}.whole'):
      time.sleep(0.01)
    with open(f'{self.place}.whole') as file:
      return int(file.read())

  def test_environment_folder_arguments_and_files_are_its_own(self):
    program, out, err = self._run('tell', 'a b', GIVEN='é\n')
    self.assertEqual(program.returncode, 0)
    self.assertEqual(
      out, f'["{os.getcwd()}", "\\u00e9\\n", ["tell", "a b"], "__main__"]\n'
    )
    self.assertEqual(err, 'said\n')
    self.assertNotIn('GIVEN', os.environ)

  def test_ends_are_those_of_python(self):
    for kind, code, said in (
      ('exit', 7, ''),
      ('complain', 1, 'words\n'),
      ('raise', 1, "KeyError: 'missing'\n"),
      ('else', 0, ''),
    ):
      program, out, err = self._run(kind)
      self.assertEqual((program.returncode, out), (code, ''), err)
      self.assertEndsWith(err, said)

  def test_signal_ends_it_while_others_run(self):
    program = self.server.start(self.program, 'wait', self.place)
    self._wait_for_process()
    self.assertIsNone(program.poll())
    self.assertEqual(self._run('exit')[0].returncode, 7)
    program.send_signal(signal.SIGTERM)
    program.communicate()
    self.assertEqual(program.returncode, -signal.SIGTERM)

  def test_program_that_takes_too_long_is_killed(self):
    program = self.server.start(self.program, 'wait', self.place)
    program.communicate(timeout=0.1)
    self.assertEqual(program.returncode, -signal.SIGKILL)

  def test_call_before_the_program_is_made(self):
    _, out, _ = self._run('tell', before=('os', 'chdir', '/'), GIVEN='c')
    self.assertStartsWith(out, '["/", "c"')
    program, _, err = self._run('tell', before=('os', 'nothing'), GIVEN='c')
    self.assertEqual(program.returncode, 1)
    self.assertIn('AttributeError', err)

  def test_command_stands_for_python_and_its_end_is_the_programs(self):
    done = subprocess.run(
      [*self.server.command, self.program, 'tell'],
      env={'GIVEN': 'x'},
      cwd='/',
      capture_output=True,
      text=True,
      check=True,
    )
    self.assertEqual(done.stdout, '["/", "x", ["tell"], "__main__"]\n')
    with subprocess.Popen(
      [*self.server.command, self.program, 'wait', self.place]
    ) as process:
      program = self._wait_for_process()
      self.assertTrue(_is_running(program))
      process.kill()
    until = time.monotonic() + 60
    while _is_running(program):
      self.assertLess(time.monotonic(), until)
      time.sleep(0.01)


if __name__ == '__main__':
  absltest.main()
