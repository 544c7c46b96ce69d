"""Convolutions and dense layers with batch norm folded into their weights."""

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import fused
from ft_tf.quantisation import activations, kernels, places, quantisers, steps


class Weighted(activations.Activating):
  """Convolution, depthwise convolution or dense layer, batch norm inside."""

  def __init__(self, role: places.Role, mode: quantisers.Mode):
    super().__init__(role, mode)
    self.norm = role.norm
    if role.activation == 'hard_sigmoid':
      self.merged = (activations.hard_sigmoid_summand,)

  def places(self) -> list[str]:
    # relu is merged into the kernel; other activations have their own.
    inner, name = self.role.activation, self.role.name
    if inner in ('identity', 'relu', 'relu6'):
      return super().places()
    if inner == 'hard_sigmoid':
      return [f'{name}/sum', *super().places()]
    before = [f'{name}/before_activation']
    if inner == 'sigmoid':
      return before
    return [*before, *activations.inner_places(name, inner), *super().places()]

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    inner, place = self.role.activation, self.role.name
    x = tf.cast(inputs, tf.float32)
    in_integers = (
      not training and self.mode.rounds_all() and self.input_range is not None
    )
    y = self._sums_as_file(x) if in_integers else self._sums(x)
    if f'{place}/before_activation' in self.quantisers:
      y = self.round(y, f'{place}/before_activation')
    y = self._activate_as_file(y) if in_integers else self.activate(y, inner)
    return self.round(y, place) if place in self.quantisers else y

  def integers(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights in a file, `[N, O]` int8, and their scales.

    The output channels come last.
    """
    kernel = quantisers.round_weights(
      self.folded()[0], self.channel_axes, self.mode.weight_scales
    ).numpy()
    channels = int(np.prod(kernel.shape[-self.channel_axes :]))
    kernel = kernel.reshape(-1, channels)
    scales = quantisers.weight_scales(kernel, self.mode.weight_scales)
    return np.round(kernel / scales).astype(np.int8), scales

  def _sums(self, x):
    """Returns the weighted sums, with the bias."""
    kernel, bias = self._kernel_and_bias()
    y = self._convolve(x, kernel)
    return y if bias is None else y + bias

  def _sums_as_file(self, x):
    """Returns the same in whole numbers, rounded as the file's kernel does.

    Where the grid that it writes is not known the sums are not rounded. What
    calls behind it add to the bias is rounded with it, and taken off again.
    """
    kernel, bias = self.folded()
    scale, weight_scales = self._file_scales()
    by_channel = weight_scales
    if self.channel_axes == 2 and weight_scales.shape.rank:
      by_channel = tf.reshape(weight_scales, kernel.shape[2:])
    kernel = quantisers.round_weights(
      kernel, self.channel_axes, self.mode.weight_scales
    )
    # float32 holds sums of whole numbers up to 2^24, whatever their order.
    sums = self._convolve(tf.round(x / scale), tf.round(kernel / by_channel))
    merged = sum((compute() for compute in self.merged), 0.0)
    if bias is not None or self.merged:
      summand = merged if bias is None else self._held_bias(bias) + merged
      summand = kernels.whole(summand, scale, weight_scales)
      sums = tf.cast(tf.cast(sums, tf.float64) + summand, tf.float32)
    unit = scale * weight_scales
    grid = self._first_grid()
    if grid is None:
      return sums * unit - merged
    return kernels.requantise(sums, unit, grid).values() - merged

  def _activate_as_file(self, y):
    """Returns the activation inside the layer, by the file's kernels."""
    inner, place = self.role.activation, self.role.name
    if inner == 'sigmoid':
      output = kernels.grid(*steps.sigmoid_range())
    elif place in self.quantisers:
      output = self.grid(place)
    else:
      return self.activate(y, inner)
    if inner == 'hard_sigmoid':
      return self.gate_as_file(y, output)
    before = f'{place}/before_activation'
    if before not in self.quantisers:
      return self.activate(y, inner)
    x = kernels.read(y, self.grid(before))
    integers = self.activate_integers(x, inner, output)
    return self.activate(y, inner) if integers is None else integers.values()

  def _first_grid(self):
    """Returns the grid that the convolution writes; None: not known."""
    if self.quantisers:
      return kernels.grid(*next(iter(self.quantisers.values())).ends())
    return kernels.grid(*self.later_range()) if self.later_range else None

  def _largest_weights(self):
    return quantisers.largest_weights(
      self.folded()[0], self.channel_axes, self.mode.weight_scales
    )

  def _file_scales(self):
    """Returns the scales of input and weights in a file, float32."""
    if self.input_range is None:
      raise ValueError(f'the input of {self.name} is not rounded')
    weights = tf.cast(self._largest_weights(), tf.float64) / 127
    return (
      kernels.grid(*self.input_range()).scale,
      tf.cast(weights, tf.float32),
    )

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
    return kernel, self._bias()

  def _bias(self):
    """Returns the bias as the file holds it, in units of a product."""

    def plain():
      return self.mode.constant(lambda: self.folded()[1])

    input_range = self.input_range
    if input_range is None:
      return plain()
    return self.mode.choose(
      self.role.group,
      plain,
      lambda: self.mode.constant(lambda: self._rounded_bias(input_range)),
    )

  def _rounded_bias(self, input_range):
    _, bias = self.folded()
    if self.mode.frozen:
      return self._held_bias(bias)
    scale, _ = quantisers.grid(*input_range())
    unit = tf.stop_gradient(scale * (self._largest_weights() / 127))
    return quantisers.round_bias(bias, unit)

  def _held_bias(self, bias):
    scales = self._file_scales()
    return kernels.real(kernels.whole(bias, *scales), *scales)

  def _has_scale_for_tensor(self):
    """Tells whether the weights get one scale, by fake quantisation."""
    return (
      self.mode.frozen
      and self.mode.weight_scales == 'tensor'
      and self.role.group not in self.mode.in_float
    )

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
    factor, summand = steps.norm_constants(
      self.norm, drops_still_channels=self.mode.weight_scales == 'tensor'
    )
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
