"""What C++ code prints to standard error, past Python's `sys.stderr`."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

_LEVEL = 'TF_CPP_MIN_LOG_LEVEL'


@contextlib.contextmanager
def held() -> Iterator[None]:
  """Holds back what is written to file descriptor 2; shows it on failure.

  What Python prints meanwhile is held back too, if it goes to that descriptor.

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
  return notes
