"""When the loop writes checkpoints, and what a stopped run is told by."""

import time

import tensorflow as tf

from ft_tf import errors, interrupts, run_dir
from ft_tf.training import cluster, pending, restoring


class Kept:
  """The checkpoints of a run, whose newest has been restored.

  Attributes:
    step: That of the newest; 0: there is none.
  """

  def __init__(
    self,
    checkpoint: tf.train.Checkpoint,
    manager: restoring.Checkpoints,
    run: run_dir.RunDir,
    batch_size: int,
    images_per_epoch: int,
  ):
    """Takes the checkpoint as it was restored.

    Args:
      checkpoint: With `step`, `epoch` and the run's state.
      manager: The run's checkpoints.
      run: The claimed run folder.
      batch_size: Images per step.
      images_per_epoch: Images per epoch.
    """
    self._checkpoint = checkpoint
    self._manager = manager
    self._run = run
    self._batch_size = batch_size
    self._images_per_epoch = images_per_epoch
    self.step = int(checkpoint.step)
    self._saved = time.monotonic()

  @property
  def newest(self) -> str | None:
    """The path of the newest checkpoint."""
    return self._manager.latest_checkpoint

  def save(self, since: pending.Pending) -> None:
    """Writes a checkpoint of the step that is reached, and what goes with it.

    Args:
      since: The step, and those since the last row.
    """
    self._saved = time.monotonic()
    # First: without it the checkpoint's next row would lack these steps.
    since.save(self._run)
    if since.step != self.step or not self.newest:
      self.step = since.step
      self._checkpoint.step.assign(self.step)
      self._checkpoint.epoch.assign(self._epoch())
      self._manager.save(checkpoint_number=self.step)
    pending.sweep(self._run, self._manager.checkpoints)

  def save_if_due(
    self, since: pending.Pending, total: int, minutes: float
  ) -> None:
    """Writes a checkpoint between rows if the time for one has come.

    Args:
      since: As of `save`.
      total: The steps of the whole run.
      minutes: The time between checkpoints.

    Raises:
      Stopped: a signal has come.
      WorkerError: it has come to another worker.
    """
    passed = (time.monotonic() - self._saved) / 60
    stops = cluster.any_of(interrupts.requested())
    if passed >= minutes or stops:
      self.save(since)
    if interrupts.requested():
      raise self.describe(total)
    if stops:
      raise errors.WorkerError(
        f'a signal has stopped another worker {self._place(total)}; the same '
        'command on all workers continues from there'
      )

  def describe(self, total: int) -> interrupts.Stopped:
    """Returns what tells where a stopped run stands.

    Args:
      total: The steps of the whole run.
    """
    return interrupts.stopped(self._place(total))

  def _place(self, total: int) -> str:
    place = f'at step {self.step:,} of {total:,} (epoch {self._epoch():.2f})'
    # Another worker's folder is a temporary one.
    return f'{place} in {self._run.path}' if cluster.is_chief() else place

  def _epoch(self) -> float:
    return self.step * self._batch_size / self._images_per_epoch
