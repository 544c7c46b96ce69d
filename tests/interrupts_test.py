"""Signals to a process that is at work, or does not listen."""

import os
import signal
import subprocess
import sys
import time

from absl.testing import absltest, parameterized

from tests.faults import commands

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# A process that finishes a step of ten minutes before it ends; it says when it
# begins, and when it has seen the first signal.
_AT_WORK = """
import time
from ft_tf import interrupts
interrupts.install('ft-tf train-teacher')
interrupts.raise_from_here()
with interrupts.deferred():
  print('works', flush=True)
  while not interrupts.requested():
    time.sleep(0.01)
  print('stops', flush=True)
  time.sleep(600)
"""
# Likewise, in code that takes no notice of what the first signal raises.
_DEAF = """
import time
from ft_tf import interrupts
interrupts.install('ft-tf export')
interrupts.raise_from_here()
try:
  print('works', flush=True)
  time.sleep(600)
except KeyboardInterrupt:
  print('stops', flush=True)
  time.sleep(600)
"""
# A process with a destructor that aborts it, as C++ code may have one that was
# cut off in the middle; it leaves after a signal, or without one.
_TO_BE_ABORTED = """
import atexit, ctypes, sys, time
from ft_tf import interrupts
interrupts.install('ft-tf export')
libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)
atexit.register(print, 'ends of Python')
interrupts.raise_from_here()
try:
  print('works', flush=True)
  sys.stdin.read()
except KeyboardInterrupt:
  interrupts.told()
  print('stops', end=' ')
interrupts.leave(interrupts.exit_code() if interrupts.requested() else 0)
"""


def _start(test, code):
  """Returns a process of some code, once it has said that it works."""
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=_ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=commands.listen,
  )
  test.addCleanup(process.kill)
  test.assertEqual(process.stdout.readline(), 'works\n')
  return process


class LeavingTest(parameterized.TestCase):
  @parameterized.parameters(
    (signal.SIGTERM, 128 + signal.SIGTERM, 'stops ends of Python\n'),
    (signal.SIGINT, 128 + signal.SIGINT, 'stops ends of Python\n'),
    (None, -signal.SIGABRT, 'ends of Python\n'),
  )
  def test_no_destructor_changes_the_exit_code_of_a_signal(
    self, number, code, printed
  ):
    process = _start(self, _TO_BE_ABORTED)
    if number:
      process.send_signal(number)
      process.wait(timeout=60)
    out, _ = process.communicate(timeout=60)
    self.assertEqual((process.returncode, out), (code, printed))


class SecondSignalTest(parameterized.TestCase):
  @parameterized.product(
    code=(_AT_WORK, _DEAF),
    first=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    second=(signal.SIGINT, signal.SIGTERM),
  )
  def test_second_signal_ends_the_process_at_once(self, code, first, second):
    process = _start(self, code)
    process.send_signal(first)
    self.assertEqual(process.stdout.readline(), 'stops\n')
    start = time.monotonic()
    process.send_signal(second)
    _, said = process.communicate(timeout=60)
    # Without it, the second process would end after 3 seconds, the first after
    # ten minutes.
    self.assertLess(time.monotonic() - start, 2.5)
    self.assertEqual(process.returncode, 128 + second)
    self.assertRegex(
      said, rf'^ft-tf .*: stopped by {second.name}; the same .* continues\n$'
    )

  def test_signal_that_is_ignored_stays_so(self):
    process = subprocess.Popen(
      ['nohup', sys.executable, '-c', _AT_WORK],
      cwd=_ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    self.addCleanup(process.kill)
    self.assertIn('works', process.stdout.readline())
    process.send_signal(signal.SIGHUP)
    with self.assertRaises(subprocess.TimeoutExpired):
      process.wait(timeout=0.5)


if __name__ == '__main__':
  absltest.main()
