"""Standard error as a terminal with one line that is drawn again and again."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from ft_tf import native_output

_WIDTH = 80  # of a terminal that does not tell its own
_ERASE_LINE = '\r\x1b[K'
_ERASE_REST = '\x1b[K'


class Screen:
  """Prints lines, and a bar below them where there is one."""

  def __init__(self) -> None:
    self._bar = ''

  @property
  def room(self) -> int:
    """The length of a bar; some terminals wrap behind their last column."""
    return max((width() or _WIDTH) - 1, 1)

  def say(self, line: str) -> None:
    """Prints a line that stays, above the bar if there is one."""
    self._write(f'{_ERASE_LINE if self._bar else ""}{line}\n{self._bar}')

  def draw(self, bar: str) -> None:
    """Draws the bar in the place of the last one."""
    self._bar = bar
    self._write(f'\r{bar}{_ERASE_REST}')

  def erase(self) -> None:
    """Takes the bar away."""
    if self._bar:
      self._bar = ''
      self._write(_ERASE_LINE)

  @contextlib.contextmanager
  def shared(self, prefix: str = '') -> Iterator[None]:
    """Puts above the bar what others print to standard error meanwhile.

    The bar is taken away at the end, also when an exception ends it.

    Args:
      prefix: Is put before each of their lines.
    """
    above = _AboveBar(sys.stderr, lambda line: self.say(prefix + line))
    try:
      with contextlib.redirect_stderr(cast(TextIO, above)):
        try:
          yield
        finally:
          above.end_line()
    finally:
      self.erase()

  def _write(self, text: str) -> None:
    stream = sys.stderr
    if isinstance(stream, _AboveBar):
      stream = stream.stream
    stream = native_output.past(stream)
    stream.write(text)
    stream.flush()


class _AboveBar:
  """Standard error while there is a bar: whole lines go above it.

  Attributes:
    stream: Standard error as it is without the bar.
  """

  def __init__(self, stream: TextIO, say: Callable[[str], None]):
    """Wraps standard error.

    Args:
      stream: Standard error.
      say: Prints a line above the bar.
    """
    self.stream = stream
    self._say = say
    self._begun = ''  # of a line without its end

  def write(self, text: str) -> int:
    *lines, self._begun = (self._begun + text).split('\n')
    for line in lines:
      self._say(line)
    return len(text)

  def end_line(self) -> None:
    if self._begun:
      self.write('\n')

  def flush(self) -> None:
    """Does nothing: a line is written when it ends."""

  def __getattr__(self, name: str) -> Any:
    return getattr(self.stream, name)


def width() -> int:
  """Returns the columns of the terminal of standard error; 0: none is told."""
  try:
    return os.get_terminal_size(sys.stderr.fileno()).columns
  except (AttributeError, OSError, ValueError):
    return 0


def moves() -> bool:
  """Tells whether standard error is a terminal that can redraw a line.

  A terminal without a width, such as that of some containers, cannot: a line of
  unknown length would wrap.
  """
  is_terminal = sys.stderr.isatty() and os.environ.get('TERM') != 'dumb'
  return is_terminal and width() > 0
