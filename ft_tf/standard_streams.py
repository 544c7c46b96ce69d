"""Standard input, output and error of a program that may outlive its terminal.

Training goes on when nobody is left to read what it says: a connection is lost,
the reader of a pipe has ended, or the disk of a log is full.
"""

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _Dropping(io.FileIO):
  """An open file; what cannot be written into it is dropped."""

  def write(self, content: Any) -> int:
    try:
      # None: a program at the other end has made the descriptor non-blocking.
      while (written := super().write(content)) is None:
        select.select([], [self], [])
      return written
    except OSError:
      return memoryview(content).nbytes


def secure() -> None:
  """Keeps a program going whose standard error cannot be written.

  Closed descriptors are opened on /dev/null. Otherwise the next file would get
  the number 2, and notes of C++ code would be written into it.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
      os.set_inheritable(number, True)
  if sys.stdout is None:
    sys.stdout = open(1, 'w', closefd=False)
  encoding = sys.stderr.encoding if sys.stderr is not None else 'utf-8'
  sys.stderr = open_dropping(2, encoding)


@contextlib.contextmanager
def present() -> Iterator[None]:
  """Has a standard error in a block, which programs without a console lack."""
  if sys.stderr is not None:
    yield
    return
  with open(os.devnull, 'w') as null, contextlib.redirect_stderr(null):
    yield


def open_dropping(
  number: int, encoding: str = 'utf-8', *, closes: bool = False
) -> TextIO:
  """Returns a text stream to a descriptor; it drops what cannot be written.

  Args:
    number: The descriptor.
    encoding: Of the text; what it lacks is escaped.
    closes: Whether the descriptor is closed with the stream.
  """
  return io.TextIOWrapper(
    io.BufferedWriter(_Dropping(number, 'wb', closefd=closes)),
    encoding=encoding,
    errors='backslashreplace',
    line_buffering=True,
  )
