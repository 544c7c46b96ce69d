"""What C++ code prints to standard error, past Python's `sys.stderr`."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, TextIO

from ft_tf import standard_streams

_LEVEL = 'TF_CPP_MIN_LOG_LEVEL'
_shown: TextIO | None = None  # standard error while it is held back


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Holds back what is written to file descriptor 2; shows it on failure.

  What Python prints meanwhile is held back too, if it goes to that descriptor;
  `past` gives a way around.

  The converter to TFLite prints notes there which no setting silences. With
  TF_CPP_MIN_LOG_LEVEL at 0 or 1 nothing is held back.
  """
  shown = os.environ.get(_LEVEL) in ('0', '1')
  with contextlib.ExitStack() as stack:
    notes = None if shown else _redirect(stack)
    try:
      yield
    except BaseException:
      stack.close()  # Standard error is itself again.
      if notes is not None:
        notes.seek(0)
        sys.stderr.write(notes.read())
      raise


def past(stream: TextIO) -> TextIO:
  """Returns what shows at once what a stream would hold back, or the stream."""
  if _shown is None:
    return stream
  try:
    return _shown if stream.fileno() == 2 else stream
  except (AttributeError, OSError, ValueError):
    return stream


def _redirect(stack: contextlib.ExitStack) -> IO[str] | None:
  """Redirects file descriptor 2 until a stack is closed.

  Returns:
    The file that it is redirected to; None if there is no such descriptor.
  """
  try:
    kept = os.dup(2)
  except OSError:
    return None
  stack.callback(os.close, kept)
  notes = tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace')
  sys.stderr.flush()
  os.dup2(notes.fileno(), 2)
  stack.callback(os.dup2, kept, 2)
  if _shown is None:  # Otherwise a block around this one shows it.
    stream = stack.enter_context(
      standard_streams.open_dropping(os.dup(kept), closes=True)
    )
    stack.callback(_show, None)
    _show(stream)
  return notes


def _show(stream: TextIO | None) -> None:
  global _shown  # as the descriptor, the process's
  _shown = stream
