"""SIGINT, SIGTERM, SIGHUP: what can be kept is kept, and the process ends.

Between `install` and `raise_from_here` nothing is at work, and the first signal
ends the process at once. After that it raises `Stopped` in the main thread,
but for the blocks of `deferred`, whose code asks `requested` where it can stop.
A second signal ends the process at once, wherever it is; so does the first one
if `Stopped` does not end it within some seconds, as in a long call of C++ code,
during which Python runs no handler. Files are written under other names and
then moved, so that an end at once leaves none of them half-written.
"""

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

# SIGHUP comes when a terminal is closed; `nohup` has a program ignore it.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 3.0  # for `Stopped` to end the process
_POLL_SECONDS = 0.1
_CONTINUES = '; the same command continues'


class Stopped(KeyboardInterrupt):
  """A signal has stopped the work; the text says where it stands.

  Attributes:
    place: Where, without the signal and what to do; '' if nothing was reached.
  """

  def __init__(self, message: str, place: str = ''):
    super().__init__(message)
    self.place = place


class _State:
  """What is known of signals in this process.

  Attributes:
    name: What messages call the program.
    first: The first signal that has come; 0: none has.
    immediate: Whether the first signal ends the process at once.
    deferred: Whether the main thread is in a block of `deferred`.
    told: Whether the line on the end has been printed.
    repeats: Whether a second signal ends the process.
    code: The exit code of a command that a signal has ended; None: none has.
    stderr: A file descriptor of standard error, which `native_output.held`
      does not redirect.
  """

  name = ''
  first = 0
  immediate = True
  deferred = False
  told = False
  repeats = True
  code: int | None = None
  stderr = 2


_state = _State()


def install(name: str) -> None:
  """Takes over the signals; to be called in the main thread, once.

  A signal that the process was started to ignore stays ignored, as in the
  background of a shell without job control.

  Args:
    name: What messages call the program.
  """
  _state.name = name
  with contextlib.suppress(OSError):  # without a standard error
    _state.stderr = os.dup(2)
  numbers = [n for n in _SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
  _watch(numbers)
  for number in numbers:
    signal.signal(number, _handle)
  # What is registered first is called last.
  atexit.register(_skip_destructors)


def take_again() -> None:
  """Takes back a signal that C++ code has taken since; in the main thread."""
  for number in _SIGNALS:
    if callable(handler := signal.getsignal(number)):
      signal.signal(number, handler)


def install_in_worker() -> None:
  """Takes over SIGTERM in a process that another one started.

  Ctrl-C and the end of a terminal reach all its processes: the parent alone
  handles them and sends SIGTERM on. That may then come twice, and ends the
  process but once.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  _state.repeats = False
  _state.told = True  # The parent prints the line.
  _watch([signal.SIGTERM])
  signal.signal(signal.SIGTERM, _handle)


def raise_from_here() -> None:
  """Has the next signal raise `Stopped`, so that what is open is closed."""
  _state.immediate = False


def requested() -> bool:
  """Tells whether a signal has come."""
  return bool(_state.first)


def stopped(place: str = '') -> Stopped:
  """Returns what a block of `deferred` raises once a signal has come.

  Args:
    place: Where the work stands, such as 'at step 40 of 100'; '' if nothing was
      reached that the same command continues from.
  """
  signal_name = _signal_name(_state.first)
  if not place:
    return Stopped(f'stopped by {signal_name}{_CONTINUES}')
  return Stopped(
    f'stopped by {signal_name} {place}{_CONTINUES} from there', place
  )


@contextlib.contextmanager
def deferred(deferring: bool = True) -> Iterator[None]:
  """Has signals do no more in a block than answer `requested`.

  Args:
    deferring: Whether it is so; False inside of such a block: signals raise
      again.

  Raises:
    Stopped: at the end of an outermost block, if a signal has come; at the
      beginning of one that does not defer likewise.
  """
  before = _state.deferred
  _state.deferred = deferring
  try:
    if not deferring:
      _raise_if_requested()
    yield
  finally:
    _state.deferred = before
  if deferring and not before:
    _raise_if_requested()


def exit_code() -> int:
  """Returns the exit code of a command that `KeyboardInterrupt` has ended."""
  return 128 + (_state.first or signal.SIGINT)


def leave(code: int) -> NoReturn:
  """Leaves Python with an exit code, whether a signal has come or not.

  `Stopped` may have cut off an import, or a thread of C++ code may be at work:
  the destructors of C++ would then abort the process now and then, with another
  exit code. Where a signal has ended the command, what was registered with
  `atexit` since `install` is run, and no destructor.
  """
  if _state.first and code:
    _state.code = code
  sys.exit(code)


def told() -> None:
  """Notes that the line on the end of the process has been printed."""
  _state.told = True


def _skip_destructors() -> None:
  """Ends the process after a signal; Python calls it at its end."""
  if _state.code is None:
    return
  for stream in filter(None, (sys.stdout, sys.stderr)):
    with contextlib.suppress(OSError, ValueError):  # a pipe's end, closed
      stream.flush()
  os._exit(_state.code)


def _raise_if_requested() -> None:
  if _state.first:
    raise stopped()


def _handle(number: int, frame: FrameType | None) -> None:
  """Python's handler, which the main thread runs between two instructions."""
  if _state.first:
    return  # The watcher ends the process.
  _state.first = number
  if _state.immediate:
    _leave(number)
  if not _state.deferred:
    _raise_if_requested()


def _watch(numbers: list[signal.Signals]) -> None:
  """Starts the thread that sees signals while the main thread runs C++ code."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  threading.Thread(target=_end, args=(reader, numbers), daemon=True).start()


def _end(reader: int, numbers: list[signal.Signals]) -> None:
  """Ends the process once `Stopped` does not, or by a second signal.

  Args:
    reader: Gets a byte, the signal's number, for each signal.
    numbers: The signals that end the process.
  """
  number = _next_signal(reader, numbers)
  deadline = time.monotonic() + _GRACE_SECONDS
  while time.monotonic() < deadline:
    if select.select([reader], [], [], _POLL_SECONDS)[0]:
      again = _next_signal(reader, numbers)
      if _state.repeats:
        _leave(again)
    if _state.deferred:
      deadline = time.monotonic() + _GRACE_SECONDS
  _leave(number)


def _next_signal(reader: int, numbers: list[signal.Signals]) -> int:
  while (number := os.read(reader, 1)[0]) not in numbers:
    pass
  return number


def _leave(number: int) -> None:
  """Ends this process at once, with a line unless there was one."""
  if not _state.told:
    _state.told = True
    line = f'{_state.name}: stopped by {_signal_name(number)}{_CONTINUES}\n'
    with contextlib.suppress(OSError):
      os.write(_state.stderr, line.encode())
  os._exit(128 + number)


def _signal_name(number: int) -> str:
  return signal.Signals(number or signal.SIGINT).name
