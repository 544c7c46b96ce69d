"""A run's checkpoints: two at a time, looked at before one is restored.

TensorFlow writes a checkpoint as an index, its data and a line in a state file.
A record beside them, `ckpt-N.json`, has the SHA-256 of the files and what the
run had logged by then: what is damaged is seen before TensorFlow reads it, and
rows that were lost are missed.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ft_tf import errors, json_files, run_dir, storage

_KEPT = 2  # one of them is whole if the process is killed while it writes
_PREFIX = 'ckpt'
_FILE = re.compile(
  rf'{_PREFIX}-(\d+)\.(index|data-\d+-of-\d+|json|pending\.json)'
)
# What TensorFlow leaves if it is killed while it writes.
_SCRAP = re.compile(rf'{_PREFIX}-\d+_temp|checkpoint\.tmp.*')
_STATE = 'checkpoint'
# What a record has; see `Monitor.describe_log` for what was logged.
_RECORD = {'files': {'*': str}, 'logged': {'rows': int, 'sha256': str}}


def pending_file(step: int) -> str:
  """Returns the file, in a run's folder, of what `pending` keeps for a step.

  Written before the checkpoint of that step, it is one of its files: it has its
  SHA-256 in the record, and is removed or set aside with the others.
  """
  return os.path.join('checkpoints', f'{_PREFIX}-{step}.pending.json')


class Checkpoints:
  """The checkpoints of a claimed run."""

  def __init__(self, checkpoint: tf.train.Checkpoint, run: run_dir.RunDir):
    """Takes what is to be saved and restored.

    Args:
      checkpoint: All that the steps move, built, with a `step`.
      run: The claimed folder.
    """
    self._checkpoint = checkpoint
    self._run = run
    self._folder = run.checkpoints
    self._manager: tf.train.CheckpointManager | None = None
    self.logged: dict[str, Any] | None = None
    """What the run had logged by the restored step; None: it is not known."""
    self.describe_log: Callable[[], dict[str, Any]] = dict
    """Returns what the run has logged up to now, as JSON values."""

  def restore(self) -> int:
    """Restores the newest checkpoint that is whole; returns its step, or 0.

    Those that are damaged are set aside, and what training continues from is
    said. Without any it begins again, which ends with the same weights.

    Raises:
      UsageError: a whole checkpoint lacks a part of the run's state.
    """
    with storage.explained(self._folder):
      damaged = self._set_damaged_aside()
      steps = sorted(self._steps())
      self._repair_state(steps)
      self._manager = tf.train.CheckpointManager(
        self._checkpoint,
        self._folder,
        max_to_keep=_KEPT,
        checkpoint_name=_PREFIX,
      )
    step = steps[-1] if steps else 0
    if step:
      _restore(self._checkpoint, self._path(step))
      record = self._record(step)
      self.logged = record and record['logged']
    if damaged:
      start = f'training continues from step {step}'
      if not step:
        start = 'training begins again at step 0, as no checkpoint is left'
      _print(f'{self._run.path}: {start}')
    elif not step and self._run.metrics():
      _print(
        f'{self._run.path}: there is no checkpoint, so that training begins '
        'again at step 0'
      )
    return step

  @property
  def latest_checkpoint(self) -> str | None:
    """The path of the newest checkpoint, without an ending; None: of none."""
    return self._manager and self._manager.latest_checkpoint

  @property
  def checkpoints(self) -> list[str]:
    """The paths of the checkpoints, oldest first."""
    return self._manager.checkpoints if self._manager else []

  def save(self, checkpoint_number: int) -> None:
    """Saves a checkpoint; returns when the disk has it.

    Args:
      checkpoint_number: The number of the last step.

    Raises:
      StorageError: the disk does not take it. Nothing is left of it then.
    """
    step = checkpoint_number
    assert self._manager is not None
    self._run.check_there()
    try:
      with storage.explained(self._folder):
        self._manager.save(checkpoint_number=step)
        self._write_record(step)
    except BaseException:
      self._run.check_there()
      self._remove(lambda name: name.startswith(f'{_PREFIX}-{step}'))
      raise
    # Those of checkpoints that the manager has removed.
    steps = self._steps()
    self._remove(
      lambda name: bool(_FILE.fullmatch(name)) and _step_of(name) not in steps
    )

  def _write_record(self, step: int) -> None:
    own = os.path.basename(self._record_path(step))
    files = [name for name in self._names(step) if name != own]
    for name in (*files, _STATE):
      storage.sync(os.path.join(self._folder, name))
    digests = {
      name: run_dir.digest(os.path.join(self._folder, name)) for name in files
    }
    record = {'step': step, 'files': digests, 'logged': self.describe_log()}
    with storage.replacing(self._record_path(step)) as path:
      with open(path, 'w', encoding='utf-8') as file:
        file.write(json_files.to_json(record))

  def _set_damaged_aside(self) -> bool:
    """Renames newest checkpoints until one is whole; tells whether it did."""
    for scrap in filter(_SCRAP.fullmatch, self._listed()):
      _remove(os.path.join(self._folder, scrap))
    damaged = False
    for step in sorted(self._steps(complete=False), reverse=True):
      reason = self._damage(step)
      if not reason:
        break
      names = self._names(step)
      last = [f'{self._path(step)}.index', self._record_path(step)]
      if not any(map(os.path.lexists, last)):
        # The process was killed before the checkpoint was one.
        self._remove(names.__contains__)
        continue
      damaged = True
      asides = [
        os.path.basename(storage.set_aside(os.path.join(self._folder, name)))
        for name in names
      ]
      _print(
        f'{self._path(step)} is damaged ({reason}) and was renamed to '
        f'{", ".join(asides)}'
      )
    return damaged

  def _damage(self, step: int) -> str:
    """Returns what is wrong with a checkpoint; '' if it is whole."""
    record = self._record(step)
    names = self._names(step)
    if not any(name.endswith('.index') for name in names):
      return 'its index is missing'
    if not any('.data-' in name for name in names):
      return 'its data are missing'
    if record is None:
      # Of an earlier version, or the process was killed before the record.
      return _unreadable(self._path(step))
    for name, expected in record['files'].items():
      path = os.path.join(self._folder, name)
      if not os.path.isfile(path):
        return f'{name} is missing'
      if run_dir.digest(path) != expected:
        return f'{name} has another checksum'
    return ''

  def _record(self, step: int) -> dict[str, Any] | None:
    """Returns the record of a checkpoint; None if it has none that is one."""
    record = None
    with contextlib.suppress(errors.UsageError):
      record = json_files.load(self._record_path(step), dict)
    if (
      record is not None
      and record.get('step') == step
      and json_files.fits(record, _RECORD, whole=True)
      and all(
        row is None or json_files.is_row(row)
        for row in (record['logged'].get(name) for name in ('last', 'best'))
      )
    ):
      return record
    return None

  def _repair_state(self, steps: list[int]) -> None:
    """Has TensorFlow's state file name the checkpoints that are there."""
    path = os.path.join(self._folder, _STATE)
    if os.path.isdir(path):
      storage.say_damaged(path, 'it is written again')
    if not steps:
      with contextlib.suppress(FileNotFoundError):
        os.remove(path)
      return
    paths = [self._path(step) for step in steps]
    state = None
    with contextlib.suppress(Exception):  # It is not text, or not its format.
      state = tf.train.get_checkpoint_state(self._folder)
    if state is None or list(state.all_model_checkpoint_paths) != paths:
      if state is None:
        what = 'damaged' if os.path.exists(path) else 'missing'
        _print(f'{path} is {what}; it is written again from its neighbours')
      tf.compat.v1.train.update_checkpoint_state(
        self._folder, paths[-1], all_model_checkpoint_paths=paths
      )

  def _steps(self, *, complete: bool = True) -> set[int]:
    """Returns the steps that files are of; complete: that have an index."""
    return {
      _step_of(name)
      for name in self._listed()
      if _FILE.fullmatch(name) and (not complete or name.endswith('.index'))
    }

  def _names(self, step: int) -> list[str]:
    """Returns the files of a checkpoint."""
    return [
      name
      for name in self._listed()
      if _FILE.fullmatch(name) and _step_of(name) == step
    ]

  def _listed(self) -> list[str]:
    try:
      return sorted(os.listdir(self._folder))
    except FileNotFoundError:
      return []

  def _remove(self, which: Callable[[str], bool]) -> None:
    for name in filter(which, self._listed()):
      _remove(os.path.join(self._folder, name))

  def _path(self, step: int) -> str:
    return os.path.join(self._folder, f'{_PREFIX}-{step}')

  def _record_path(self, step: int) -> str:
    return f'{self._path(step)}.json'


def _step_of(name: str) -> int:
  match = _FILE.fullmatch(name)
  return int(match[1]) if match else -1


def _unreadable(path: str) -> str:
  """Returns why TensorFlow cannot read a checkpoint; '' if it can.

  All of it is read, since its checksums are compared value by value.
  """
  try:
    reader = tf.train.load_checkpoint(path)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)
  except Exception as error:  # Of many classes, down to Python's own.
    return errors.first_line(error)
  return ''


def _restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
  """Restores a checkpoint, whole.

  Raises:
    UsageError: it does not hold all that the run's steps move.
  """
  try:
    checkpoint.restore(path).assert_consumed()
  except (AssertionError, ValueError) as error:
    raise errors.UsageError(
      f'{path} lacks a part of the state of this run, since another version of '
      'this program or of Keras wrote it; continuing from it would give other '
      'results: give another --workdir'
    ) from error


def _remove(path: str) -> None:
  if os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path, ignore_errors=True)
  else:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
