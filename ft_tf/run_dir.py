"""The files of a run: names, claims, metrics rows. No TensorFlow.

A run folder holds `recipe.json` (what decides its outcome), `environment.json`
(each command that worked on it, with versions), `metrics.jsonl` (a row per log
step), `maps/` (an image of feature maps per epoch), `checkpoints/`,
`tensorboard/`, `model.keras`, `predictions.json` (of a network, on the test
split) and, once it is complete, `result.json`. `refused.json` says that its
last command was refused, so that the recipe may be corrected.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from ft_tf import claims, environment, errors, json_files, paths, storage

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

RECIPE = 'recipe.json'
RESULT = 'result.json'
_ENVIRONMENT = 'environment.json'
# Says that the folder's last command ended in an error of usage, before it had
# trained what its recipe asks for: the recipe may be corrected.
_REFUSED = 'refused.json'
# What a run has trained. A folder with one of these and no recipe is not taken.
_TRAINED = (RESULT, 'metrics.jsonl', 'model.keras', 'best.keras', 'checkpoints')
_OF_WHOLE = ('comparison.json', 'samples.json', 'report.html')
_PUT_BACK = 'put back a copy of it, or give another --workdir'


class RunDir:
  """One run folder. Nothing is written before `claim`."""

  def __init__(self, path: str):
    """Reads nothing.

    Args:
      path: Of the folder, which may be missing; `~` is the home folder.

    Raises:
      UsageError: no folder can have this path.
    """
    self.path = os.path.abspath(paths.expand(path))
    paths.check_names(self.path, '--workdir=')
    self.model = os.path.join(self.path, 'model.keras')
    self.checkpoints = os.path.join(self.path, 'checkpoints')
    self.tensorboard = os.path.join(self.path, 'tensorboard')
    self.pictures = os.path.join(self.path, 'maps')
    self._metrics = os.path.join(self.path, 'metrics.jsonl')
    self._lock: TextIO | None = None
    self._made: claims.Made | None = None

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
    return self.read(RECIPE) is not None

  def settled(self) -> bool:
    """Returns whether the folder holds a run whose recipe stands."""
    return self.begun() and self.read(_REFUSED) is None

  def check(
    self, recipe: dict[str, Any], *, addable: Iterable[str] = ()
  ) -> None:
    """Raises `UsageError` if the folder cannot take a run of this recipe.

    Args:
      recipe: As of `claim`.
      addable: Likewise.
    """
    check_writable(self.path)
    paths.check_tree(self.path)
    written = self.read(RECIPE)
    if written is None:
      self._check_unclaimed()
      return
    changed = claims.differences(
      written, claims.as_json(recipe, written, addable)
    )
    if changed and not self._may_change(written, recipe):
      raise errors.UsageError(
        f'{self.path} holds a run of another recipe ({"; ".join(changed)}): '
        'give the same values to continue it, or another --workdir'
      )

  def _check_unclaimed(self) -> None:
    """Raises if there are results that no recipe says the origin of."""
    for name in (*_TRAINED, *_OF_WHOLE):
      path = os.path.join(self.path, name)
      # TensorBoard and earlier runs may leave folders without a file.
      if os.path.isfile(path) or (os.path.isdir(path) and os.listdir(path)):
        raise errors.UsageError(
          f'{self.path} holds {name} of a run and no {RECIPE}, so that nobody '
          f'knows what it is of: {_PUT_BACK}'
        )

  def _may_change(self, written: dict[str, Any], given: dict[str, Any]) -> bool:
    """Tells whether the folder's recipe may be corrected.

    So it is where the last command was refused and this folder's own training
    has not begun. Those of the folders within have recipes of their own, which
    are compared with what the corrected command asks of them.
    """
    return (
      self.read(_REFUSED) is not None
      and not self._has_trained()
      and written.get('stage') == given.get('stage')
    )

  def claim(
    self, recipe: dict[str, Any], *, addable: Iterable[str] = ()
  ) -> None:
    """Locks the folder, and starts its run or continues it.

    What interrupted writes have left is removed, and what is damaged and can be
    made again is set aside, with a line that says so.

    Args:
      recipe: What decides the outcome of the run, as JSON values.
      addable: Names in it that the recipe of the folder's run may lack. They
        are added to it, and the run is not complete any more.

    Raises:
      UsageError: the folder cannot be written, holds a run of another recipe,
        or is in use by another process.
      StorageError: the disk is full.
    """
    self.check(recipe, addable=addable)
    made = claims.Made(self.path)
    try:
      os.makedirs(self.path, exist_ok=True)
      self._lock = open(os.path.join(self.path, '.lock'), 'w')
    except OSError as error:
      if storage.is_full(error):
        raise storage.StorageError.about(self.path, error.errno or 0) from error
      raise errors.UsageError(
        f'cannot write to {self.path} ({error.strerror}): give another '
        '--workdir'
      ) from error
    try:
      self._begin(recipe, addable, made)
    except BaseException:
      self.release()
      raise

  def _begin(
    self, recipe: dict[str, Any], addable: Iterable[str], made: 'claims.Made'
  ) -> None:
    """Does what `claim` does in a folder that is there."""
    assert self._lock is not None
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise errors.UsageError(
        f'{self.path} is in use by another process: wait for it, or give '
        'another --workdir'
      ) from error
    # Again: another process may have written a recipe before this one got the
    # lock.
    self.check(recipe, addable=addable)
    # Those of runs within too: one that is complete is not claimed again.
    for folder, *_ in os.walk(self.path):
      storage.sweep(folder)
    self._set_damaged_aside()
    written = self.read(RECIPE)
    self._made = made if written is None else None
    if written is None:
      self.write(RECIPE, recipe)
    else:
      corrected = claims.differences(
        written, claims.as_json(recipe, written, addable)
      )
      if corrected or set(addable) & recipe.keys() - written.keys():
        self.remove(RESULT)
        self.write(RECIPE, recipe)
      if corrected:
        self.remove(CANDIDATES)
      self.remove(_REFUSED)
    self.write(
      _ENVIRONMENT,
      (self.read(_ENVIRONMENT) or []) + [environment.describe_command()],
    )

  def _set_damaged_aside(self) -> None:
    """Renames damaged files that this run writes anew."""
    for name, consequence in (
      (RESULT, 'it is made again from what the run has left'),
      (_ENVIRONMENT, 'the commands that it listed are lost'),
    ):
      path = os.path.join(self.path, name)
      try:
        damaged = os.path.lexists(path) and self._load(name) is None
      except errors.UsageError:
        damaged = True
      if damaged:
        storage.say_damaged(path, consequence)

  @contextlib.contextmanager
  def held(
    self, recipe: dict[str, Any], *, addable: Iterable[str] = ()
  ) -> Iterator[None]:
    """Claims the folder for a block, and releases it; the one way to do so.

    An error of usage in the block undoes the claim: the command that the
    message asks for can use this folder. If nothing was trained in it, the
    files that this claim made are removed. Otherwise they stay, and the recipe
    may be corrected as far as what was trained allows; see `check`.

    Args:
      recipe: As of `claim`.
      addable: Likewise.

    Raises:
      TrainingError: in the block, the folder disappeared or the disk refused a
        file.
    """
    self.claim(recipe, addable=addable)
    try:
      yield
    except Exception as error:
      self.check_there(error)
      if isinstance(error, errors.UsageError):
        self._undo(str(error))
      known = storage.explain(error, self.path)
      if known is None or known is error:
        raise
      raise known from error
    finally:
      self.release()

  def check_there(self, error: Exception | None = None) -> None:
    """Raises `TrainingError` if the claimed folder was deleted or moved.

    Args:
      error: What was raised because of that, if something was.
    """
    if self._lock is None:
      return
    try:
      named = os.stat(os.path.join(self.path, '.lock'))
    except OSError:
      pass
    else:
      if os.path.samestat(named, os.fstat(self._lock.fileno())):
        return
    raise errors.TrainingError(
      f'{self.path} was deleted or moved while this command worked in it: put '
      'it back and the same command continues, or run it again from the start'
    ) from error

  def _undo(self, reason: str) -> None:
    """Makes room for the command that a refused one is corrected to."""
    if self._made is not None and not any(
      RunDir(folder)._has_trained() for folder, *_ in os.walk(self.path)
    ):
      self._made.remove()
    elif not self._has_trained():
      self.write(_REFUSED, {'reason': reason})

  def _has_trained(self) -> bool:
    """Tells whether this very folder has what a stage has trained."""
    places = [os.path.join(self.path, name) for name in _TRAINED]
    return any(
      os.path.isfile(place)
      or (os.path.isdir(place) and any('ckpt' in n for n in os.listdir(place)))
      for place in places
      if place != self._metrics
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
    """Returns the JSON value of a file, or None if there is no such file.

    A result that is damaged is none: the run makes it again.

    Raises:
      UsageError: the file is damaged.
    """
    try:
      return self._load(name)
    except errors.UsageError:
      if os.path.basename(name) == RESULT:
        return None
      raise

  def _load(self, name: str) -> Any:
    """Returns what `read` does; of a damaged result, too, raises."""
    path, base = os.path.join(self.path, name), os.path.basename(name)
    if base == RESULT:
      return json_files.load_checked(path)
    if base == RECIPE:
      return json_files.load(path, dict, _PUT_BACK)
    return json_files.load(path, list if base == _ENVIRONMENT else None)

  def write(self, name: str, value: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON file, whole or not at all; on one line without indent."""
    self.check_there()
    path = os.path.join(self.path, name)
    if os.path.basename(name) == RESULT:
      value = json_files.with_checksum(value)
    with storage.replacing(path) as temporary:
      with open(temporary, 'w', encoding='utf-8') as file:
        file.write(json_files.to_json(value, indent=indent) + '\n')

  def remove(self, name: str) -> None:
    """Removes a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(self.path, name))

  def write_picture(self, step: int, png: bytes) -> None:
    """Writes a step's image of feature maps, whole or not at all."""
    self.check_there()
    os.makedirs(self.pictures, exist_ok=True)
    with storage.replacing(
      os.path.join(self.pictures, f'{step:07d}.png')
    ) as path:
      with open(path, 'wb') as file:
        file.write(png)

  def append_metrics(self, row: dict[str, Any]) -> None:
    """Adds one row to metrics.jsonl; it must have a `step`."""
    self.check_there()
    with (
      storage.explained(self._metrics),
      open(self._metrics, 'a', encoding='utf-8') as file,
    ):
      file.write(json_files.to_lines([row]))

  def metrics(self) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl, in the order of their steps.

    A crash may cut the last row short; such a row is left out, and so are lines
    that are no rows.
    """
    return json_files.load_rows(self._metrics)

  def rewind_metrics(
    self, step: int, known: Iterable[dict[str, Any]] = ()
  ) -> list[dict[str, Any]]:
    """Removes the rows after a step; returns the others.

    Training repeats those steps after a resume and logs them again.

    Args:
      step: The step.
      known: Rows up to it that are certain: they take the place of the file's.
    """
    by_step = {row['step']: row for row in (*self.metrics(), *known)}
    rows = [by_step[each] for each in sorted(by_step) if each <= step]
    if os.path.isdir(self._metrics):
      storage.say_damaged(self._metrics, 'its rows are lost')
    if rows or os.path.exists(self._metrics):
      with storage.replacing(self._metrics) as path:
        with open(path, 'w', encoding='utf-8') as file:
          file.write(json_files.to_lines(rows))
    return rows


def check_writable(path: str) -> None:
  """Raises `UsageError` if no file can be made at or under `path`.

  A full disk is a `StorageError`.
  """
  existing = os.path.abspath(path)
  while not os.path.lexists(existing):
    existing = os.path.dirname(existing)
  try:
    # Permission bits are no answer for root and for read-only mounts, so the
    # check writes a file.
    with tempfile.TemporaryFile(dir=existing):
      pass
  except OSError as error:
    if storage.is_full(error):
      raise storage.StorageError.about(path, error.errno or 0) from error
    raise errors.UsageError(
      f'cannot write to {path} ({error.strerror}): give another --workdir'
    ) from error


def digest(path: str) -> str:
  """Returns the SHA-256 of a file's bytes, in hexadecimal.

  Raises:
    UsageError: the file cannot be read.
  """
  paths.check_regular(path)
  try:
    with open(path, 'rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise errors.UsageError(
      f'cannot read {path} ({error.strerror}): give the path of a file'
    ) from error
