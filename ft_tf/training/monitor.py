"""What a run keeps of its training: rows, TensorBoard's log, pictures."""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import run_dir
from ft_tf.training import tensorboard


class Monitor:
  """Writes the rows of one run to its folder."""

  def __init__(
    self, run: run_dir.RunDir, *, method: str, step: int, steps: int
  ):
    """Goes on from a step; rows logged after it are dropped.

    Args:
      run: The claimed run folder.
      method: What the run's result calls its method.
      step: The step that the run continues from.
      steps: The step that it ends at.
    """
    rows = run.rewind_metrics(step)
    self._run = run
    self._steps = steps
    self._before = rows[-1]['wall_seconds'] if rows else 0.0
    self._start = time.monotonic()
    self._log = tensorboard.Log(run)
    if not step:
      self._log.describe(method)

  @property
  def wall_seconds(self) -> float:
    """Returns the seconds of this run, over all the times it was continued."""
    return self._before + time.monotonic() - self._start

  def row(self, values: dict[str, Any]) -> None:
    """Logs one row: `step`, `epoch` and figures by name."""
    values = {**values, 'wall_seconds': round(self.wall_seconds, 3)}
    self._run.append_metrics(values)
    self._log.row(values)

  def pictures(self, step: int, image: np.ndarray) -> None:
    """Logs one picture, `[H, W, 3]` uint8: TensorBoard's `maps`, and a file."""
    self._run.write_picture(step, tf.io.encode_png(image).numpy())
    self._log.maps(step, image)

  def close(self, result: dict[str, Any] | None = None) -> None:
    """Ends the log; a result goes into it as test figures."""
    self._log.close(self._steps, result)
