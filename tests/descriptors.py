"""What is written to file descriptor 2, past Python's `sys.stderr`."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
  """Yields a function to what was written to descriptor 2 so far."""
  kept = os.dup(2)
  with tempfile.TemporaryFile('w+') as file:

    def read():
      file.seek(0)
      return file.read()

    os.dup2(file.fileno(), 2)
    try:
      yield read
    finally:
      os.dup2(kept, 2)
      os.close(kept)
