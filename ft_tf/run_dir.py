"""The files of a run: names, atomic writes, metrics rows. No TensorFlow.

A run folder holds `recipe.json` (what decides its outcome), `environment.json`
(each command that worked on it, with versions), `metrics.jsonl` (a row per log
step), `maps/` (an image of feature maps per epoch), `checkpoints/`,
`tensorboard/`, `model.keras`, `predictions.json` (of a network, on the test
split) and, once it is complete, `result.json`.
"""

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from ft_tf import errors, paths

_PACKAGES = (
  'tensorflow',
  'keras',
  'tensorflow-datasets',
  'ai-edge-litert',
  'numpy',
)

# The files of an export folder that are always there, in the order in which
# they are measured; `export.formats` adds others.
KERAS = 'student.keras'
SAVED_MODEL = 'saved_model'
FLOAT32 = 'student_fp32.tflite'
FLOAT16 = 'student_fp16.tflite'
INT8 = 'student_int8.tflite'
MIXED = 'student_mixed.tflite'
ONNX = 'student.onnx'
# Predictions on the test split, as of `metrics.summarize_predictions`: in a run
# folder of its network, in an export folder by name of file.
PREDICTIONS = 'predictions.json'
EXPORTED = (KERAS, SAVED_MODEL, FLOAT32, FLOAT16, INT8)


# Quantisation-aware training: its folder, inside the run that it continues or
# beside it, and the ranges of activations by place, [low, high], in it. In a
# compression also that of the baseline trained further, and by what name an
# export from before it is kept.
QAT = 'qat'
RANGES = 'ranges.json'
QAT_BASELINE = 'qat-scratch'
EXPORT_BEFORE_QAT = 'export-before-qat'

# In a compression: what limits of size and latency chose the student from.
CANDIDATES = 'candidates.json'


