"""Has a command kill itself at a change that it makes to its files."""

import dataclasses
import os
import signal
import sys

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


def arm(workdir: str, *kill) -> None:
  """Has this process be killed; a fork calls it before the command."""
  sys.addaudithook(_Counter(Kill(*kill), workdir))
