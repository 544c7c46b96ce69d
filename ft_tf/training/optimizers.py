"""The optimizers of the stages: the paper's SGD, and AdamW."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ft_tf import recipes
from ft_tf.models import graph
from ft_tf.training import schedule


class _Optimizer(keras.optimizers.Optimizer):
  """What the optimizers share: decay and rate of each variable."""

  def __init__(
    self,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay_on: str = 'all',
    backbone: Iterable[keras.Variable] = (),
    backbone_rate: float = 1.0,
    **kwargs: Any,
  ):
    """Takes the numbers of each optimizer that do not depend on its rule.

    Args:
      learning_rate: The rate, or a schedule of it.
      weight_decay_on: What decays: 'all' variables; or 'kernels', which are the
        variables of 2 dimensions and more.
      backbone: Variables with another rate. The configuration leaves them out.
      backbone_rate: The factor of their rate.
      **kwargs: As of Keras's optimizers.
    """
    super().__init__(learning_rate=learning_rate, **kwargs)
    self.weight_decay_on = weight_decay_on
    self.backbone_rate = backbone_rate
    # Not the variables themselves: Keras takes those for the optimizer's own.
    self._backbone_ids = frozenset(map(id, backbone))
    self._decays: tuple[float, ...] = ()
    self._rate_factors: tuple[float, ...] = ()

  def _settle(self, variables: Sequence[keras.Variable], decay: float) -> None:
    """Settles decay and rate of the variables that it is built on."""
    decays_all = self.weight_decay_on == 'all'
    self._decays = tuple(
      decay * (decays_all or len(variable.shape) > 1) for variable in variables
    )
    self._rate_factors = tuple(
      self.backbone_rate if id(variable) in self._backbone_ids else 1.0
      for variable in variables
    )

  def decay_of(self, index: int) -> float:
    """Returns the weight decay of the variable at a place among all."""
    return self._decays[index]

  def rate_of(self, index: int, learning_rate: tf.Tensor) -> tf.Tensor:
    """Returns the learning rate of the variable at a place among all."""
    factor = self._rate_factors[index]
    return learning_rate if factor == 1 else factor * learning_rate

  def get_config(self) -> dict[str, Any]:
    return {**super().get_config(), 'weight_decay_on': self.weight_decay_on}


@keras.saving.register_keras_serializable('ft_tf')
class CoupledSGD(_Optimizer):
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
    name: str = 'coupled_sgd',
    **kwargs: Any,
  ):
    """Makes the optimizer.

    Args:
      learning_rate: The rate, or a schedule of it.
      momentum: Of the update.
      coupled_weight_decay: Of what decays.
      name: As of Keras's optimizers.
      **kwargs: As of `_Optimizer`.
    """
    super().__init__(learning_rate, name=name, **kwargs)
    self.momentum = momentum
    self.coupled_weight_decay = coupled_weight_decay

  def build(self, variables: Sequence[keras.Variable]) -> None:
    if self.built:
      return
    super().build(variables)
    self._velocities = [
      self.add_variable_from_reference(variable, name='velocity')
      for variable in variables
    ]
    self._settle(variables, self.coupled_weight_decay)

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
      lr=tf.cast(self.rate_of(index, learning_rate), variable.dtype),
      grad=tf.cast(gradient, variable.dtype) + self.decay_of(index) * variable,
      momentum=self.momentum,
      use_nesterov=False,
    )

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      'momentum': self.momentum,
      'coupled_weight_decay': self.coupled_weight_decay,
    }


@keras.saving.register_keras_serializable('ft_tf')
class AdamW(_Optimizer):
  """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

  At step t = 1, 2, ... of a rate that the schedule sets:

    w <- w - rate * weight_decay * w
    m <- beta_1 m + (1 - beta_1) g;  v <- beta_2 v + (1 - beta_2) g^2
    w <- w - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + eps)

  The gradient g has no part of the decay, so that weights of small gradients
  decay no faster than others (algorithm 2 of the paper; eps as of Kingma and
  Ba, 2015, before section 2.1). Keras's optimizer of that name computes the
  same; it has one rate for all variables.
  """

  def __init__(
    self,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    decoupled_weight_decay: float,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
    name: str = 'adamw',
    **kwargs: Any,
  ):
    """Makes the optimizer; the defaults are Keras's.

    Args:
      learning_rate: The rate, or a schedule of it.
      decoupled_weight_decay: Of what decays.
      beta_1: Decay of the mean gradient m.
      beta_2: Decay of the mean squared gradient v.
      epsilon: Added to the root of v.
      name: As of Keras's optimizers.
      **kwargs: As of `_Optimizer`. The backbone decays by its own rate too.
    """
    super().__init__(learning_rate, name=name, **kwargs)
    self.decoupled_weight_decay = decoupled_weight_decay
    self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

  def build(self, variables: Sequence[keras.Variable]) -> None:
    if self.built:
      return
    super().build(variables)
    self._means, self._squares = (
      [
        self.add_variable_from_reference(variable, name=name)
        for variable in variables
      ]
      for name in ('mean', 'square')
    )
    self._settle(variables, self.decoupled_weight_decay)

  def update_step(
    self,
    gradient: tf.Tensor,
    variable: keras.Variable | tf.Variable,
    learning_rate: tf.Tensor,
  ) -> None:
    index = graph.variable_index(self, variable)
    mean, square = self._means[index], self._squares[index]
    if isinstance(variable, keras.Variable):
      variable = variable.value
    dtype = variable.dtype
    rate = tf.cast(self.rate_of(index, learning_rate), dtype)
    if self.decay_of(index):
      variable.assign_sub(rate * self.decay_of(index) * variable)
    step = tf.cast(self.iterations + 1, dtype)
    tf.raw_ops.ResourceApplyAdam(
      var=variable.handle,
      m=mean.value.handle,
      v=square.value.handle,
      beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
      beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
      lr=rate,
      beta1=self.beta_1,
      beta2=self.beta_2,
      epsilon=self.epsilon,
      grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
      use_nesterov=False,
    )

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      'decoupled_weight_decay': self.decoupled_weight_decay,
      'beta_1': self.beta_1,
      'beta_2': self.beta_2,
      'epsilon': self.epsilon,
    }


def make(
  stage: recipes.Optimization,
  steps_per_epoch: float,
  precision: str = 'float32',
  backbone: Iterable[keras.Variable] = (),
) -> tuple[keras.optimizers.Optimizer, schedule.Rate]:
  """Returns a stage's optimizer and its learning rate by step.

  In 'mixed_float16' the optimizer scales the loss, since small gradients vanish
  in float16, and passes over a step whose gradients overflow.

  Args:
    stage: Its numbers. A stage that is no `recipes.Classifier` has SGD.
    steps_per_epoch: By which epochs become steps.
    precision: Keras's dtype policy of the networks.
    backbone: As of `origins.backbone`; its rate is that of the stage times
      `backbone_rate`.
  """
  rate = schedule.by_step(stage, steps_per_epoch)
  options: dict[str, Any] = {'weight_decay_on': stage.weight_decay_on}
  if isinstance(stage, recipes.Classifier) and stage.backbone_rate != 1:
    options |= {'backbone': backbone, 'backbone_rate': stage.backbone_rate}
  optimizer: keras.optimizers.Optimizer
  if isinstance(stage, recipes.Classifier) and stage.optimizer == recipes.ADAMW:
    optimizer = AdamW(
      rate,
      beta_1=stage.momentum,
      decoupled_weight_decay=stage.weight_decay,
      **options,
    )
  else:
    optimizer = CoupledSGD(
      rate,
      momentum=stage.momentum,
      coupled_weight_decay=stage.weight_decay,
      **options,
    )
  if precision == 'mixed_float16':
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
  return optimizer, rate
