"""int8 in float32: values rounded as a file stores them.

Activations have one range per place, `[low, high]` with 256 steps, and zero is
one of them (Jacob et al. 2018, arXiv:1712.05877). Weights are symmetric, the
scale max|w| / 127, for each output channel or for the whole tensor.
"""

from collections.abc import Callable, Collection, Mapping

import keras
import numpy as np
import tensorflow as tf

LEVELS = 255  # steps of an activation's range
SIGMOID = (0.0, 255 / 256)  # LiteRT fixes the scale 1/256.
IMAGE = (0.0, 255.0)
# The converter widens what is narrower than this to half of it on both sides:
# so are weights and constants here, and no range of a map is as narrow.
_NARROW = 1e-6
_LEAST_RANGE = 2 * _NARROW
_LEAST_WEIGHT = _NARROW / 2
_TIE = 1e-3  # So near, values are halves that float32 does not hold exactly.


class Mode:
  """What a twin's calls do while they are traced.

  Attributes:
    observed: The least and the largest value by place, as tensors, where a call
      records them and rounds nothing; otherwise None.
    frozen: Whether weights and ranges are constants, as in a file.
    weight_scales: 'channel' or 'tensor'.
    in_float: Groups whose values are never rounded.
    switches: By group, whether its values are rounded: a bool, or a bool
      variable that may change after the trace; others are not. None: all are.
    stands: Whether what follows from weights and ranges alone is computed where
      a call is traced, and not in its graph.
  """

  def __init__(self, weight_scales: str, in_float: Collection[str] = ()):
    self.weight_scales = weight_scales
    self.in_float = frozenset(in_float)
    self.switches: Mapping[str, bool | tf.Variable] | None = None
    self.observed: dict[str, tuple[tf.Tensor, tf.Tensor]] | None = None
    self.frozen = self.stands = False

  def rounds_all(self) -> bool:
    """Tells whether every group is rounded, of variables."""
    return (
      self.observed is None
      and not self.frozen
      and self.switches is None
      and not self.in_float
    )

  def constant(self, compute: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Returns what a function of variables computes."""
    if not self.frozen and not self.stands:
      return compute()
    with tf.init_scope():
      value = compute()
    return tf.constant(value.numpy()) if self.frozen else value

  def choose(
    self,
    group: str,
    plain: Callable[[], tf.Tensor],
    rounded: Callable[[], tf.Tensor],
  ) -> tf.Tensor:
    """Returns what `rounded` does for a group that is rounded, or `plain`."""
    if self.observed is not None or group in self.in_float:
      return plain()
    switches = self.switches
    switch = True if switches is None else switches.get(group, False)
    if isinstance(switch, bool):
      return rounded() if switch else plain()
    return tf.cond(switch, rounded, plain)

  def rounded(
    self,
    group: str,
    x: tf.Tensor,
    round_values: Callable[[tf.Tensor], tf.Tensor],
  ) -> tf.Tensor:
    """Returns values rounded, or as they are if their group is not rounded."""
    return self.choose(group, lambda: x, lambda: round_values(x))


class Quantiser(keras.layers.Layer):
  """Rounds the values of one place to its range, which is learned."""

  def __init__(self, place: str, group: str, mode: Mode):
    super().__init__(name='range', dtype='float32')
    self.place, self.group, self.mode = place, group, mode
    self.low = self.add_weight(name='low', shape=(), initializer='zeros')
    self.high = self.add_weight(name='high', shape=(), initializer='ones')
    self.built = True

  def call(self, x: tf.Tensor) -> tf.Tensor:
    if self.mode.observed is not None:
      self.mode.observed[self.place] = tf.reduce_min(x), tf.reduce_max(x)
    return self.mode.rounded(self.group, x, self._round)

  def ends(self) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the range's least and largest value, with zero in between."""
    # A step of training must not take zero out of the range.
    low = tf.minimum(self.low.value, 0.0)
    return low, tf.maximum(self.high.value, low + _LEAST_RANGE)

  def _round(self, x):
    low = self.mode.constant(lambda: self.ends()[0])
    high = self.mode.constant(lambda: self.ends()[1])
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high)


