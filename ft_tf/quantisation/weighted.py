"""Convolutions and dense layers with batch norm folded into their weights."""

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import fused
from ft_tf.quantisation import places, quantisers, steps


class Weighted(steps.Step):
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
      return [f'{name}/sum', *super().places()]
    before = [f'{name}/before_activation']
    if inner == 'sigmoid':
      return before
    return [*before, *steps.inner_places(name, inner), *super().places()]

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    inner, place = self.role.activation, self.role.name
    y = self._sums(tf.cast(inputs, tf.float32), bool(training))
    if f'{place}/before_activation' in self.quantisers:
      y = self.round(y, f'{place}/before_activation')
    y = self.activate(y, inner)
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

  def _sums(self, x, training):
    """Returns the weighted sums, with the bias."""
    kernel, bias = self._kernel_and_bias()
    if training or self.input_grid is None or not self.mode.rounds_all():
      y = self._convolve(x, kernel)
      return y if bias is None else y + bias
    # In whole numbers, which float32 holds up to 2^24: the sums are those of
    # the file, whatever their order. A sum of rounded real numbers now and then
    # ends on the other side of a half. Training takes no notice of that.
    scale = tf.stop_gradient(self.input_grid()[0])
    weight_scales = tf.stop_gradient(self._weight_scales())
    unit = scale * weight_scales
    if self.channel_axes == 2 and weight_scales.shape.rank:
      weight_scales = tf.reshape(weight_scales, kernel.shape[2:])
    y = self._convolve(
      quantisers.round_whole(x / scale),
      quantisers.round_whole(kernel / weight_scales),
    )
    if bias is not None:
      y += quantisers.round_whole(bias / unit)
    return y * unit

  def _weight_scales(self):
    largest = quantisers.largest_weights(
      self.folded()[0], self.channel_axes, self.mode.weight_scales
    )
    return largest / 127

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
    return kernel, self.mode.constant(self._bias)

  def _bias(self):
    """Returns the bias as the file holds it, in units of a product."""
    _, bias = self.folded()
    if self.input_grid is None:
      return bias
    unit = tf.stop_gradient(self.input_grid()[0] * self._weight_scales())
    return self.mode.rounded(
      self.role.group, bias, lambda values: quantisers.round_bias(values, unit)
    )

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
