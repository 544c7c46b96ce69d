"""Calls in other processes: deaths, errors and ends of all kinds."""

import contextlib
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time

from absl.testing import absltest, parameterized

from ft_tf import processes

_started = []


def _start(*values):
  _started.append(values)


def _where(number):
  """Returns what a call knows of its process."""
  return number, os.getpid(), list(_started)


def _fate(number, signals):
  """Dies of the signal that `signals` has for a number; returns it twice."""
  if signals.get(number):
    os.kill(os.getpid(), signals[number])
  return 2 * number


def _leave(number):
  if number == 1:
    os._exit(7)
  return number


def _fail(number):
  if number == 1:
    raise LookupError('number 1')
  return number


def _die_at_start(path):
  """Kills the first process that it is called in."""
  try:
    os.mkdir(path)
  except FileExistsError:
    return
  os.kill(os.getpid(), signal.SIGKILL)


def _hold(path):
  """Locks a file for a minute, and says so by another."""
  with open(path, 'w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    os.mkdir(f'{path}.held')
    time.sleep(60)


def _each(function, calls, **changes):
  return processes.each(
    function, calls, **{'workers': 2, 'start': _start, **changes}
  )


class EachTest(parameterized.TestCase):
  def tearDown(self):
    self.assertEmpty(multiprocessing.active_children())
    super().tearDown()

  def test_every_call_is_made_once_in_processes_that_have_started(self):
    found = dict(
      _each(_where, [{'number': n} for n in range(7)], start_arguments=(1, 2))
    )
    self.assertEqual([found[n][0] for n in range(7)], list(range(7)))
    pids = {pid for _, pid, _ in found.values()}
    self.assertNotIn(os.getpid(), pids)
    self.assertBetween(len(pids), 1, 2)
    for _, _, started in found.values():
      self.assertEqual(started, [(1, 2)])

  def test_no_calls_need_no_process(self):
    self.assertEmpty(list(_each(_where, [])))

  @parameterized.parameters(1, 2)
  def test_killed_call_takes_no_other_with_it(self, workers):
    signals = {1: signal.SIGKILL, 2: signal.SIGABRT}
    calls = [{'number': n, 'signals': signals} for n in range(5)]
    found = dict(_each(_fate, calls, workers=workers))
    self.assertEqual([found[n] for n in (0, 3, 4)], [0, 6, 8])
    self.assertTrue(found[1].killed)
    self.assertIn('memory ran out', str(found[1]))
    self.assertFalse(found[2].killed)
    self.assertIn('crashed (SIGABRT)', str(found[2]))

  def test_process_that_leaves_is_a_death_too(self):
    found = dict(_each(_leave, [{'number': n} for n in range(3)]))
    self.assertEqual((found[0], found[2]), (0, 2))
    self.assertIn('exit code 7', str(found[1]))

  def test_process_that_dies_at_its_start_takes_one_call(self):
    found = dict(
      _each(
        _leave,
        [{'number': n} for n in (0, 2, 3)],
        workers=1,
        start=_die_at_start,
        start_arguments=(self.create_tempdir().full_path + '/died',),
      )
    )
    self.assertTrue(found[0].killed)
    self.assertEqual((found[1], found[2]), (2, 3))

  def test_error_of_a_call_is_raised_and_ends_all(self):
    with self.assertRaisesRegex(LookupError, 'number 1'):
      list(_each(_fail, [{'number': n} for n in range(4)]))

  def test_closed_iterator_ends_the_processes_at_work(self):
    path = os.path.join(self.create_tempdir().full_path, 'lock')
    calls = [{'number': 0, 'path': None}, {'number': 1, 'path': path}]
    found = _each(_hold_or_return, calls)
    self.assertEqual(next(found), (0, 0))
    begin = time.monotonic()
    found.close()
    self.assertLess(time.monotonic() - begin, 30)

  def test_processes_end_with_a_parent_that_is_killed(self):
    path = os.path.join(self.create_tempdir().full_path, 'lock')
    parent = subprocess.Popen(
      [
        sys.executable,
        '-c',
        'from tests import processes_test as its\n'
        f'list(its._each(its._hold, [{{"path": {path!r}}}]))',
      ]
    )
    _wait(lambda: os.path.exists(f'{path}.held'))
    parent.kill()
    parent.wait()
    with open(path) as file:
      _wait(lambda: _locked(file))  # once the process is gone


def _hold_or_return(number, path):
  if path:
    _hold(path)
  return number


def _locked(file) -> bool:
  with contextlib.suppress(BlockingIOError):
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True
  return False


def _wait(condition):
  end = time.monotonic() + 30
  while not condition():
    if time.monotonic() > end:
      raise TimeoutError
    time.sleep(0.02)


if __name__ == '__main__':
  absltest.main()
