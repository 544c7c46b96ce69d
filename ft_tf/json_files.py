"""JSON files of runs: whole, checked, and rows that a crash may cut short."""

import hashlib
import json
import math
import os
from collections.abc import Iterable
from typing import Any

from ft_tf import errors

_CHECKSUM = 'checksum'
_FIX = 'delete it, and run the command that wrote it again'


def load(path: str, kind: type | None = None, fix: str = _FIX) -> Any:
  """Returns the value of a file, or None if there is no such file.

  Args:
    path: The file.
    kind: What it has to hold, `dict` or `list`; None: anything.
    fix: What to do if it is damaged.

  Raises:
    UsageError: the file is damaged.
  """
  try:
    with open(path, encoding='utf-8') as file:
      value = json.load(file)
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, ValueError, RecursionError) as error:
    reason = 'not JSON'
    if isinstance(error, OSError):
      reason = error.strerror or 'not readable'
    raise _damaged(path, reason, fix) from error
  if kind is not None and not isinstance(value, kind):
    raise _damaged(path, f'no {kind.__name__}', fix)
  return value


def load_checked(path: str) -> Any:
  """Returns what `load` does of an object that `with_checksum` has made.

  Those of earlier versions have no checksum.
  """
  value = load(path, dict)
  if value is not None:
    checksum = value.pop(_CHECKSUM, None)
    if checksum not in (None, _digest(value)):
      raise _damaged(path, 'its checksum differs', _FIX)
  return value


def with_checksum(value: dict[str, Any]) -> dict[str, Any]:
  """Returns an object with a checksum of its values."""
  return {**value, _CHECKSUM: _digest(value)}


def _digest(value: dict[str, Any]) -> str:
  return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]


def _damaged(path: str, reason: str, fix: str) -> errors.UsageError:
  return errors.UsageError(f'{path} is damaged ({reason}): {fix}')


def load_rows(path: str) -> list[dict[str, Any]]:
  """Returns the rows of a file of metrics, in the order of their steps.

  A crash may cut the last row short; such a row is left out, and so are lines
  that are no rows.
  """
  rows: list[dict[str, Any]] = []
  if os.path.isfile(path):
    with open(path, 'rb') as file:
      for line in file:
        row = _read_row(line)
        if row is not None and (not rows or row['step'] > rows[-1]['step']):
          rows.append(row)
  return rows


def to_lines(rows: Iterable[dict[str, Any]]) -> str:
  """Returns rows as the text of a file."""
  return ''.join(f'{to_json(row)}\n' for row in rows)


def _read_row(line: bytes) -> dict[str, Any] | None:
  """Returns the row of a line; None if it is none."""
  try:
    row = json.loads(line) if line.endswith(b'\n') else None
  except (ValueError, RecursionError):
    return None
  whole = isinstance(row, dict) and type(row.get('step')) is int
  return row if whole else None


def to_json(value: Any, *, indent: int | None = None) -> str:
  """Returns a value as JSON; numbers that are not finite become null.

  JSON has no NaN and no infinity. Python's own writer writes them as words that
  other JSON readers refuse.
  """
  return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value):
  if isinstance(value, dict):
    return {key: _finite(inner) for key, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return [_finite(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
