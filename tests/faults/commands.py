"""The commands of ft-tf in other processes, for signals to meet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.forks import forks

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def start(*arguments: str, **variables: str) -> forks.Program:
  """Starts `ft-tf` with arguments in a fork.

  Args:
    *arguments: The command and its flags.
    **variables: Of the environment, beside this process's.
  """
  return forks.server().start('-m', 'ft_tf', *arguments, **variables)


def start_process(*arguments: str) -> subprocess.Popen[str]:
  """Starts `ft-tf` in a process that imports all anew, as a terminal would."""
  return subprocess.Popen(
    [sys.executable, '-m', 'ft_tf', *arguments],
    cwd=_ROOT,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=listen,
  )


def listen() -> None:
  """Has the process that is started next take signals, to be its `preexec_fn`.

  A shell starts what runs in the background with SIGINT ignored, `nohup` all
  with SIGHUP.
  """
  for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)


def stop(
  process: subprocess.Popen[str] | forks.Program,
  number: int,
  when: Callable[[], bool],
) -> tuple[int, str]:
  """Sends a signal once it is time; returns exit code and last line.

  Raises:
    AssertionError: there is a traceback.
  """
  end = time.monotonic() + 300
  while not when() and process.poll() is None and time.monotonic() < end:
    time.sleep(0.02)
  process.send_signal(number)
  _, printed = process.communicate(timeout=120)
  assert 'Traceback' not in printed, printed
  return process.returncode, (printed.strip().splitlines() or [''])[-1]


def rows(folder: str) -> list[dict[str, float]]:
  """Returns a run's rows of metrics, whole ones alone."""
  try:
    with open(os.path.join(folder, 'metrics.jsonl'), encoding='utf-8') as file:
      return [json.loads(line) for line in file if line.endswith('\n')]
  except FileNotFoundError:
    return []
