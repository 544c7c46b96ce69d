"""What a run keeps of its training: rows, TensorBoard's log, pictures."""

import hashlib
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import json_files, run_dir
from ft_tf.training import tensorboard

_BY = 'validation_accuracy'  # of which the best row is told


class Monitor:
  """Writes the rows of one run to its folder."""

  def __init__(
    self,
    run: run_dir.RunDir,
    *,
    method: str,
    step: int,
    steps: int,
    logged: Mapping[str, Any] | None = None,
  ):
    """Goes on from a step; rows logged after it are dropped.

    Args:
      run: The claimed run folder.
      method: What the run's result calls its method.
      step: The step that the run continues from.
      steps: The step that it ends at.
      logged: The value of `describe_log` at that step; None: it is not known.
        Rows that are lost are missed by it, which is said, and those that the
        result needs are put back.
    """
    known = [
      row for name in ('best', 'last') if (row := (logged or {}).get(name))
    ]
    there = [row for row in run.metrics() if row['step'] <= step]
    rows = run.rewind_metrics(step, known)
    self._run = run
    self._steps = steps
    self._before = (rows[-1].get('wall_seconds') if rows else None) or 0.0
    self._start = time.monotonic()
    self._count = 0
    self._hash = hashlib.sha256()
    self._last: dict[str, Any] | None = None
    self._best: dict[str, Any] | None = None
    _say_lost(run, step, there, rows, logged)
    for row in rows:
      self._note(row)
    self._log = tensorboard.Log(run, step)
    if not step or not self._log.continued:
      self._log.describe(method)

  @property
  def wall_seconds(self) -> float:
    """Returns the seconds of this run, over all the times it was continued."""
    return self._before + time.monotonic() - self._start

  @property
  def last_step(self) -> int:
    """Returns the step of the last row; 0: there is none."""
    return self._last['step'] if self._last else 0

  def describe_log(self) -> dict[str, Any]:
    """Returns what a checkpoint records of the rows up to now, as JSON.

    Their number and SHA-256, the last, and the first with the best accuracy on
    the validation images, which is that of the kept weights.
    """
    return {
      'rows': self._count,
      'sha256': self._hash.hexdigest(),
      'last': self._last,
      'best': self._best,
    }

  def row(self, values: dict[str, Any]) -> None:
    """Logs one row: `step`, `epoch` and figures by name."""
    values = {**values, 'wall_seconds': round(self.wall_seconds, 3)}
    self._run.append_metrics(values)
    self._note(values)
    self._log.row(values)

  def _note(self, row: dict[str, Any]) -> None:
    """Takes a row that was written into what is recorded of them."""
    self._count += 1
    self._hash.update(json_files.to_json(row).encode())
    self._last = row
    best = (self._best or {}).get(_BY, -1.0)
    if (row.get(_BY) or -1.0) > best:
      self._best = row

  def pictures(self, step: int, image: np.ndarray) -> None:
    """Logs one picture, `[H, W, 3]` uint8: TensorBoard's `maps`, and a file."""
    self._run.write_picture(step, tf.io.encode_png(image).numpy())
    self._log.maps(step, image)

  def close(self, result: dict[str, Any] | None = None) -> None:
    """Ends the log; a result goes into it as test figures."""
    self._log.close(self._steps, result)


def _say_lost(
  run: run_dir.RunDir,
  step: int,
  there: list[dict[str, Any]],
  rows: list[dict[str, Any]],
  logged: Mapping[str, Any] | None,
) -> None:
  """Says if rows up to a step are missing, or are not those that were logged.

  Args:
    run: The run.
    step: The step that it continues from.
    there: The rows up to it that its file had.
    rows: Those, and what the checkpoint knows of the others.
    logged: As of `Monitor`.
  """
  path = f'{run.path}/metrics.jsonl'
  if logged is None:
    last = rows[-1]['step'] if rows else 0
    if last < step:
      _print(
        f'{path} ends at step {last}, before the checkpoint of step {step}: '
        'rows between may be lost; weights and result are not affected'
      )
    return
  missing = logged['rows'] - len(there)
  if missing > 0:
    _print(
      f'{path}: {missing} of {logged["rows"]} rows before step {step} are '
      'lost; weights and result are not affected'
    )
  elif _hash(there[: logged['rows']]) != logged['sha256']:
    _print(
      f'{path} was changed before step {step}: its curves are not those of the '
      'training; weights and result are not affected'
    )


def _hash(rows: list[dict[str, Any]]) -> str:
  text = ''.join(map(json_files.to_json, rows))
  return hashlib.sha256(text.encode()).hexdigest()


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
