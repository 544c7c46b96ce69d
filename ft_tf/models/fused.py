"""A model for training: the same graph and weights with other kernels.

Keras computes batch norm on TensorFlow as moments, then a product and a sum.
TensorFlow's fused kernel does the same in one operation, and so does its
gradient. Strided 1x1 convolutions of few channels have a gradient that oneDNN
computes wrong, large depthwise ones a gradient that it computes slowly, and
TensorFlow's clamp of maps in bfloat16 is slow. The given model stays plain
Keras, and is the one that is evaluated and saved; any model fits, a user's own
included.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import graph

# Channels that oneDNN computes at once: 8 on AVX2, 16 on AVX-512. The larger is
# right for both.
_BLOCK = 16
# Numbers of bfloat16 as integers. This NaN is less than all that are not.
_SIX_BITS = np.int16(0x40C0)
_NAN_BITS = np.int16(-0x40)


class _OtherKernel(keras.layers.Layer):
  """A layer in the place of another that is built.

  Variables, whether it is frozen, and losses are the other's, whatever becomes
  of it later.
  """

  def __init__(self, layer: keras.layers.Layer):
    super().__init__(
      name=layer.name,
      trainable=layer.trainable,
      dtype=layer.dtype_policy,
      activity_regularizer=layer.activity_regularizer,
    )
    self.layer = layer
    self.supports_masking = layer.supports_masking
    self.built = True

  def add_loss(self, loss: Any) -> None:
    self.layer.add_loss(loss)


class FusedBatchNormalization(_OtherKernel):
  """Batch norm with its training pass in one `FusedBatchNormV3`.

  Same constants, weights, mathematics and moving statistics. Statistics, scale
  and offset are float32 whatever the dtype of the maps.
  """

  def call(
    self,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Returns maps `[B, H, W, C]` normalised, in their own dtype."""
    layer = self.layer
    if not (training and layer.trainable) or mask is not None:
      return layer.call(inputs, training=training, mask=mask)
    channels = layer.moving_mean.shape[0]
    dtype = inputs.dtype
    if channels % _BLOCK and not _has_accelerator():
      # oneDNN takes 3 to 5 times as long for such maps in bfloat16.
      inputs = tf.cast(inputs, tf.float32)
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
      x=inputs,
      scale=layer.gamma.value if layer.scale else tf.ones([channels]),
      offset=layer.beta.value if layer.center else tf.zeros([channels]),
      mean=tf.zeros([0]),
      variance=tf.zeros([0]),
      epsilon=layer.epsilon,
      is_training=True,
    )
    # The kernel returns the unbiased variance (over n - 1), while Keras keeps
    # the biased one (over n) in its moving statistics.
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
    for moving, value in (
      (layer.moving_mean, mean),
      (layer.moving_variance, variance * ((count - 1) / count)),
    ):
      moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
    return tf.cast(y, dtype)


class SubsampledConvolution(_OtherKernel):
  """A strided 1x1 convolution: its input subsampled, then convolved.

  The same mathematics. For a strided one oneDNN's filter gradient is wrong if
  the maps have fewer channels than it computes at once, and writes beyond its
  memory (uxlfoundation/oneDNN, issue 6035, in TensorFlow 2.21).
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns maps `[B, ceil(H / rows), ceil(W / columns), C]`."""
    rows, columns = self.layer.strides
    y = keras.ops.conv(
      inputs[:, ::rows, ::columns],
      self.layer.kernel,
      data_format='channels_last',
    )
    if self.layer.use_bias:
      y += self.layer.bias
    return self.layer.activation(y)


class DepthwiseConvolution(_OtherKernel):
  """A depthwise convolution with its gradients in other numbers.

  oneDNN takes 15 times as long for the gradient of the maps in bfloat16 as in
  float32. It computes that of large filters for blocks of 16x16 channels, of
  which it needs the diagonal: the 5x5 filters of 576 channels take 15 MB, and
  longer still in bfloat16. It has no kernel for float64, so TensorFlow's own
  takes over, which is faster for 5x5 filters. The values are the same or more
  precise.
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns maps `[B, H', W', C * multiplier]`."""
    layer = self.layer
    setting = {
      'strides': [1, *layer.strides, 1],
      'padding': layer.padding.upper(),
    }
    size = max(layer.kernel_size)
    of_filter = {5: 'float64'}.get(size, 'float32' if size > 5 else None)

    @tf.custom_gradient
    def convolve(x, kernel):
      def differentiate(dy):
        dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
          input_sizes=tf.shape(x),
          filter=tf.cast(kernel, tf.float32),
          out_backprop=tf.cast(dy, tf.float32),
          **setting,
        )
        dtype = of_filter or x.dtype
        dkernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
          input=tf.cast(x, dtype),
          filter_sizes=kernel.shape,
          out_backprop=tf.cast(dy, dtype),
          **setting,
        )
        return tf.cast(dx, x.dtype), tf.cast(dkernel, kernel.dtype)

      y = tf.raw_ops.DepthwiseConv2dNative(input=x, filter=kernel, **setting)
      return y, differentiate

    y = convolve(inputs, tf.convert_to_tensor(layer.kernel))
    if layer.use_bias:
      y += layer.bias
    return layer.activation(y)


