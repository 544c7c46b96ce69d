"""Runs commands as a user does, in another process or in this one."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from ft_tf.cli import dispatch
from tests.forks import forks

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
# A folder that no command may make.
NOWHERE = os.path.join(tempfile.gettempdir(), 'ft_tf_test_nowhere', 'new')
# A compression of seconds, without the names of its networks.
_SMALL = (
  '--recipe=digits',
  '--image_size=0',
  '--train_split=train[:96]',
  '--test_split=test[:64]',
  '--validation_examples=32',
  '--teacher_epochs=2',
  '--paraphraser_epochs=2',
  '--student_epochs=2',
  '--log_steps=1',
)
TINY = (*_SMALL, '--teacher=resnet8x0.5', '--student=resnet8x0.25')
# One of fewer seconds. Forks and this process know its networks, no others do.
SHORT = (*_SMALL, '--teacher=short-wide', '--student=short')


def start(command: str, *arguments: str) -> forks.Program:
  """Starts `ft-tf COMMAND` in a fork."""
  return forks.server().start('-m', 'ft_tf', command, *arguments)


def run(command: str, *arguments: str) -> tuple[int, str, str]:
  """Returns (exit code, standard output, standard error)."""
  process = start(command, *arguments)
  out, err = process.communicate()
  assert process.returncode is not None
  return process.returncode, out, err


def run_process(command: str, *arguments: str) -> tuple[int, str, str]:
  """Does what `run` does in a process that imports all anew."""
  environment = {
    k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'
  }
  done = subprocess.run(
    [sys.executable, '-m', 'ft_tf', command, *arguments],
    cwd=ROOT,
    stdin=subprocess.DEVNULL,
    capture_output=True,
    env=environment,
    text=True,
    check=False,
  )
  return done.returncode, done.stdout, done.stderr


def each(command: str, *lines: list[str]) -> list[tuple[int, str, str]]:
  """Returns what command lines end with, each as `run` does.

  They run in this process: to start Python and TensorFlow takes longer than
  most of what is tested.
  """
  results = []
  for line in lines:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      code = dispatch.run(command, line, name=f'ft-tf {command}')
    results.append((code, out.getvalue(), err.getvalue()))
  return results


def result(out: str) -> dict[str, Any]:
  """Returns the JSON of the last line of standard output."""
  return json.loads(out.splitlines()[-1])