class RunDir:
  """One run folder. Nothing is written before `claim`."""

  def __init__(self, path: str):
    self.path = os.path.abspath(paths.expand(path))
    self.model = os.path.join(self.path, 'model.keras')
    self.checkpoints = os.path.join(self.path, 'checkpoints')
    self.tensorboard = os.path.join(self.path, 'tensorboard')
    self.pictures = os.path.join(self.path, 'maps')
    self._metrics = os.path.join(self.path, 'metrics.jsonl')
    self._lock: TextIO | None = None

  def child(self, name: str) -> 'RunDir':
    """Returns the run folder of that name inside this one."""
    return RunDir(os.path.join(self.path, name))

  def parts(self) -> list['RunDir']:
    """Returns the runs of a stage, one per layer pair.

    They are in the folders `0`, `1`, ... inside this one; a stage with a single
    run has no such folders and is the folder itself.
    """
    names = os.listdir(self.path) if os.path.isdir(self.path) else []
    numbers = sorted(filter(str.isdecimal, names), key=int)
    return [self.child(number) for number in numbers] or [self]

  def begun(self) -> bool:
    """Returns whether the folder holds a run, complete or not."""
    return self.read('recipe.json') is not None

  def check(
    self, recipe: dict[str, Any], *, addable: Iterable[str] = ()
  ) -> None:
    """Raises `UsageError` if the folder cannot take a run of this recipe.

    Args:
      recipe: As of `claim`.
      addable: Likewise.
    """
    check_writable(self.path)
    written = self.read('recipe.json')
    if written is not None:
      # The recipe passes through JSON, as the written one did: tuples become
      # lists.
      given = json.loads(json.dumps(recipe))
      for name in set(addable) & given.keys() - written.keys():
        del given[name]
      changed = _differences(written, given)
      if changed:
        raise errors.UsageError(
          f'{self.path} holds a run of another recipe ({"; ".join(changed)}): '
          'give the same values to continue it, or another --workdir'
        )

  def claim(
    self, recipe: dict[str, Any], *, addable: Iterable[str] = ()
  ) -> None:
    """Locks the folder, and starts its run or continues it.

    Args:
      recipe: What decides the outcome of the run, as JSON values.
      addable: Names in it that the recipe of the folder's run may lack. They
        are added to it, and the run is not complete any more.

    Raises:
      UsageError: the folder cannot be written, holds a run of another recipe,
        or is in use by another process.
    """
    self.check(recipe, addable=addable)
    try:
      os.makedirs(self.path, exist_ok=True)
      lock = self._lock = open(os.path.join(self.path, '.lock'), 'w')
    except OSError as error:
      raise errors.UsageError(
        f'cannot write to {self.path} ({error.strerror}): give another '
        '--workdir'
      ) from error
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.UsageError(
        f'{self.path} is in use by another process: wait for it, or give '
        'another --workdir'
      ) from error
    # Again: another process may have written a recipe before this one got the
    # lock.
    self.check(recipe, addable=addable)
    written = self.read('recipe.json')
    if written is None:
      self.write('recipe.json', recipe)
    elif set(addable) & recipe.keys() - written.keys():
      with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(self.path, 'result.json'))
      self.write('recipe.json', recipe)
    self.write(
      'environment.json',
      (self.read('environment.json') or []) + [_describe_command()],
    )

  def release(self) -> None:
    """Unlocks the folder, so that another process can claim it."""
    if self._lock is not None:
      self._lock.close()
      self._lock = None

  def in_use(self) -> bool:
    """Tells whether a process holds the folder's lock."""
    try:
      with open(os.path.join(self.path, '.lock')) as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except OSError:
      return False
    return False

  def read(self, name: str) -> Any:
    """Returns the JSON value of a file, or None if there is no such file."""
    try:
      with open(os.path.join(self.path, name), encoding='utf-8') as file:
        return json.load(file)
    except (FileNotFoundError, NotADirectoryError):
      return None

  def write(self, name: str, value: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON file, whole or not at all; on one line without indent."""
    with replacing(os.path.join(self.path, name)) as path:
      with open(path, 'w', encoding='utf-8') as file:
        file.write(to_json(value, indent=indent) + '\n')

  def write_picture(self, step: int, png: bytes) -> None:
    """Writes a step's image of feature maps, whole or not at all."""
    os.makedirs(self.pictures, exist_ok=True)
    with replacing(os.path.join(self.pictures, f'{step:07d}.png')) as path:
      with open(path, 'wb') as file:
        file.write(png)

  def append_metrics(self, row: dict[str, Any]) -> None:
    """Adds one row to metrics.jsonl; it must have a `step`."""
    with open(self._metrics, 'a', encoding='utf-8') as file:
      file.write(to_json(row) + '\n')

  def metrics(self) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl.

    A crash may cut the last row short; such a row is left out.
    """
    rows = []
    with contextlib.suppress(FileNotFoundError):
      with open(self._metrics, encoding='utf-8') as file:
        for line in file:
          if line.endswith('\n'):
            rows.append(json.loads(line))
    return rows

  def rewind_metrics(self, step: int) -> list[dict[str, Any]]:
    """Removes the rows after a step; returns the others.

    Training repeats those steps after a resume and logs them again.
    """
    rows = [row for row in self.metrics() if row['step'] <= step]
    if os.path.exists(self._metrics):
      with replacing(self._metrics) as path:
        with open(path, 'w', encoding='utf-8') as file:
          file.writelines(to_json(row) + '\n' for row in rows)
    return rows


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


def check_writable(path: str) -> None:
  """Raises `UsageError` if no file can be made at or under `path`."""
  existing = os.path.abspath(path)
  while not os.path.lexists(existing):
    existing = os.path.dirname(existing)
  try:
    # Permission bits are no answer for root and for read-only mounts, so the
    # check writes a file.
    with tempfile.TemporaryFile(dir=existing):
      pass
  except OSError as error:
    raise errors.UsageError(
      f'cannot write to {path} ({error.strerror}): give another --workdir'
    ) from error


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
  """Yields a path to write a file or folder at, then moves it to `path`.

  If the block fails, the new file or folder is removed and `path` stays as it
  was. The temporary name keeps the extension, because some writers choose their
  format by it.
  """
  folder, name = os.path.split(os.path.abspath(path))
  scratch = tempfile.mkdtemp(prefix='.writing-', dir=folder)
  try:
    temporary = os.path.join(scratch, name)
    yield temporary
    if os.path.isdir(temporary) and os.path.isdir(path):
      shutil.rmtree(path)
    os.replace(temporary, path)
  finally:
    shutil.rmtree(scratch, ignore_errors=True)


def digest(path: str) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal.

  Raises:
    UsageError: the file cannot be read.
  """
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise errors.UsageError(
      f'cannot read {path} ({error.strerror}): give the path of a file'
    ) from error


def _differences(
  old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ''
) -> list[str]:
  """Returns 'field: old saved, new given' for each leaf that differs."""
  lines = []
  for key in sorted(old.keys() | new.keys()):
    was, now = old.get(key), new.get(key)
    if isinstance(was, dict) and isinstance(now, dict):
      lines += _differences(was, now, f'{prefix}{key}.')
    elif was != now:
      lines.append(f'{prefix}{key}: {was} saved, {now} given')
  return lines


def _describe_command() -> dict[str, Any]:
  """Returns the command, its start time, the machine and the versions."""
  return {
    'command': [os.path.basename(sys.executable), *sys.argv],
    'started': datetime.datetime.now(datetime.UTC).isoformat('T', 'seconds'),
    'python': platform.python_version(),
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    'packages': {name: _version(name) for name in _PACKAGES},
  }


def _version(package: str) -> str | None:
  """Returns a package's version; None if no package of that name is installed.

  TensorFlow, for one, is also distributed under other names.
  """
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
