"""An exponential moving average of the weights that a stage trains.

After update t = 0, 1, ... of the weights w:

  d = min(decay, (1 + t) / (10 + t));  average <- average + (1 - d)(w - average)

as `tf.train.ExponentialMovingAverage` has it with a number of updates: d rises
with t, so that the first weights do not stay in the average of a short
training. Training goes on from the weights themselves. Averages of weights:
Polyak and Juditsky, 1992; Tan and Le, "EfficientNet", 2019, by a decay of
0.9999.

Averaged are the trainable variables and the moving statistics of batch norm,
all by the same d, as in EfficientNet's code: at inference the averaged weights
then have an average of the statistics of the same steps. Other state, such as
that of random layers, is not averaged.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from ft_tf.models import graph


class Average:
  """The average of some models' weights, and the weights it is of."""

  def __init__(self, models: Iterable[keras.Model], decay: float):
    """Starts with the weights as they are; call it under the strategy's scope.

    Args:
      models: Built.
      decay: The largest share that the average keeps in an update, 0..1.
    """
    self._decay = decay
    self._averaged = list(_averaged_variables(models))
    self._values = [
      tf.Variable(tf.convert_to_tensor(variable.value), trainable=False)
      for variable in self._averaged
    ]
    self._updates = tf.Variable(0, trainable=False, dtype=tf.int64)

  @property
  def state(self) -> dict[str, Any]:
    """What a checkpoint holds of it."""
    return {'updates': self._updates, 'values': self._values}

  def update(self) -> None:
    """Takes the weights after a step into the average.

    Outside of replicas, eagerly or in a `tf.function`.
    """
    updates = tf.cast(self._updates, tf.float32)
    decay = tf.minimum(self._decay, (1 + updates) / (10 + updates))
    for variable, value in zip(self._averaged, self._values, strict=True):
      weight = tf.convert_to_tensor(variable.value)
      share = tf.cast(1 - decay, weight.dtype)
      # In this form weights that do not move are averaged to themselves.
      value.assign(value + share * (weight - value))
    self._updates.assign_add(1)

  def put(self) -> None:
    """Puts the average into the models, for good."""
    for variable, value in zip(self._averaged, self._values, strict=True):
      variable.assign(tf.convert_to_tensor(value))

  @contextlib.contextmanager
  def in_models(self) -> Iterator[None]:
    """Has the average in the models in a block, the weights again after it."""
    weights = [keras.ops.convert_to_numpy(each) for each in self._averaged]
    self.put()
    try:
      yield
    finally:
      for variable, weight in zip(self._averaged, weights, strict=True):
        variable.assign(weight)


def make(models: Iterable[keras.Model], decay: float) -> Average | None:
  """Returns the average of a stage that a recipe asks for; None: for none.

  Args:
    models: What the stage trains.
    decay: As of `recipes.Classifier.ema`.
  """
  return Average(models, decay) if decay else None


def _averaged_variables(
  models: Iterable[keras.Model],
) -> Iterator[keras.Variable]:
  """Yields the variables that are averaged, each once."""
  seen = set()
  for model in models:
    statistics = [
      variable
      for layer in graph.flat_layers(model)
      if isinstance(layer, keras.layers.BatchNormalization)
      for variable in (layer.moving_mean, layer.moving_variance)
    ]
    for variable in [*model.trainable_variables, *statistics]:
      if id(variable) not in seen:
        seen.add(id(variable))
        yield variable
