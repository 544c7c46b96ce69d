"""Commands in forks of one process that has imported everything, and kills.

To import TensorFlow takes longer than most of what is killed. It is forked
before TensorFlow makes its threads, which would not live on in a fork. A fork
is otherwise what a process of its own is: it has written nothing and traced
nothing, and SIGKILL ends it between any two instructions.

Run as a program, it reads lines of JSON, a command each, and answers each with
a line: `{"status": the value of os.waitpid, "said": the end of what was
printed}`.
"""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_SECONDS = 900  # for a command on a busy machine
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = ('os.mkdir', 'os.remove', 'os.rename', 'os.rmdir')
# The parts of a compression in the order in which they write. What the claim of
# a folder writes in its root comes again with every command.
PHASES = ('teacher', 'paraphraser', 'student', 'exports', 'report')
_OF_REPORT = ('samples.json', 'model_card', 'report.html', 'result.json')


def phase(path: str, workdir: str) -> str:
  """Returns which part of a compression a path belongs to; '' for none."""
  relative = os.path.relpath(path, workdir)
  first = relative.partition(os.sep)[0]
  if f'{os.sep}export' in f'{os.sep}{relative}':
    return 'exports'
  if first in PHASES:
    return first
  return 'report' if any(name in relative for name in _OF_REPORT) else ''


@dataclasses.dataclass
class Kill:
  """When a command is killed.

  Attributes:
    phase: A name of `PHASES`.
    event: The number, from 1, of the change to files of that part or of a later
      one before which it is killed.
    delay: Seconds after that; by then it may be in the middle of C++ code.
  """

  phase: str
  event: int
  delay: float = 0.0


class _Counter:
  """Kills this process when it has counted enough changes to files."""

  def __init__(self, kill: Kill, workdir: str):
    self._kill = kill
    self._workdir = os.path.join(workdir, '')
    self._left = kill.event

  def __call__(self, event, arguments):
    if event == 'open':
      path, mode, flags = arguments
      is_writing = isinstance(mode, str) and {*'wax+'} & {*mode}
      if not (is_writing or flags & _WRITING):
        return
    elif event in _CHANGING:
      path = arguments[0]
    else:
      return
    if not isinstance(path, str) or not path.startswith(self._workdir):
      return
    named = phase(path, self._workdir)
    if not named or PHASES.index(named) < PHASES.index(self._kill.phase):
      return
    self._left -= 1
    if self._left == 0:
      if self._kill.delay:
        # Its default action ends a process like SIGKILL, whatever it does.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._kill.delay)
      else:
        os.kill(os.getpid(), signal.SIGKILL)


class Server:
  """The process that forks."""

  def __init__(self):
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'tests.faults.fork_server'],
      cwd=_ROOT,
      env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def run(
    self, command: str, arguments: list[str], kill: Kill | None = None
  ) -> dict[str, Any]:
    """Runs a command in a fork; returns the answer, as of the module."""
    assert self._process.stdin and self._process.stdout
    job = {'command': command, 'arguments': arguments}
    if kill is not None:
      job['kill'] = dataclasses.asdict(kill)
    self._process.stdin.write(json.dumps(job) + '\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def close(self) -> None:
    self._process.communicate()  # It ends with its input.


@contextlib.contextmanager
def started() -> Iterator[Server]:
  server = Server()
  try:
    yield server
  finally:
    server.close()


def _fork(job: dict[str, Any], answers: int, log: str) -> dict[str, Any]:
  """Runs a job in a fork; returns its answer."""
  child = os.fork()
  if not child:
    os.close(answers)
    with open(log, 'wb') as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    signal.alarm(_SECONDS)
    code = 70  # An error that no command ends with.
    try:
      code = _run(job)
    finally:
      sys.stderr.flush()
      os._exit(code)
  _, status = os.waitpid(child, 0)
  with open(log, encoding='utf-8', errors='replace') as file:
    return {'status': status, 'said': file.read()[-3000:]}


def _run(job):
  # Imported before the fork.
  from ft_tf.cli import dispatch  # noqa: PLC0415

  if 'kill' in job:
    (workdir,) = (
      each.partition('=')[2]
      for each in job['arguments']
      if each.startswith('--workdir=')
    )
    sys.addaudithook(_Counter(Kill(**job['kill']), workdir))
  name = f'ft-tf {job["command"]}'
  return dispatch.run(job['command'], job['arguments'], name=name)


def main() -> None:
  answers = os.dup(1)
  os.dup2(2, 1)  # What imports print is no answer.
  # All of the library, and with it TensorFlow.
  from ft_tf.cli import dispatch  # noqa: PLC0415

  for command in dispatch.COMMANDS:
    dispatch._module(command)
  with tempfile.TemporaryDirectory() as folder:
    for line in sys.stdin:
      answer = _fork(json.loads(line), answers, os.path.join(folder, 'log'))
      os.write(answers, (json.dumps(answer) + '\n').encode())


if __name__ == '__main__':
  main()
