"""The calls of a student as LiteRT's integer kernels compute them.

A step replaces one call of the student's graph under its name and computes in
float32 whatever the student's precision. Its weights are the student's own
variables. Batch norm stands still: it is a factor and a summand made of its
moving statistics.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import fused
from ft_tf.quantisation import places, quantisers


class Step(keras.layers.Layer):
  """One call; the subclasses say what it computes before it is rounded."""

  def __init__(self, role: places.Role, mode: quantisers.Mode):
    super().__init__(name=role.name, dtype='float32')
    self.role, self.mode = role, mode
    self.operation = role.call.operation  # Its variables are the step's too.
    # For those who look for height, width and channels in the twin's graph.
    self.data_format = 'channels_last'
    # Place -> quantiser, in the order of the kernels.
    self.quantisers = {}
    for place in self.places():
      self.quantisers[place] = quantisers.Quantiser(place, role.group, mode)
    self.built = True

  def places(self) -> list[str]:
    """Returns the names of the places of learned ranges, in their order."""
    return [self.role.name] if self.role.has_range else []

  def is_rounding(self) -> bool:
    """Tells whether it rounds weights, constants or what it computes."""
    return bool(self.quantisers) or self.role.kind in (
      *places.WEIGHTED,
      'sigmoid',
    )

  def call(self, inputs):
    values = [tf.cast(x, tf.float32) for x in keras.tree.flatten(inputs)]
    y = self.compute(values)
    return self.round(y, self.role.name) if self.role.has_range else y

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns what the operation makes of its inputs, float32."""
    return self.role.call.compute(values, self.operation.call)[0]

  def round(self, y: tf.Tensor, place: str) -> tf.Tensor:
    """Returns values rounded to the learned range of a place."""
    return self.quantisers[place](y)

  def activate(self, x: tf.Tensor, kind: str) -> tf.Tensor:
    """Returns an activation of `x`; the last rounding is the caller's."""
    if kind in ('relu', 'relu6'):
      return getattr(tf.nn, kind)(x)
    if kind == 'hard_swish':
      return x * tf.nn.relu6(x + 3.0) * (1 / 6)
    if kind == 'hard_sigmoid':
      # A sum, merged with relu6, and a product.
      y = self.round(tf.nn.relu6(x + 3.0), f'{self.role.name}/sum')
      return y * (1 / 6)
    if kind in ('sigmoid', 'swish'):
      y = self.mode.rounded(
        self.role.group,
        tf.sigmoid(x),
        lambda y: quantisers.round_between(y, *quantisers.SIGMOID),
      )
      return x * y if kind == 'swish' else y
    return x

  def constant(self, compute, round_values=quantisers.round_constant):
    """Returns a constant of the kernel, rounded where the group is."""
    return self.mode.constant(
      lambda: self.mode.rounded(self.role.group, compute(), round_values)
    )


class Image(keras.layers.Layer):
  """Raw images as the file takes them: the whole numbers from 0 to 255."""

  def __init__(self, mode: quantisers.Mode, name: str):
    super().__init__(name=name, dtype='float32')
    self.mode = mode
    self.built = True

  def call(self, images: tf.Tensor) -> tf.Tensor:
    return self.mode.rounded(
      self.name,
      images,
      lambda x: quantisers.round_between(x, *quantisers.IMAGE),
    )


