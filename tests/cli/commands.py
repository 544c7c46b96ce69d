"""Runs commands as a user does, in a process of their own or in this one."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from ft_tf.cli import dispatch

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
# A folder that no command may make.
NOWHERE = os.path.join(tempfile.gettempdir(), 'ft_tf_test_nowhere', 'new')
# A compression of seconds.
TINY = (
  '--recipe=digits',
  '--image_size=0',
  '--train_split=train[:96]',
  '--test_split=test[:64]',
  '--validation_examples=32',
  '--teacher=resnet8x0.5',
  '--student=resnet8x0.25',
  '--teacher_epochs=2',
  '--paraphraser_epochs=2',
  '--student_epochs=2',
  '--log_steps=1',
)


def start(command: str, *arguments: str) -> subprocess.Popen:
  """Starts `ft-tf COMMAND` in a process of its own."""
  environment = {
    k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'ft_tf', command, *arguments],
    cwd=ROOT,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=environment,
    text=True,
  )


def run(command: str, *arguments: str) -> tuple[int, str, str]:
  """Returns (exit code, standard output, standard error)."""
  process = start(command, *arguments)
  out, err = process.communicate()
  return process.returncode, out, err


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
