"""Sums, products, means and activations, and what writes what it reads."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from ft_tf.quantisation import places, quantisers, steps, weighted


class Norm(steps.Step):
  """Batch norm without a convolution before it: a product and a sum."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/product', *super().places()]

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    (x,) = values
    factor = self.constant(lambda: steps.norm_constants(self.operation)[0])
    summand = self.constant(lambda: steps.norm_constants(self.operation)[1])
    return self.round(x * factor, f'{self.role.name}/product') + summand


class Normalization(steps.Step):
  """Keras's Normalization: a difference and a product."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/difference', *super().places()]

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    (x,) = values
    mean = self.constant(lambda: self._statistic('mean'))
    factor = self.constant(self._factor)
    y = self.round(x - mean, f'{self.role.name}/difference')
    return y * factor

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
    y = x * self.constant(lambda: tf.cast(self.operation.scale, tf.float32))
    if not self._has_offset():
      return y
    offset = self.constant(lambda: tf.cast(self.operation.offset, tf.float32))
    return self.round(y, f'{self.role.name}/product') + offset


class Arithmetic(steps.Step):
  """A sum or product of two tensors, or of a tensor and a constant."""

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    other = places.constant(self.role.call)
    if other is None:
      return super().compute(values)
    name = type(self.operation).__name__
    if name in ('Divide', 'TrueDivide'):
      compute = lambda: 1 / tf.cast(other, tf.float32)  # noqa: E731
    elif name == 'Subtract':
      compute = lambda: -tf.cast(other, tf.float32)  # noqa: E731
    else:
      compute = lambda: tf.cast(other, tf.float32)  # noqa: E731
    (x,) = values
    if self._is_bias():
      y = self.mode.constant(compute)
    else:
      y = self.constant(compute)
    return x * y if self.role.kind == 'product' else x + y

  def _is_bias(self):
    """Tells whether the constant is added to the bias of weights before it."""
    return self.role.kind == 'sum' and self.role.group != self.role.name


class Activation(steps.Step):
  """An activation that is a call of its own."""

  def places(self) -> list[str]:
    inner = steps.inner_places(self.role.name, self.role.kind)
    return inner + super().places()

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    return self.activate(values[0], self.role.kind)


class Mean(steps.Step):
  """A mean over height and width."""

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.reduce_mean(values[0], [1, 2], keepdims=self.operation.keepdims)


class WindowMean(steps.Step):
  """A mean over windows, in the range of what it reads.

  The kernel AVERAGE_POOL_2D divides a sum of int8 values, halves away from 0.
  """

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    y = super().compute(values)
    if self.input_grid is None or self.mode.frozen:
      return y  # A file has the range from the tensor that is read.
    scale, zero = map(tf.stop_gradient, self.input_grid())
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