class Relu6(_OtherKernel):
  """The clamp of maps in bfloat16 to 0..6, by integers.

  Values of bfloat16 that are not negative have the order of their bits as
  integers, and negative ones are negative integers. TensorFlow's kernel
  compares numbers of bfloat16 one by one, and takes three times as long.
  """

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    """Returns `[B, ..., C]` clamped; its gradient is that of `tf.nn.relu6`.

    NaN would become 0 or 6, so that a training that diverges could not be told.
    It comes from a channel's weights or statistics, and is in all of its
    values: all outputs are NaN where one in the middle of a map is. (In a
    corner, a convolution does not meet all weights.)
    """
    return _clamp(inputs)


@tf.custom_gradient
def _clamp(x):
  sizes = tf.unstack(tf.shape(x)[1:-1])
  middle = x[(slice(None), *(size // 2 for size in sizes))]
  is_nan = tf.reduce_any(tf.math.is_nan(middle))
  most = tf.where(is_nan, _NAN_BITS, _SIX_BITS)
  y = tf.minimum(tf.nn.relu(tf.bitcast(x, tf.int16)), most)
  y = tf.bitcast(y, x.dtype)
  return y, lambda dy: tf.raw_ops.Relu6Grad(gradients=dy, features=y)


def fuse(model: keras.Model) -> keras.Model:
  """Returns a model that computes the same and shares every weight.

  Args:
    model: Functional or Sequential, of one input; such models of one output
      nested in it are fused too.

  Returns:
    A functional model with the same layer names. Strided 1x1 convolutions of
    few channels are `SubsampledConvolution`s, on a CPU depthwise ones in
    bfloat16 or of 5x5 and more `DepthwiseConvolution`s, and clamps to 0..6 in
    bfloat16 `Relu6`s. A batch norm that the kernel does not cover stays
    Keras's: synchronised over replicas, renormalised, of another axis than the
    last, or not of maps `[B, H, W, C]`.
  """
  functional = keras.Model(
    model.inputs[0], graph.outputs(model), name=model.name
  )
  twins = {}  # by the id of a layer: a shared layer stays shared

  def share(layer):
    if id(layer) not in twins:
      twins[id(layer)] = _with_other_kernel(layer)
    return twins[id(layer)]

  return keras.models.clone_model(functional, clone_function=share)


def _with_other_kernel(layer):
  """Returns the layer to train in a layer's place; itself where none is."""
  if graph.is_plain_model(layer):
    single = len(layer.inputs) == len(layer.outputs) == 1
    return fuse(layer) if single else layer
  if is_subsampling(layer):
    return SubsampledConvolution(layer)
  if _is_slow_depthwise(layer):
    return DepthwiseConvolution(layer)
  if _is_slow_relu6(layer):
    return Relu6(layer)
  if (
    type(layer) is not keras.layers.BatchNormalization
    or layer.input_spec.ndim != 4
    or layer.axis not in (-1, 3)
    or layer.synchronized
    or layer.renorm
    or layer.compute_dtype not in ('float32', 'bfloat16', 'float16')
  ):
    return layer
  return FusedBatchNormalization(layer)


def is_subsampling(layer: keras.Operation) -> bool:
  """Tells whether `SubsampledConvolution` replaces a layer."""
  return (
    type(layer) is keras.layers.Conv2D
    and layer.kernel_size == (1, 1)
    and max(layer.strides) > 1
    and layer.groups == 1
    and layer.data_format == 'channels_last'
    and layer.kernel.shape[2] < _BLOCK
  )


def _is_slow_depthwise(layer: keras.Operation) -> bool:
  """Tells whether `DepthwiseConvolution` replaces a layer."""
  return (
    type(layer) is keras.layers.DepthwiseConv2D
    and (max(layer.kernel_size) > 3 or layer.compute_dtype == 'bfloat16')
    and layer.strides[0] == layer.strides[1]
    and tuple(layer.dilation_rate) == (1, 1)
    and layer.data_format == 'channels_last'
    and not _has_accelerator()
  )


def _is_slow_relu6(layer: keras.Operation) -> bool:
  """Tells whether `Relu6` replaces a layer."""
  if type(layer) is keras.layers.ReLU:
    is_relu6 = (
      layer.max_value == 6 and not layer.negative_slope and not layer.threshold
    )
  else:
    is_relu6 = (
      type(layer) is keras.layers.Activation
      and layer.activation is keras.activations.relu6
    )
  return (
    is_relu6 and layer.compute_dtype == 'bfloat16' and not _has_accelerator()
  )


def _has_accelerator() -> bool:
  """Tells whether a device has another library than oneDNN."""
  devices = tf.config.list_logical_devices()
  return any(device.device_type in ('GPU', 'TPU') for device in devices)