class Weighted(Step):
  """Convolution, depthwise convolution or dense layer, batch norm inside."""

  def __init__(self, role: places.Role, mode: quantisers.Mode):
    super().__init__(role, mode)
    self.norm = role.norm

  def places(self) -> list[str]:
    # relu is merged into the kernel; other activations have their own.
    inner, name = self.role.activation, self.role.name
    if inner in ('identity', 'relu', 'relu6'):
      return super().places()
    if inner == 'hard_sigmoid':
      return [f'{name}/sum', name]
    before = [f'{name}/before_activation']
    return before if inner == 'sigmoid' else [*before, name]

  def call(self, inputs):
    inner, place = self.role.activation, self.role.name
    kernel, bias = self._kernel_and_bias()
    y = self._convolve(tf.cast(inputs, tf.float32), kernel)
    if bias is not None:
      y += bias
    if f'{place}/before_activation' in self.quantisers:
      y = self.round(y, f'{place}/before_activation')
    y = self.activate(y, inner)
    return self.round(y, place) if place in self.quantisers else y

  def integers(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights as the file holds them, and their scales.

    The integers are int8, the output channels come first, `[O, h, w, I]`, of a
    depthwise kernel last, `[h, w, C * multiplier]`.
    """
    kernel = quantisers.round_weights(
      self.folded()[0], self.channel_axes, self.mode.weight_scales
    ).numpy()
    if self.channel_axes == 2:
      kernel = kernel.reshape(*kernel.shape[:2], -1)
    scales = quantisers.weight_scales(kernel, self.mode.weight_scales)
    values = np.clip(np.round(kernel / scales), -127, 127).astype(np.int8)
    if self.channel_axes == 1:
      values = np.moveaxis(values, -1, 0)
    return values, scales

  def _kernel_and_bias(self):
    kernel = self.constant(
      lambda: self.folded()[0],
      lambda values: quantisers.round_weights(
        values, self.channel_axes, self.mode.weight_scales
      ),
    )
    if self._has_scale_for_tensor():
      # For constants alone the converter takes a scale per channel.
      values = tf.get_static_value(kernel)
      if self.role.kind == 'dense':
        values = values[None, None]
      largest = np.abs(values).max()
      kernel = tf.quantization.fake_quant_with_min_max_vars(
        values, -largest, largest, narrow_range=True
      )
    if not self.operation.use_bias and self.norm is None:
      return kernel, None
    return kernel, self.mode.constant(lambda: self.folded()[1])

  def _has_scale_for_tensor(self):
    """Tells whether the weights get one scale, by fake quantisation."""
    return self.mode.frozen and self.mode.weight_scales == 'tensor'

  @property
  def channel_axes(self) -> int:
    """The number of the kernel's last axes that count channels."""
    return 2 if self.role.kind == 'depthwise' else 1

  def folded(self) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns kernel and bias with the batch norm folded in, not rounded."""
    layer = self.operation
    kernel = tf.cast(layer.kernel, tf.float32)
    bias = tf.cast(layer.bias, tf.float32) if layer.use_bias else None
    if self.norm is None:
      return kernel, bias
    factor, summand = norm_constants(self.norm)
    if bias is not None:
      summand += bias * factor
    if self.channel_axes == 2:
      factor = tf.reshape(factor, kernel.shape[2:])
    return kernel * factor, summand

  def _convolve(self, x, kernel):
    layer = self.operation
    if self.role.kind == 'dense':
      if not self._has_scale_for_tensor():
        return tf.matmul(x, kernel)
      # The converter gives the weights of a matrix product a scale per channel
      # whatever their fake quantisation.
      y = tf.nn.conv2d(x[:, None, None], kernel, strides=1, padding='VALID')
      return tf.reshape(y, [-1, kernel.shape[-1]])
    strides = layer.strides
    if fused.is_subsampling(layer) and not self.mode.frozen:
      # See `fused.SubsampledConvolution`. Only the file has no need of it.
      x, strides = x[:, :: strides[0], :: strides[1]], (1, 1)
    convolve = (
      keras.ops.depthwise_conv
      if self.role.kind == 'depthwise'
      else keras.ops.conv
    )
    return convolve(
      x,
      kernel,
      strides=strides,
      padding=layer.padding,
      data_format='channels_last',
      dilation_rate=layer.dilation_rate,
    )


class Norm(Step):
  """Batch norm without a convolution before it: a product and a sum."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/product', *super().places()]

  def compute(self, values):
    (x,) = values
    factor = self.constant(lambda: norm_constants(self.operation)[0])
    summand = self.constant(lambda: norm_constants(self.operation)[1])
    return self.round(x * factor, f'{self.role.name}/product') + summand


class Normalization(Step):
  """Keras's Normalization: a difference and a product."""

  def places(self) -> list[str]:
    return [f'{self.role.name}/difference', *super().places()]

  def compute(self, values):
    (x,) = values
    # As Keras has it, the deviation is at least its epsilon.
    mean = self.constant(lambda: tf.cast(self.operation.mean, tf.float32))
    factor = self.constant(
      lambda: (
        1
        / tf.maximum(
          tf.sqrt(tf.cast(self.operation.variance, tf.float32)),
          keras.config.epsilon(),
        )
      )
    )
    y = self.round(x - mean, f'{self.role.name}/difference')
    return y * factor


class Rescaling(Step):
  """Keras's Rescaling: a product, and a sum if it has an offset."""

  def _has_offset(self):
    offset = keras.ops.convert_to_numpy(self.role.call.operation.offset)
    return bool((offset != 0).any())

  def places(self) -> list[str]:
    steps = [f'{self.role.name}/product'] if self._has_offset() else []
    return steps + super().places()

  def compute(self, values):
    (x,) = values
    y = x * self.constant(lambda: tf.cast(self.operation.scale, tf.float32))
    if not self._has_offset():
      return y
    offset = self.constant(lambda: tf.cast(self.operation.offset, tf.float32))
    return self.round(y, f'{self.role.name}/product') + offset


class Arithmetic(Step):
  """A sum or product of two tensors, or of a tensor and a constant."""

  def compute(self, values):
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


class Activation(Step):
  """An activation that is a call of its own."""

  def places(self) -> list[str]:
    steps = []
    if self.role.kind == 'hard_sigmoid':
      steps = [f'{self.role.name}/sum']
    return steps + super().places()

  def compute(self, values):
    return self.activate(values[0], self.role.kind)


class Mean(Step):
  """A mean over height and width."""

  def compute(self, values):
    return tf.reduce_mean(values[0], [1, 2], keepdims=self.operation.keepdims)


class Dropout(Step):
  """Dropout of rounded values, in training alone."""

  def call(self, inputs, training=None):
    x = tf.cast(inputs, tf.float32)
    return self.operation.call(x, training=training)


class Unchanged(Step):
  """What a file does not have: a folded batch norm, an identity."""

  def compute(self, values):
    return values[0]


_STEPS = {
  **dict.fromkeys(places.WEIGHTED, Weighted),
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
  'mean': Mean,
  'dropout': Dropout,
  'folded': Unchanged,
  'identity': Unchanged,
  'same': Step,
}


def make(role: places.Role, mode: quantisers.Mode) -> Step:
  """Returns the step in the place of a call."""
  return _STEPS[role.kind](role, mode)


def norm_constants(
  norm: keras.layers.BatchNormalization,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns factor and summand `[C]` of a batch norm that stands still."""
  factor = tf.math.rsqrt(
    tf.cast(norm.moving_variance, tf.float32) + norm.epsilon
  )
  if norm.scale:
    factor *= tf.cast(norm.gamma, tf.float32)
  summand = -tf.cast(norm.moving_mean, tf.float32) * factor
  if norm.center:
    summand += tf.cast(norm.beta, tf.float32)
  return factor, summand
