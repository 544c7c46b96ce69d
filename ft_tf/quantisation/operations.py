"""Sums, products, means and activations, and what writes what it reads."""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ft_tf.quantisation import (
  activations,
  kernels,
  places,
  quantisers,
  steps,
  weighted,
)


class Norm(steps.Step):
  """Batch norm without a convolution before it: a product and a sum."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/product', *super().places()]

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    (x,) = values
    factor, summand = self._constants()
    return self.round(x * factor, f'{self.role.name}/product') + summand

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers:
    (x,) = inputs
    factor, summand = map(kernels.constant, self._constants())
    product = self.grid(f'{self.role.name}/product')
    return kernels.add(kernels.multiply(x, factor, product), summand, output)

  def _constants(self):
    return (
      self.constant(lambda: steps.norm_constants(self.operation)[0]),
      self.constant(lambda: steps.norm_constants(self.operation)[1]),
    )


class Normalization(steps.Step):
  """Keras's Normalization: a difference and a product."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/difference', *super().places()]

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    (x,) = values
    mean, factor = self._constants()
    y = self.round(x - mean, f'{self.role.name}/difference')
    return y * factor

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers:
    (x,) = inputs
    mean, factor = map(kernels.constant, self._constants())
    place = self.grid(f'{self.role.name}/difference')
    difference = kernels.add(x, mean, place, sign=-1)
    return kernels.multiply(difference, factor, output)

  def _constants(self):
    return (
      self.constant(lambda: self._statistic('mean')),
      self.constant(self._factor),
    )

  def _factor(self):
    """Returns 1 / deviation, which in Keras is at least its epsilon."""
    deviation = tf.sqrt(self._statistic('variance'))
    return 1 / tf.maximum(deviation, keras.config.epsilon())

  def _statistic(self, name):
    """Returns mean or variance in float32, whatever the layer's precision."""
    layer = self.operation
    value = getattr(layer, f'input_{name}')  # Of the constructor.
    if value is None:
      value = getattr(layer, f'adapt_{name}')
    shape = keras.ops.shape(getattr(layer, name))
    return tf.reshape(tf.cast(value, tf.float32), shape)


class Rescaling(steps.Step):
  """Keras's Rescaling: a product, and a sum if it has an offset."""

  def _has_offset(self):
    offset = keras.ops.convert_to_numpy(self.role.call.operation.offset)
    return bool((offset != 0).any())

  def places(self) -> list[str]:
    steps = [f'{self.role.name}/product'] if self._has_offset() else []
    return steps + super().places()

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    (x,) = values
    y = x * self._constant('scale')
    if not self._has_offset():
      return y
    offset = self._constant('offset')
    return self.round(y, f'{self.role.name}/product') + offset

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers:
    (x,) = inputs
    factor = kernels.constant(self._constant('scale'))
    if not self._has_offset():
      return kernels.multiply(x, factor, output)
    offset = kernels.constant(self._constant('offset'))
    product = self.grid(f'{self.role.name}/product')
    return kernels.add(kernels.multiply(x, factor, product), offset, output)

  def _constant(self, name):
    return self.constant(
      lambda: tf.cast(getattr(self.operation, name), tf.float32)
    )


class Arithmetic(steps.Step):
  """A sum or product of two tensors, or of a tensor and a constant."""

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    if not self._has_constant():
      return super().compute(values)
    (x,) = values
    if self._is_bias():
      y = self.mode.constant(self._other)
    else:
      y = self.constant(self._other)
    return x * y if self.role.kind == 'product' else x + y

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers:
    if self._has_constant():
      inputs = [*inputs, kernels.constant(self.constant(self._other))]
    a, b = inputs
    if self.role.kind == 'product':
      return kernels.multiply(a, b, output)
    return kernels.add(a, b, output)

  def _has_constant(self):
    return places.constant(self.role.call) is not None

  def _other(self):
    """Returns the constant that is added, or multiplied with."""
    other = tf.cast(places.constant(self.role.call), tf.float32)
    name = type(self.operation).__name__
    if name in ('Divide', 'TrueDivide'):
      return 1 / other
    return -other if name == 'Subtract' else other

  def _is_bias(self):
    """Tells whether the constant is added to the bias of weights before it."""
    return self.role.kind == 'sum' and self.role.group != self.role.name

  @property
  def summand(self) -> Callable[[], tf.Tensor] | None:
    return self._other if self._is_bias() else None


class Activation(activations.Activating):
  """An activation that is a call of its own."""

  def places(self) -> list[str]:
    inner = activations.inner_places(self.role.name, self.role.kind)
    return inner + super().places()

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    return self.activate(values[0], self.role.kind)

  def compute_as_file(self, values: Sequence[tf.Tensor]) -> tf.Tensor | None:
    if self.summand is None:
      return super().compute_as_file(values)
    output = self.written_grid()
    return self.gate_as_file(values[0], output) if output else None

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers | None:
    return self.activate_integers(inputs[0], self.role.kind, output)

  def written_grid(self) -> kernels.Grid | None:
    if self.role.kind == 'sigmoid':
      return kernels.grid(*steps.sigmoid_range())
    return super().written_grid()

  @property
  def summand(self) -> Callable[[], tf.Tensor] | None:
    # Of a hard sigmoid that ends the kernel of the weights before it.
    if self.role.kind == 'hard_sigmoid' and self.role.group != self.role.name:
      return activations.hard_sigmoid_summand
    return None


class Mean(steps.Step):
  """A mean over height and width."""

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.reduce_mean(values[0], [1, 2], keepdims=self.operation.keepdims)

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers:
    y = kernels.mean(inputs[0], output)
    if self.operation.keepdims:
      return y
    return kernels.Integers(tf.squeeze(y.steps, [1, 2]), y.grid)


class WindowMean(steps.Step):
  """A mean over windows, in the range of what it reads.

  The kernel AVERAGE_POOL_2D divides a sum of int8 values, halves away from 0.
  """

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    y = super().compute(values)
    if self.input_range is None or self.mode.frozen:
      return y  # A file has the range from the tensor that is read.
    scale, zero = map(tf.stop_gradient, quantisers.grid(*self.input_range()))
    return self.mode.rounded(
      self.role.group,
      y,
      lambda y: (quantisers.round_away(y / scale + zero) - zero) * scale,
    )


class Dropout(steps.Step):
  """Dropout of rounded values, in training alone."""

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    x = tf.cast(inputs, tf.float32)
    return self.operation.call(x, training=training)


class Unchanged(steps.Step):
  """What a file does not have: a folded batch norm, an identity."""

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    return values[0]


_STEPS = {
  **dict.fromkeys(places.WEIGHTED, weighted.Weighted),
  'norm': Norm,
  'normalization': Normalization,
  'rescaling': Rescaling,
  'sum': Arithmetic,
  'product': Arithmetic,
  'relu': Activation,
  'relu6': Activation,
  'hard_swish': Activation,
  'hard_sigmoid': Activation,
  'swish': Activation,
  'sigmoid': Activation,
  'join': steps.Step,
  'mean': Mean,
  'window_mean': WindowMean,
  'dropout': Dropout,
  'folded': Unchanged,
  'identity': Unchanged,
  'same': steps.Step,
}


def make(role: places.Role, mode: quantisers.Mode) -> steps.Step:
  """Returns the step in the place of a call."""
  return _STEPS[role.kind](role, mode)
