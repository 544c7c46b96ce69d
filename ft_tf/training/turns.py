"""Steps in calls of the compiled loop that take no longer than seconds."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import interrupts
from ft_tf.data import stores
from ft_tf.training import cluster, pending
from ft_tf.training import step as steps

# What a call may take: so long a signal waits. The number of steps per call
# changes nothing but the time.
_CALL_SECONDS = 2.0


class Turn:
  """Runs steps and times them; the very first, which compiles, apart."""

  def __init__(
    self,
    train_steps: steps.Steps,
    batches: Iterable[Any],
    compiled: Callable[[], None],
  ):
    """Runs nothing yet.

    Args:
      train_steps: As of `loop.Training`.
      batches: The iterator of the distributed batches.
      compiled: Is called after the step that compiles.
    """
    self._train_steps = train_steps
    self._batches = batches
    self._tell_compiled = compiled
    self._compiled = False
    self._step_seconds = _CALL_SECONDS  # until it has been measured

  def __call__(
    self, most: int
  ) -> tuple[dict[str, np.ndarray], pending.Time, bool]:
    """Runs steps, in one call of the compiled loop.

    Args:
      most: How many; fewer if one call of them would take too long.

    Returns:
      Each term by step, what the steps took, and whether it is the one step
      that compiles.

    Raises:
      Stopped: by a signal while it compiles.
    """
    if not self._compiled:
      with interrupts.deferred(False):
        terms, taken = self._run(1)
      self._compiled = True
      self._tell_compiled()
      return terms, taken, True
    fitting = max(int(_CALL_SECONDS / self._step_seconds), 1)
    terms, taken = self._run(cluster.least(min(most, fitting)))
    self._step_seconds = taken.seconds / taken.steps
    return terms, taken, False

  def _run(self, count):
    start = time.monotonic()
    with stores.explained():  # Files may have changed.
      terms = self._train_steps(self._batches, tf.constant(count))
    terms = {name: values.numpy() for name, values in terms.items()}
    seconds = time.monotonic() - start
    waited = float(terms.pop(steps.INPUT_WAIT).sum())
    return terms, pending.Time(count, seconds, waited)
