"""JSON files of runs: whole, checked, and rows that a crash may cut short."""

import contextlib
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from ft_tf import errors, paths

_Given = ParamSpec('_Given')
_Result = TypeVar('_Result')

_CHECKSUM = 'checksum'
_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))
_TENSOR = {'dtype': str, 'shape': [(int, type(None))]}
# What the values in files of runs are, where they are; '*' is of all names. A
# file with other values was changed by something else than a run.
_SHAPES: dict[str, Any] = {
  'recipe.json': {
    'stage': str,
    'seed': int,
    **dict.fromkeys(('teacher', 'paraphraser', 'qat'), dict),
    'student': {'method': str},
    'data': {'dataset': str, 'resizing': str, 'image_size': (int, str)},
  },
  'result.json': {
    'method': str,
    **dict.fromkeys(('seed', 'accuracy', 'loss', 'steps'), _NUMBER),
    'parameters': _NUMBER,
    'wall_seconds': (int, float),
  },
  'environment.json': [dict],
  'export.json': {
    '*': {
      **dict.fromkeys(('bytes', 'accuracy', 'agreement'), _NUMBER),
      'examples': int,
      'preprocessing': {'resizing': str, 'sizes': [[int]]},
      'input': _TENSOR,
      'output': _TENSOR,
      'latency_ms': {'p50': _NUMBER},
    }
  },
  '.made_of.json': {'formats': [str]},
  'comparison.json': dict,
  'samples.json': [{'*': str}],
  'predictions.json': (dict, type(None)),
  'latency.json': {'files': {'*': dict}, 'fastest': _TEXT},
  'layers.json': dict,
  'candidates.json': {
    'student': str,
    'candidates': [
      {
        'name': str,
        'parameters': int,
        'files': {
          '*': {
            **dict.fromkeys(('bytes', 'latency_ms'), (int, float)),
            '*': (int, float),
          }
        },
      }
    ],
  },
  'plan.json': [str],
  'methods.json': {'*': str},
  'knowledge.json': {'*': _NUMBER},
  'ranges.json': {'*': [(int, float)]},
  'refused.json': dict,
}
# Of these, values that are missing are damage too: all is written at once.
_WHOLE = ('candidates.json',)
# JSON has integers without end, of which floats and numpy take these.
_LARGEST = 2**63
# What Python raises for them where they are used.
_OF_VALUES = (
  *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
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
  paths.check_regular(path, fix=fix)
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
  name = os.path.basename(path)
  if not fits(value, _SHAPES.get(name, object)):
    raise _damaged(path, 'its values are of other types', fix)
  if name in _WHOLE and not fits(value, _SHAPES[name], whole=True):
    raise _damaged(path, 'it lacks values', fix)
  return value


def fits(value: Any, shape: Any, *, whole: bool = False) -> bool:
  """Tells whether a JSON value is of a shape.

  Args:
    value: The value.
    shape: A type or several; `[shape]` of all elements of a list; an object of
      names and shapes, of which the value may have others.
    whole: Whether objects must not lack any of those names, but '*'.
  """
  if isinstance(shape, list):
    return isinstance(value, list) and all(
      fits(each, shape[0], whole=whole) for each in value
    )
  if isinstance(shape, dict):
    if not isinstance(value, dict):
      return False
    if whole and not value.keys() >= shape.keys() - {'*'}:
      return False
    return all(
      fits(inner, shape.get(name, shape.get('*', object)), whole=whole)
      for name, inner in value.items()
    )
  if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
    return False
  return isinstance(value, shape)


@contextlib.contextmanager
def explained(folder: str) -> Iterator[None]:
  """Turns errors of wrong values in a run's files into one line.

  The types of what every command reads are in `_SHAPES`; what is deeper, or is
  missing, shows where it is used.

  Args:
    folder: That of the run.

  Raises:
    UsageError: the block met a value that no run writes.
  """
  try:
    yield
  except errors.UsageError:
    raise
  except _OF_VALUES as error:
    raise errors.UsageError(
      f'a JSON file in {folder} lacks a value, or has one that no run writes '
      f'({type(error).__name__}: {errors.first_line(error)}): put back copies '
      'of its files, or run its command again in another --workdir'
    ) from error


def explains(
  reads: Callable[Concatenate[Any, _Given], _Result],
) -> Callable[Concatenate[Any, _Given], _Result]:
  """Decorates what reads the files of a run as a block of `explained`.

  Args:
    reads: Its first argument is the run or its folder.
  """

  @functools.wraps(reads)
  def wrapped(
    run: Any, *arguments: _Given.args, **options: _Given.kwargs
  ) -> _Result:
    with explained(getattr(run, 'path', run)):
      return reads(run, *arguments, **options)

  return wrapped


def is_recipe(value: Any) -> bool:
  """Tells whether a value can be that of a `recipe.json`."""
  return fits(value, _SHAPES['recipe.json'])


def load_checked(path: str) -> Any:
  """Returns what `load` does of an object that `with_checksum` has made.

  Those of earlier versions have no checksum.
  """
  value = load(path, dict)
  if value is not None:
    checksum = value.pop(_CHECKSUM, None)
    if checksum not in (None, _checksum(value)):
      raise _damaged(path, 'its checksum differs', _FIX)
  return value


def with_checksum(value: dict[str, Any]) -> dict[str, Any]:
  """Returns an object with a checksum of its values."""
  return {**value, _CHECKSUM: _checksum(value)}


def _checksum(value: dict[str, Any]) -> str:
  return digest(value)[:16]


def digest(value: Any) -> str:
  """Returns the SHA-256 of a value as JSON, in hexadecimal."""
  return hashlib.sha256(to_json(value).encode()).hexdigest()


def _damaged(path: str, reason: str, fix: str) -> errors.UsageError:
  return errors.UsageError(f'{path} is damaged ({reason}): {fix}')


def load_rows(path: str) -> list[dict[str, Any]]:
  """Returns the rows of a file of metrics, in the order of their steps.

  A crash may cut the last row short; such a row is left out, and so are lines
  that are no rows.
  """
  rows: list[dict[str, Any]] = []
  if paths.is_regular(path):
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
  return row if is_row(row) else None


def is_row(value: Any) -> bool:
  """Tells whether a JSON value is a row of metrics."""
  return fits(value, {'*': _NUMBER}) and type(value.get('step')) is int


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
