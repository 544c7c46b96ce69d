"""The errors that a program answers with one line instead of a traceback."""

import difflib
from collections.abc import Iterable
from typing import Any

_SUGGESTIONS = 3
_SHOWN = 60  # characters of a value


class UsageError(ValueError):
  """Something the caller gave is wrong; the message names the fix.

  Programs print it on one line and leave with exit code 2. It is raised before
  anything is written.
  """


class TrainingError(RuntimeError):
  """A run cannot go on; the message says where it stands and what to do.

  Programs print it on one line and leave with exit code 1. What the run has
  written so far stays.
  """


class WorkerError(TrainingError):
  """Another of the machines that train together is gone or has stopped."""


def first_line(error: Exception) -> str:
  """Returns the first line of what an error says, or its type's name."""
  return (str(error).strip().splitlines() or [type(error).__name__])[0]


def show(value: Any) -> str:
  """Returns a value of any type for a message: on one line, and its start."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = '') -> str:
  """Returns '; did you mean a, b or c?' for names close to one; '' if none is.

  Close are names that contain it as one of their words, those of few words
  first, then those that are spelled alike.

  Args:
    name: What was given.
    known: The names that there are.
    prefix: What stands before each name in the answer.
  """
  names = list(known)
  word = f'_{name.lower()}_'
  close = sorted(
    (each for each in names if word in f'_{each.lower()}_'),
    key=lambda each: each.count('_'),
  )
  close += difflib.get_close_matches(name, names, _SUGGESTIONS)
  # Each once, in order.
  chosen = [f'{prefix}{each}' for each in dict.fromkeys(close)][:_SUGGESTIONS]
  if not chosen:
    return ''
  *first, last = chosen
  listed = f'{", ".join(first)} or {last}' if first else last
  return f'; did you mean {listed}?'
