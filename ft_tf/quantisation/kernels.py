"""The arithmetic of XNNPACK's int8 kernels, which run a file in LiteRT.

A sum of rounded real numbers now and then ends on the other side of a half than
the kernel's. Here the numbers are those of the kernels, in the order of their
operations: whole numbers, scales in float32, products rounded half to even,
sums with factors of 21 bits and rounded half up
(https://github.com/google/XNNPACK, `src/configs` and `src/reference`).

Nothing here has a gradient. The clamp of a relu is the caller's.
"""

from typing import NamedTuple

import tensorflow as tf

from ft_tf.quantisation import quantisers

_FACTOR_BITS = 20  # of the larger factor of a sum, behind its first bit


class Grid(NamedTuple):
  """How a tensor of a file holds real numbers.

  Attributes:
    scale: Between two values, a float32 scalar.
    zero: The int8 that is 0, as a float32 scalar.
  """

  scale: tf.Tensor
  zero: tf.Tensor


class Integers(NamedTuple):
  """A tensor of a file.

  Attributes:
    steps: The int8 less the grid's zero; whole numbers, float32.
    grid: Its grid.
  """

  steps: tf.Tensor
  grid: Grid

  def values(self) -> tf.Tensor:
    """Returns the real numbers."""
    return self.steps * self.grid.scale


def grid(low: tf.Tensor, high: tf.Tensor) -> Grid:
  """Returns the grid that the converter makes of a range with zero in it."""
  low, high = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
  scale = (high - low) / quantisers.LEVELS
  zero = tf.clip_by_value(tf.round(-low / scale), 0, quantisers.LEVELS) - 128
  return Grid(tf.cast(scale, tf.float32), tf.cast(zero, tf.float32))


def read(values: tf.Tensor, values_grid: Grid) -> Integers:
  """Returns values that lie on a grid, but for float32's last digits."""
  return Integers(tf.round(values / values_grid.scale), values_grid)


def constant(values: tf.Tensor | float) -> Integers:
  """Returns a constant of a sum or product: its range is its own, with zero."""
  values = tf.convert_to_tensor(values, tf.float32)
  return read(values, grid(*quantisers.constant_range(values)))


def whole(values: tf.Tensor, *scales: tf.Tensor) -> tf.Tensor:
  """Returns a bias in whole units of a product of scales, float64."""
  return tf.round(tf.cast(values, tf.float64) / _product(scales))


def real(steps: tf.Tensor, *scales: tf.Tensor) -> tf.Tensor:
  """Returns the real numbers of whole units, float32; see `whole`."""
  return tf.cast(steps * _product(scales), tf.float32)


def _product(scales):
  one, other = (tf.cast(scale, tf.float64) for scale in scales)
  return one * other


def requantise(sums: tf.Tensor, unit: tf.Tensor, output: Grid) -> Integers:
  """Returns whole sums on a grid, as convolutions and dense layers do.

  Args:
    sums: Whole numbers, float32.
    unit: The real number that 1 of them is, by channel or for all.
    output: The grid.
  """
  return _clamp(tf.round(sums * (unit / output.scale)), output)


def add(a: Integers, b: Integers, output: Grid, *, sign: int = 1) -> Integers:
  """Returns a + b, or with `sign` -1 a - b."""
  ratios = tf.stack([a.grid.scale, b.grid.scale]) / output.scale
  # The power of 2 at or below the larger ratio: its bits of exponent.
  bits = tf.bitcast(tf.reduce_max(ratios), tf.int32) & 0x7F800000
  power = tf.cast(tf.bitcast(bits, tf.float32), tf.float64)
  unit = power * 2.0**-_FACTOR_BITS
  # float64 holds all of what follows exactly.
  factors = tf.round(tf.cast(ratios, tf.float64) / unit)
  total = tf.cast(a.steps, tf.float64) * factors[0]
  total += tf.cast(b.steps, tf.float64) * (sign * factors[1])
  steps = tf.floor(total * unit + 0.5)
  return _clamp(tf.cast(steps, tf.float32), output)


def multiply(a: Integers, b: Integers, output: Grid) -> Integers:
  """Returns a * b."""
  return requantise(a.steps * b.steps, a.grid.scale * b.grid.scale, output)


def mean(x: Integers, output: Grid) -> Integers:
  """Returns means over height and width, with both axes kept."""
  count = tf.cast(tf.reduce_prod(tf.shape(x.steps)[1:3]), tf.float32)
  # Of the int8 themselves: the zeros are taken off before the rounding.
  sums = tf.reduce_sum(x.steps + x.grid.zero, [1, 2], keepdims=True)
  factor = x.grid.scale / output.scale * (1 / count)
  zero = output.zero - x.grid.zero * count * factor
  return _clamp(tf.round(sums * factor + zero) - output.zero, output)


def sigmoid(x: Integers, output: Grid) -> Integers:
  """Returns sigmoids, by a table of all int8 values."""
  steps = tf.range(-128.0, 128.0) - x.grid.zero
  arguments = tf.cast(steps * x.grid.scale, tf.float64)
  powers = tf.exp(tf.clip_by_value(arguments, -100, 100))
  values = tf.cast(powers / (1 + powers), tf.float32)
  table = quantise(values, output)
  indices = tf.cast(x.steps + x.grid.zero + 128, tf.int32)
  return Integers(tf.gather(table.steps, indices), output)


def relu6(x: Integers) -> Integers:
  """Returns the values that relu6 leaves, as the clamp of a kernel."""
  highest = tf.round(6 / x.grid.scale)
  return Integers(tf.clip_by_value(x.steps, 0, highest), x.grid)


def quantise(values: tf.Tensor, output: Grid) -> Integers:
  """Returns real numbers on a grid, as a relu of its own does."""
  rounded = tf.round(values * (1 / output.scale) + output.zero)
  return _clamp(rounded - output.zero, output)


def _clamp(steps, output):
  low, high = -128 - output.zero, 127 - output.zero
  return Integers(tf.clip_by_value(steps, low, high), output)
