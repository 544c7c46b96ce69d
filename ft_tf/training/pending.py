"""The steps since the last row of metrics, kept with a checkpoint between rows.

A run that is stopped leaves a checkpoint at the step it has reached. The row
that was under way has the means over all of its steps, so that those it had
done are kept in a file of the checkpoint, and the row of a resumed run is
that of one that was never stopped.
"""

from __future__ import annotations

import math
import operator
import os
from typing import NamedTuple

import numpy as np

from ft_tf import json_files, run_dir
from ft_tf.training import restoring


class Time(NamedTuple):
  """What steps took.

  Attributes:
    steps: How many they are.
    seconds: Their time.
    waited: How much of it they waited for their batches; NaN: it is not known.
  """

  steps: int = 0
  seconds: float = 0.0
  waited: float = 0.0


class Pending:
  """What the next row is made of.

  Attributes:
    first: The step of the row before; 0: there is none.
    step: The step that is reached.
  """

  def __init__(self, first: int):
    self.first = self.step = first
    self._terms: dict[str, np.ndarray] = {}
    self._time = Time()
    self._compiling: Time | None = None

  def add(
    self, terms: dict[str, np.ndarray], time: Time, *, compiles: bool = False
  ) -> None:
    """Takes steps that are done.

    Args:
      terms: Each loss term by step, `[count]` float32.
      time: What they took.
      compiles: Whether it is the one step that compiles, whose time tells
        nothing about the others'.
    """
    self._terms = {
      name: np.concatenate([self._terms.get(name, values[:0]), values])
      for name, values in terms.items()
    }
    self.step += time.steps
    if compiles:
      self._compiling = time
    else:
      self._time = Time(*map(operator.add, self._time, time))

  def means(self) -> dict[str, float]:
    """Returns each term's mean over the steps."""
    return {name: float(values.mean()) for name, values in self._terms.items()}

  def speed(self, batch_size: int) -> dict[str, float]:
    """Returns the figures of the steps' speed.

    They are `images_per_second`, `input_wait`, the share of the time spent
    waiting for a batch, if that is known, and `compile_seconds` if one of the
    steps compiled.
    """
    # That of the step that compiles counts in a row of no other step.
    time = self._time if self._time.steps else self._compiling or Time()
    figures = {'images_per_second': time.steps * batch_size / time.seconds}
    if not math.isnan(time.waited):
      figures['input_wait'] = time.waited / time.seconds
    if self._compiling is not None:
      figures['compile_seconds'] = round(self._compiling.seconds, 3)
    return figures

  def save(self, run: run_dir.RunDir) -> None:
    """Writes the file for the checkpoint of this step; of no steps: none."""
    if self.step == self.first:
      return
    os.makedirs(run.checkpoints, exist_ok=True)
    run.write(
      restoring.pending_file(self.step),
      {
        'first': self.first,
        'terms': {name: v.tolist() for name, v in self._terms.items()},
        'time': self._time,
        'compiling': self._compiling,
      },
      indent=None,
    )


@json_files.explains
def load(run: run_dir.RunDir, step: int) -> Pending:
  """Returns what a checkpoint's next row has of the steps before it.

  Args:
    run: The claimed folder, with the rows up to the checkpoint.
    step: The checkpoint's.
  """
  rows = run.metrics()
  last = rows[-1]['step'] if rows else 0
  written = run.read(restoring.pending_file(step))
  # If the row was written after all, there are no steps before it.
  if written is None or written['first'] != last:
    return Pending(step)
  pending = Pending(last)
  pending.step = step
  pending._terms = {
    name: np.array(values, np.float32)
    for name, values in written['terms'].items()
  }
  pending._time = _read_time(written['time'])
  if written['compiling'] is not None:
    pending._compiling = _read_time(written['compiling'])
  return pending


def _read_time(values: tuple[int, float, float | None]) -> Time:
  """Returns the time that JSON has, in which NaN is null."""
  steps, seconds, waited = values
  return Time(steps, seconds, math.nan if waited is None else waited)
