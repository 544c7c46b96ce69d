"""The loop under every stage: batches, compiled steps, rows, checkpoints.

A stage hands over its compiled steps and what they change; the loop restores
the newest checkpoint, runs on from its step, and leaves a checkpoint at the
end. Everything a step does follows from its number, so a run that was cut off
ends where one that was not does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors, interrupts, recipes, run_dir
from ft_tf.data import example_sets, views
from ft_tf.progress import reporter
from ft_tf.training import (
  averaging,
  keeping,
  monitor,
  pending,
  restoring,
  turns,
)
from ft_tf.training import step as steps
from ft_tf.training import strategy as devices

_MOST_MINUTES = 7 * 24 * 60
_MOST_STEPS = 10**9


@dataclasses.dataclass(frozen=True)
class Options:
  """How a run is watched and computed, which is no part of its identity.

  Attributes:
    log_steps: Steps between rows of metrics, and at most per call of the
      compiled loop.
    checkpoint_steps: Steps between checkpoints.
    checkpoint_minutes: Minutes after which there is one before that; both are
      at most what a kill costs.
    progress: What is shown on standard error, one of `reporter.MODES`.
    jit: Whether XLA compiles the steps: 'on', 'off', or 'auto', which is on for
      GPUs. On CPUs it is slower than TensorFlow's own kernels.
    deterministic: Whether this process computes by TensorFlow's deterministic
      operations alone, from the first stage on.
  """

  log_steps: int = 20
  checkpoint_steps: int = 200
  checkpoint_minutes: float = 5.0
  progress: str = 'auto'
  jit: str = 'auto'
  deterministic: bool = False

  def __post_init__(self) -> None:
    for name in ('log_steps', 'checkpoint_steps'):
      if not 1 <= getattr(self, name) <= _MOST_STEPS:
        raise errors.UsageError(
          f'--{name}={getattr(self, name)}: give 1 or more, at most '
          f'{_MOST_STEPS}'
        )
    if not 0 < self.checkpoint_minutes <= _MOST_MINUTES:
      raise errors.UsageError(
        f'--checkpoint_minutes={self.checkpoint_minutes}: give more than 0 and '
        f'at most {_MOST_MINUTES}'
      )
    reporter.check_mode(self.progress)
    if self.jit not in ('auto', 'on', 'off'):
      raise errors.UsageError(f'--jit={self.jit}: give auto, on or off')

  def compiles_by_xla(self, recipe: recipes.Recipe) -> bool:
    """Tells whether XLA compiles the steps on these devices.

    Raises:
      UsageError: batch norm is synchronised over replicas, which XLA cannot
        compile, and `jit` is 'on'.
    """
    if recipe.sync_batch_norm and self.jit == 'on':
      raise errors.UsageError(
        '--jit=on does not go with --sync_batch_norm: give --jit=off'
      )
    if self.jit == 'auto':
      gpus = tf.config.list_physical_devices('GPU')
      return bool(gpus) and not recipe.sync_batch_norm
    return self.jit == 'on'


@dataclasses.dataclass(frozen=True)
class Training:
  """What the loop needs of a training.

  Attributes:
    method: What the run's result calls its method.
    epochs: Epochs of training.
    examples: What it trains on.
    labels: Whether its steps read labels.
    images_per_epoch: An epoch is as many steps as so many images make; None:
      as the examples make.
    signals: The teacher's, if batches are to carry them.
    train_steps: `(iterator, count)` to `{term: [count]}`: runs that many steps
      and returns each loss term, the mean over the global batch, by step.
    state: What a checkpoint holds, by name: models and the optimizer, built.
    average: That of the models' weights, if one is kept. It is what is
      evaluated and shown in their place, and what the models have at the end.
    rate: The learning rate by step.
    evaluate: Returns the figures of the validation images, by name.
    pictures: Returns maps to look at, `[H, W, 3]` uint8, or None.
    keep_best: Keeps the weights as they are: no epoch's validation accuracy was
      higher so far.
    precision: Keras's dtype policy that the steps compute in.
    teacher: The teacher's file; '' if there is none.
    teacher_terms: The names of the terms that are computed from the teacher's
      outputs.
  """

  method: str
  epochs: int
  examples: example_sets.AnyExamples
  labels: bool
  train_steps: steps.Steps
  state: dict[str, Any]
  rate: Callable[[int], Any]
  evaluate: Callable[[], dict[str, float]]
  pictures: Callable[[], np.ndarray | None]
  images_per_epoch: int | None = None
  signals: views.Signals | views.Computed | None = None
  keep_best: Callable[[], None] = lambda: None
  precision: str = 'float32'
  teacher: str = ''
  teacher_terms: tuple[str, ...] = ()
  average: averaging.Average | None = None

  def to_evaluate(self) -> contextlib.AbstractContextManager[None]:
    """Has in the models, in a block, the weights that are evaluated."""
    if self.average is None:
      return contextlib.nullcontext()
    return self.average.in_models()


def run(
  training: Training,
  *,
  data: recipes.Data,
  seed: int,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: Options,
  part: reporter.Running,
) -> monitor.Monitor:
  """Trains a stage to its end, from its newest checkpoint if there is one.

  Args:
    training: What is trained, everything built under the strategy's scope.
    data: Batch size and augmentation.
    seed: Order of the examples.
    run: The claimed run folder.
    strategy: The devices.
    options: Intervals.
    part: What the run reports to.

  Returns:
    The run's monitor, to be closed with the result. The models have the weights
    that are evaluated.

  Raises:
    UsageError: the newest checkpoint lacks a part of the run's state.
    TrainingError: a loss term is not finite, or an image has changed. The last
      checkpoint is from before.
    Stopped: by a signal; there is a checkpoint of the step that it names.
  """
  count = training.images_per_epoch or len(training.examples)
  batch = data.batch_size
  total = views.count_steps(count, batch_size=batch, epochs=training.epochs)
  checkpoint, manager = _restored(training, data, seed, run)
  kept = keeping.Kept(checkpoint, manager, run, batch, count)
  # Drops the rows after the checkpoint: they are logged again.
  watch = monitor.Monitor(
    run,
    method=training.method,
    step=kept.step,
    steps=total,
    logged=manager.logged,
  )
  manager.describe_log = watch.describe_log
  part.start(step=kept.step, steps=total, epochs=training.epochs)
  best = max((_accuracy(row) for row in run.metrics()), default=-1.0)
  stream = functools.partial(
    views.stream,
    training.examples,
    data,
    seed=seed,
    first_step=kept.step,
    last_step=total,
    labels=training.labels,
    signals=training.signals,
  )
  batches = iter(devices.distribute(strategy, stream, batch))
  turn = turns.Turn(training.train_steps, batches, part.compiled)
  since = pending.load(run, kept.step)
  if since.first == total and watch.last_step != total:
    # Its row was lost, of which the result is made.
    with training.to_evaluate():
      watch.row(
        {'step': total, 'epoch': total * batch / count, **training.evaluate()}
      )
  with interrupts.deferred():
    while since.first < total:
      epoch_end = views.count_steps(
        count,
        batch_size=batch,
        epochs=math.floor(since.first * batch / count) + 1,
      )
      # A row is of the steps to whatever comes first.
      after = min(
        total,
        epoch_end if epoch_end > since.first else since.first + 1,
        _next_multiple(since.first, options.log_steps),
        _next_multiple(since.first, options.checkpoint_steps),
      )
      # Those of a run that had longer rows may be more.
      after = max(after, since.step)
      while since.step < after:
        try:
          terms, time, compiles = turn(after - since.step)
        except interrupts.Stopped as stop:
          # While it compiled: what is on disk is as far as the run has come.
          raise kept.describe(total) from stop
        _check_finite(training, terms, since.step, kept.newest)
        since.add(terms, time, compiles=compiles)
        part.stepped(since.step)
        kept.save_if_due(since, total, options.checkpoint_minutes)
      row = {
        'step': after,
        'epoch': after * batch / count,
        **since.means(),
        'learning_rate': float(training.rate(after - 1)),
        **since.speed(batch),
      }
      ends_epoch = after in (epoch_end, total)
      if ends_epoch:
        part.status('validating')
        try:
          with training.to_evaluate(), interrupts.deferred(False):
            row |= training.evaluate()
            if _accuracy(row) > best:
              best = _accuracy(row)
              training.keep_best()
            picture = training.pictures()
        except interrupts.Stopped as stop:
          # The run continues with the validation.
          kept.save(since)
          raise kept.describe(total) from stop
        if picture is not None:
          watch.pictures(after, picture)
      # The row comes before its checkpoint: a kill in between logs it again,
      # while the other order would lose it.
      watch.row(row)
      part.row(row, ends_epoch=ends_epoch)
      since = pending.Pending(after)
      if after == total:
        part.status('saving')
      if after % options.checkpoint_steps == 0 or after == total:
        kept.save(since)
  if training.average is not None:
    training.average.put()
  return watch


def _restored(
  training: Training, data: recipes.Data, seed: int, run: run_dir.RunDir
) -> tuple[tf.train.Checkpoint, restoring.Checkpoints]:
  """Returns what is checkpointed, as the newest whole checkpoint has it.

  Raises:
    UsageError: the checkpoint lacks a part of the run's state.
  """
  checkpoint = tf.train.Checkpoint(
    step=tf.Variable(0, dtype=tf.int64),
    epoch=tf.Variable(0.0, dtype=tf.float64),
    seed=tf.Variable(seed, dtype=tf.int64),
    view_seed=tf.Variable(data.view_seed, dtype=tf.int64),
    **training.state,
    **_random_states(training.state),
    **({} if training.average is None else {'average': training.average.state}),
  )
  manager = restoring.Checkpoints(checkpoint, run)
  manager.restore()
  return checkpoint, manager


def _random_states(state: dict[str, Any]) -> dict[str, list[tf.Variable]]:
  """Returns what random layers, such as dropout, draw from, to be checkpointed.

  TensorFlow's checkpoints follow a Keras model to its weights alone.
  """
  models = [m for m in tf.nest.flatten(state) if isinstance(m, keras.Layer)]
  weights = {id(weight) for model in models for weight in model.weights}
  states = [
    variable.value
    for model in models
    for variable in model.variables
    if id(variable) not in weights
  ]
  return {'random_states': states} if states else {}


def _accuracy(row: Mapping[str, float]) -> float:
  accuracy = row.get('validation_accuracy')
  return -1.0 if accuracy is None else accuracy


def _next_multiple(step: int, interval: int) -> int:
  return (step // interval + 1) * interval


def _check_finite(training, terms, step, last_checkpoint):
  """Raises if a term is not finite, naming its first step and likely cause."""
  first_bad = {
    name: int(np.argmin(np.isfinite(values)))
    for name, values in terms.items()
    if not np.isfinite(values).all()
  }
  if first_bad:
    first = min(first_bad.values())
    bad = [name for name in first_bad if first_bad[name] == first]
    names = ', '.join(f'{name} is {terms[name][first]}' for name in bad)
    raise errors.TrainingError(
      f'{names} at step {step + first + 1}; the last good checkpoint is '
      f'{last_checkpoint or "none"}: {_fix(training, set(bad), step + first)}'
    )


def _fix(training: Training, bad: set[str], updates: int) -> str:
  """Returns what to do about terms that are not finite, by the likely cause.

  Args:
    training: What is trained.
    bad: The names of the terms.
    updates: How many updates of the weights there were before.
  """
  again = 'start again in another --workdir with'
  half = training.precision == 'mixed_float16'
  from_teacher = bad & set(training.teacher_terms)
  if from_teacher and bad <= from_teacher | {'loss'}:
    # The labels' term is finite, and so are the student's logits.
    teacher = f'the teacher {training.teacher}'
    cause = f'the outputs of {teacher} are the likely cause'
    if half:
      return f'{cause}, in float16: {again} --precision=float32'
    if not updates:
      return f'{cause}, since no weight was changed yet: give another teacher'
    return f'{cause}, or the rate: {again} another teacher or learning rate'
  if half:
    return (
      f'float16 ends at 65504, the likely cause: {again} --precision=float32'
    )
  if not updates:
    return (
      'no weight was changed yet, so that the first weights or the values of '
      f'the images are the likely cause: {again} other weights, --mean or --std'
    )
  return f'the likely cause is the rate: {again} a lower learning rate'
