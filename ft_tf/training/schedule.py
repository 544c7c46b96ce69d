"""The learning rate of a stage by step."""

import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ft_tf import recipes


@keras.saving.register_keras_serializable('ft_tf')
class Rate(keras.optimizers.schedules.LearningRateSchedule):
  """A rate that warms up linearly, then drops at steps or falls as a cosine."""

  def __init__(
    self,
    learning_rate: float,
    *,
    drop_steps: tuple[int, ...] = (),
    drop_factor: float = 0.1,
    warmup_steps: int = 0,
    cosine_steps: int = 0,
  ):
    """Makes the schedule.

    Args:
      learning_rate: The rate before the first drop.
      drop_steps: From each of these steps on (from 0), one drop more holds.
      drop_factor: What a drop multiplies the rate by.
      warmup_steps: Step s < warmup_steps runs at (s + 1) / warmup_steps of
        the rate.
      cosine_steps: Steps from the end of the warm-up to rate 0, on a cosine; 0
        for none.
    """
    super().__init__()
    self.learning_rate = learning_rate
    self.drop_steps = tuple(drop_steps)
    self.drop_factor = drop_factor
    self.warmup_steps = warmup_steps
    self.cosine_steps = cosine_steps

  def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
    step = ops.cast(step, 'float32')
    rate = ops.convert_to_tensor(self.learning_rate, 'float32')
    for drop in self.drop_steps:
      rate = ops.where(step >= drop, rate * self.drop_factor, rate)
    if self.cosine_steps:
      done = (step - self.warmup_steps) / self.cosine_steps
      rate = rate * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0))) / 2
    if self.warmup_steps:
      rate = rate * ops.minimum((step + 1) / self.warmup_steps, 1.0)
    return rate

  def get_config(self) -> dict[str, Any]:
    return {
      'learning_rate': self.learning_rate,
      'drop_steps': self.drop_steps,
      'drop_factor': self.drop_factor,
      'warmup_steps': self.warmup_steps,
      'cosine_steps': self.cosine_steps,
    }


def by_step(stage: recipes.Optimization, steps_per_epoch: float) -> Rate:
  """Returns a stage's learning rate by step."""

  def steps(epochs):
    return round(epochs * steps_per_epoch)

  if stage.decay == 'cosine':
    cosine = max(steps(stage.epochs) - steps(stage.warmup_epochs), 1)
    fall: dict[str, Any] = {'cosine_steps': cosine}
  else:
    fall = {
      'drop_steps': tuple(steps(epoch) for epoch in stage.drop_epochs),
      'drop_factor': stage.drop_factor,
    }
  return Rate(
    stage.learning_rate, warmup_steps=steps(stage.warmup_epochs), **fall
  )