def grid(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the step between two values of a range, and the int8 of zero.

  As training computes them; those of a file are `kernels.grid`.
  """
  scale = (high - low) / LEVELS
  return scale, tf.clip_by_value(tf.round(-low / scale), 0, LEVELS) - 128


def round_between(x: tf.Tensor, low: float, high: float) -> tf.Tensor:
  """Returns values rounded to a fixed range of 256 values."""
  return tf.quantization.fake_quant_with_min_max_args(x, low, high)


def round_constant(values: tf.Tensor) -> tf.Tensor:
  """Returns constants of a sum or product as the file holds them.

  Their range is that of their own values, with zero. The gradient passes.
  """
  return _straight_through(
    values,
    tf.quantization.fake_quant_with_min_max_vars(
      values, *constant_range(values)
    ),
  )


def constant_range(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the range that the converter gives constants."""
  low = tf.minimum(tf.reduce_min(values), 0.0)
  high = tf.maximum(tf.reduce_max(values), 0.0)
  is_narrow = high - low <= _NARROW
  return (
    tf.where(is_narrow, tf.minimum(low, -_NARROW / 2), low),
    tf.where(is_narrow, tf.maximum(high, _NARROW / 2), high),
  )


def round_weights(
  kernel: tf.Tensor, channel_axes: int, scales: str
) -> tf.Tensor:
  """Returns weights on their grid; the gradient passes.

  Args:
    kernel: The channels come last.
    channel_axes: Number of the last axes that count channels: 2 for a depthwise
      kernel `[h, w, C, multiplier]`, 1 for others.
    scales: 'channel' or 'tensor'.
  """
  largest = largest_weights(kernel, channel_axes, scales)
  fake_quant = (
    tf.quantization.fake_quant_with_min_max_vars
    if scales == 'tensor'
    else tf.quantization.fake_quant_with_min_max_vars_per_channel
  )
  rounded = fake_quant(
    _by_channel(kernel, channel_axes), -largest, largest, narrow_range=True
  )
  return _straight_through(kernel, tf.reshape(rounded, kernel.shape))


def largest_weights(
  kernel: tf.Tensor, channel_axes: int, scales: str
) -> tf.Tensor:
  """Returns max|w| `[O]` of the channels, or `[]`; 127 times the scale."""
  values = _by_channel(kernel, channel_axes)
  axes = None if scales == 'tensor' else list(range(len(values.shape) - 1))
  return tf.maximum(tf.reduce_max(tf.abs(values), axes), _LEAST_WEIGHT)


def _by_channel(kernel, channel_axes):
  """Returns weights with one axis of channels, the last."""
  if channel_axes == 1:
    return kernel
  channels = kernel.shape[2] * kernel.shape[3]
  return tf.reshape(kernel, [*kernel.shape[:2], 1, channels])


def round_whole(values: tf.Tensor) -> tf.Tensor:
  """Returns the nearest whole numbers; the gradient passes."""
  return _straight_through(values, tf.round(values))


def round_away(values: tf.Tensor) -> tf.Tensor:
  """Returns the nearest whole numbers, halves away from 0; gradient passes."""
  rounded = tf.sign(values) * tf.floor(tf.abs(values) + 0.5 + _TIE)
  return _straight_through(values, rounded)


def round_bias(bias: tf.Tensor, unit: tf.Tensor) -> tf.Tensor:
  """Returns a bias in whole units, the scale of the sums; gradient passes."""
  return _straight_through(bias, tf.round(bias / unit) * unit)


def weight_scales(kernel: np.ndarray, scales: str) -> np.ndarray:
  """Returns the scales of weights: one for each of the last axis, or one.

  Args:
    kernel: The channels are the last axis.
    scales: 'channel' or 'tensor'.
  """
  axes = None if scales == 'tensor' else tuple(range(kernel.ndim - 1))
  largest = np.abs(kernel).max(axis=axes)
  return np.atleast_1d(np.maximum(largest, _LEAST_WEIGHT)) / 127


def scale_and_zero(low: float, high: float) -> tuple[float, int]:
  """Returns scale and zero point, of int8, of a range with zero in it."""
  low = min(low, 0.0)
  scale = max(high - low, _LEAST_RANGE) / LEVELS
  return scale, int(np.clip(np.round(-low / scale), 0, LEVELS)) - 128


def _straight_through(values, rounded):
  return values + tf.stop_gradient(rounded - values)
