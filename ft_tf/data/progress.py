"""Says on standard error how far the reading of images has come."""

import sys
import time

_PRINT_SECONDS = 5.0  # between two lines


def log(line: str) -> None:
  """Prints a line on standard error; standard output is for results."""
  print(line, file=sys.stderr, flush=True)


class Progress:
  """Prints how far something has come, if it takes long."""

  def __init__(self, what: str, total: int = 0):
    """Prints nothing yet.

    Args:
      what: What is done, in front of the number.
      total: How many images there are; 0 if that is not known.
    """
    self._what = what
    self._total = total
    self._count = 0
    self._started = time.monotonic()
    self._next = self._started + _PRINT_SECONDS

  def step(self) -> None:
    """Counts an image."""
    self._count += 1
    now = time.monotonic()
    if now < self._next or self._count == self._total:
      return
    self._next = now + _PRINT_SECONDS
    rate = self._count / (now - self._started)
    line = f'{self._what} {self._count:,}'
    if self._total:
      line += f' of {self._total:,}'
    line += f' images, {rate:,.0f} images/s'
    if self._total:
      line += f', {(self._total - self._count) / rate:,.0f} s left'
    log(line)
