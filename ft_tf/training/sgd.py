"""SGD as the paper's public code has it, and its learning rate."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from ft_tf import recipes
from ft_tf.models import graph


@keras.saving.register_keras_serializable('ft_tf')
class CoupledSGD(keras.optimizers.Optimizer):
  """SGD with momentum and coupled L2, in PyTorch's form.

  v <- momentum * v + (gradient + weight_decay * w);  w <- w - rate * v

  Keras's own SGD keeps the rate inside v, so that the two differ after a drop
  of the rate, and decays weights decoupled from the momentum. The decay is of
  every variable, biases and batch norm included, or of kernels alone.
  """

  def __init__(
    self,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    momentum: float,
    coupled_weight_decay: float,
    weight_decay_on: str = 'all',
    name: str = 'coupled_sgd',
    **kwargs: Any,
  ):
    """Makes the optimizer.

    Args:
      learning_rate: The rate, or a schedule of it.
      momentum: Of the update.
      coupled_weight_decay: Of what decays.
      weight_decay_on: What decays: 'all' variables; or 'kernels', which are the
        variables of 2 dimensions and more.
      name: As of Keras's optimizers.
      **kwargs: Likewise.
    """
    super().__init__(learning_rate=learning_rate, name=name, **kwargs)
    self.momentum = momentum
    self.coupled_weight_decay = coupled_weight_decay
    self.weight_decay_on = weight_decay_on

  def build(self, variables: Sequence[keras.Variable]) -> None:
    if self.built:
      return
    super().build(variables)
    self._velocities = [
      self.add_variable_from_reference(variable, name='velocity')
      for variable in variables
    ]
    decays_all = self.weight_decay_on == 'all'
    self._decays = tuple(
      self.coupled_weight_decay * (decays_all or len(variable.shape) > 1)
      for variable in variables
    )

  def update_step(
    self,
    gradient: tf.Tensor,
    variable: keras.Variable | tf.Variable,
    learning_rate: tf.Tensor,
  ) -> None:
    index = graph.variable_index(self, variable)
    velocity = self._velocities[index]
    if isinstance(variable, keras.Variable):
      variable = variable.value
    tf.raw_ops.ResourceApplyMomentum(
      var=variable.handle,
      accum=velocity.value.handle,
      lr=tf.cast(learning_rate, variable.dtype),
      grad=tf.cast(gradient, variable.dtype) + self.decay_of(index) * variable,
      momentum=self.momentum,
      use_nesterov=False,
    )

  def decay_of(self, index: int) -> float:
    """Returns the weight decay of the variable at a place among all."""
    return self._decays[index]

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      'momentum': self.momentum,
      'coupled_weight_decay': self.coupled_weight_decay,
      'weight_decay_on': self.weight_decay_on,
    }


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


def make(
  stage: recipes.Optimization,
  steps_per_epoch: float,
  precision: str = 'float32',
) -> tuple[keras.optimizers.Optimizer, Rate]:
  """Returns a stage's optimizer and its learning rate by step.

  In 'mixed_float16' the optimizer scales the loss, since small gradients vanish
  in float16, and passes over a step whose gradients overflow.
  """

  def steps(epochs):
    return round(epochs * steps_per_epoch)

  if stage.decay == 'cosine':
    cosine = max(steps(stage.epochs) - steps(stage.warmup_epochs), 1)
    fall = {'cosine_steps': cosine}
  else:
    fall = {
      'drop_steps': tuple(steps(epoch) for epoch in stage.drop_epochs),
      'drop_factor': stage.drop_factor,
    }
  rate = Rate(
    stage.learning_rate, warmup_steps=steps(stage.warmup_epochs), **fall
  )
  optimizer = CoupledSGD(
    rate,
    momentum=stage.momentum,
    coupled_weight_decay=stage.weight_decay,
    weight_decay_on=stage.weight_decay_on,
  )
  if precision == 'mixed_float16':
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
  return optimizer, rate
