"""Calls in worker processes: crashes, exceptions and every way to end."""

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


def _describe_process(number):
  """Returns the number, the process's id and the arguments of `_start`."""
  return number, os.getpid(), list(_started)


def _die_or_double(number, signals):
  """Kills the process if `signals` has the number; returns twice the number."""
  if signals.get(number):
    os.kill(os.getpid(), signals[number])
  return 2 * number


def _exit_on_1(number):
  if number == 1:
    os._exit(7)
  return number


def _raise_on_1(number):
  if number == 1:
    raise LookupError('number 1')
  return number


def _die_at_start(path):
  """Kills the first process that calls it."""
  try:
    os.mkdir(path)
  except FileExistsError:
    return
  os.kill(os.getpid(), signal.SIGKILL)


def _hold(path):
  """Locks a file for a minute, and makes a folder to show that it did."""
  with open(path, 'w') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    os.mkdir(f'{path}.held')
    time.sleep(60)


def _run_each(function, calls, **changes):
  return processes.run_each(
    function, calls, **{'workers': 2, 'start': _start, **changes}
  )


class RunEachTest(parameterized.TestCase):
  def tearDown(self):
    self.assertEmpty(multiprocessing.active_children())
    super().tearDown()

  def test_every_call_runs_once_in_a_started_process(self):
    results = dict(
      _run_each(
        _describe_process,
        [{'number': n} for n in range(7)],
        start_arguments=(1, 2),
      )
    )
    self.assertEqual([results[n][0] for n in range(7)], list(range(7)))
    pids = {pid for _, pid, _ in results.values()}
    self.assertNotIn(os.getpid(), pids)
    self.assertBetween(len(pids), 1, 2)
    for _, _, started in results.values():
      self.assertEqual(started, [(1, 2)])

  def test_no_calls_start_no_process(self):
    self.assertEmpty(list(_run_each(_describe_process, [])))

  @parameterized.parameters(1, 2)
  def test_killed_process_loses_only_its_call(self, workers):
    signals = {1: signal.SIGKILL, 2: signal.SIGABRT}
    calls = [{'number': n, 'signals': signals} for n in range(5)]
    results = dict(_run_each(_die_or_double, calls, workers=workers))
    self.assertEqual([results[n] for n in (0, 3, 4)], [0, 6, 8])
    self.assertTrue(results[1].killed)
    self.assertIn('memory ran out', str(results[1]))
    self.assertFalse(results[2].killed)
    self.assertIn('crashed (SIGABRT)', str(results[2]))

  def test_process_that_exits_is_reported_as_died(self):
    results = dict(_run_each(_exit_on_1, [{'number': n} for n in range(3)]))
    self.assertEqual((results[0], results[2]), (0, 2))
    self.assertIn('exit code 7', str(results[1]))

  def test_process_that_dies_at_its_start_loses_one_call(self):
    results = dict(
      _run_each(
        _exit_on_1,
        [{'number': n} for n in (0, 2, 3)],
        workers=1,
        start=_die_at_start,
        start_arguments=(self.create_tempdir().full_path + '/died',),
      )
    )
    self.assertTrue(results[0].killed)
    self.assertEqual((results[1], results[2]), (2, 3))

  def test_exception_of_a_call_is_raised_and_ends_all(self):
    with self.assertRaisesRegex(LookupError, 'number 1'):
      list(_run_each(_raise_on_1, [{'number': n} for n in range(4)]))

  def test_closed_iterator_ends_the_processes_at_work(self):
    path = os.path.join(self.create_tempdir().full_path, 'lock')
    calls = [{'number': 0, 'path': None}, {'number': 1, 'path': path}]
    results = _run_each(_hold_or_return, calls)
    self.assertEqual(next(results), (0, 0))
    begin = time.monotonic()
    results.close()
    self.assertLess(time.monotonic() - begin, 30)

  def test_processes_end_with_a_parent_that_is_killed(self):
    path = os.path.join(self.create_tempdir().full_path, 'lock')
    parent = subprocess.Popen(
      [
        sys.executable,
        '-c',
        'from tests import processes_test\n'
        'list(processes_test._run_each(processes_test._hold, '
        f'[{{"path": {path!r}}}]))',
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
