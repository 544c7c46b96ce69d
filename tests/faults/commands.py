"""The commands of ft-tf as processes of their own, for signals to meet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
  """Starts `ft-tf` with arguments, as a terminal would.

  Args:
    *arguments: The command and its flags.
    **variables: Of the environment, beside this process's.
  """
  return subprocess.Popen(
    [sys.executable, '-m', 'ft_tf', *arguments],
    cwd=_ROOT,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2', **variables},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # A shell starts what runs in the background with the signal ignored.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )


def stop(
  process: subprocess.Popen[str], number: int, when: Callable[[], bool]
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
