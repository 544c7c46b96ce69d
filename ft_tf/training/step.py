"""The one step under every stage: terms, gradients, update; and many of it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from ft_tf.models import graph
from ft_tf.training import averaging

INPUT_WAIT = 'input_wait'

# From a batch to its loss terms, scalars by name.
Forward = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
# From an iterator of batches and a count to `{term: [count]}`.
Steps = Callable[..., dict[str, tf.Tensor]]


def compile_steps(
  strategy: tf.distribute.Strategy,
  forward: Forward,
  *,
  terms: Iterable[str],
  models: Iterable[keras.Model],
  optimizer: keras.optimizers.Optimizer,
  jit: bool = False,
  average: averaging.Average | None = None,
  generator: keras.random.SeedGenerator | None = None,
) -> Steps:
  """Returns the compiled loop of a stage's steps; see `loop.Training`.

  Args:
    strategy: The devices.
    forward: From a replica's batch to `{term: scalar}`, its share of the global
      mean; the gradients are of 'loss' and what the models add to it: their
      regularizers and `add_loss`. It runs the models in training.
    terms: The names of the terms.
    models: Whose trainable variables the optimizer moves, and whose others
      (batch-norm statistics, states of random layers) the forward pass does.
    optimizer: Built on those trainable variables.
    jit: Whether XLA compiles the terms and their gradients.
    average: That of the models' weights, which each step moves on; None: of
      none.
    generator: Whose seed random operations without one of their own use; None:
      a new one.

  Returns:
    `(iterator, count)` to `{term: [count] float32}`, and with the terms
    `input_wait`, the seconds that each step waited for its batch.
  """
  models = list(models)
  moved = [v for model in models for v in model.trainable_variables]
  others = [v for model in models for v in model.non_trainable_variables]
  replaced: list[keras.Variable] = []  # of those moved, by layers
  generator = generator or keras.random.SeedGenerator()

  def differentiate(values, scale, state, batch):
    """Returns terms, gradients and new values: a pure function."""
    scope = keras.StatelessScope(
      [*zip(moved + others, values, strict=True), (generator.state, state)],
      collect_losses=True,
    )
    watched = values[: len(moved)]
    with scope, graph.drawing_from(generator), tf.GradientTape() as tape:
      tape.watch(watched)
      values_of_terms = forward(batch)
      # A layer may set weights to what it then computes with, as spectral
      # normalisation does; as in Keras, the gradients are of what it has set.
      used = [scope.get_current_value(v) for v in moved]
      own = [*scope.losses, *_regularizations(moved, used)]
      values_of_terms['loss'] += _share(own)
      # Scaled for float16, whose small gradients would vanish; the optimizer
      # divides them again.
      loss = values_of_terms['loss'] * scale
    gradients = tape.gradient(loss, used)
    replaced[:] = [
      v for v, x, y in zip(moved, used, watched, strict=True) if x is not y
    ]
    return (
      values_of_terms,
      gradients,
      [scope.get_current_value(v) for v in others + replaced],
    )

  if jit:
    differentiate = tf.function(differentiate, jit_compile=True)

  def step(batch):
    values = [tf.convert_to_tensor(v.value) for v in moved + others]
    scale = optimizer.scale_loss(tf.constant(1.0))
    number = tf.convert_to_tensor(optimizer.iterations.value)
    # Read here: XLA reaches no variable of another device.
    seed = tf.cast(tf.convert_to_tensor(generator.state.value)[0], number.dtype)
    state = tf.stack([seed, number])
    values_of_terms, gradients, updated = differentiate(
      values, scale, state, batch
    )
    for variable, value in zip(others + replaced, updated, strict=True):
      variable.assign(value)
    optimizer.apply(gradients, moved)
    return values_of_terms

  terms = tuple(terms)

  @tf.function
  def train_steps(iterator, count):
    return repeat(strategy, step, terms, iterator, count, average=average)

  return train_steps


def _regularizations(
  variables: Iterable[keras.Variable], values: Iterable[tf.Tensor]
) -> list[tf.Tensor]:
  """Returns what variables' regularizers add to a loss."""
  return [
    variable.regularizer(value)
    for variable, value in zip(variables, values, strict=True)
    if variable.regularizer is not None
  ]


def _share(losses: Iterable[tf.Tensor]) -> float | tf.Tensor:
  """Returns a replica's share of the models' own losses, as Keras has it."""
  replicas = tf.distribute.get_strategy().num_replicas_in_sync
  return sum(tf.cast(tf.reduce_sum(x), tf.float32) / replicas for x in losses)


def find_correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """Returns 1 where logits `[B, classes]` have the label on top, else 0."""
  correct = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
  return tf.cast(correct, tf.float32)


def repeat(
  strategy: tf.distribute.Strategy,
  step: Callable[[Any], dict[str, tf.Tensor]],
  terms: tuple[str, ...],
  iterator: Iterable[Any],
  count: tf.Tensor,
  *,
  average: averaging.Average | None = None,
) -> dict[str, tf.Tensor]:
  """Runs `step` on `count` global batches; for use inside a `tf.function`.

  Args:
    strategy: The devices.
    step: From a replica's batch to `{term: scalar}`, its share of the global
      mean.
    terms: The names of the terms.
    iterator: Of distributed batches.
    count: Number of steps, an int32 tensor.
    average: Is updated after each step.

  Returns:
    `{term: [count] float32}`, and `input_wait`, `[count]` seconds by `clock`.
  """
  # AutoGraph is for the loop alone. Keras leaves it out of networks too.
  plain = tf.autograph.experimental.do_not_convert(step)
  names = (*terms, INPUT_WAIT)
  rows = tf.TensorArray(tf.float32, size=count, element_shape=[len(names)])
  for i in tf.range(count):
    batch, wait = _next(strategy, iterator)
    values = strategy.run(plain, args=(batch,))
    if average is not None:
      average.update()
    total = [
      strategy.reduce(tf.distribute.ReduceOp.SUM, values[term], axis=None)
      for term in terms
    ]
    rows = rows.write(i, tf.stack([*total, wait]))
  columns = tf.unstack(rows.stack(), num=len(names), axis=1)
  return dict(zip(names, columns, strict=True))


def _next(strategy, iterator):
  """Returns the next batch and the seconds that it took to come."""
  before = clock()
  with tf.control_dependencies([before]):
    batch = next(iterator)
  arrived = [
    tensor
    for each in tf.nest.flatten(batch)
    for tensor in strategy.experimental_local_results(each)
  ]
  with tf.control_dependencies(arrived):
    return batch, tf.cast(clock() - before, tf.float32)


def clock() -> tf.Tensor:
  """Returns the time in seconds, a float64 scalar; for use in compiled steps.

  It is NaN where TensorFlow allows deterministic operations alone: to read a
  clock is none.
  """
  return tf.timestamp() if _has_clock() else tf.constant(math.nan, tf.float64)


@tf.autograph.experimental.do_not_convert
def _has_clock() -> bool:
  with tf.init_scope():
    try:
      tf.timestamp()
    except tf.errors.FailedPreconditionError:
      return False
  return True
