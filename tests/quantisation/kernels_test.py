"""The arithmetic of int8 kernels against LiteRT's, for all values."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from ai_edge_litert import schema_py_generated as schema

from ft_tf.quantisation import kernels
from tests import kernel_files

_CODES = schema.BuiltinOperator
_ALL = np.arange(-128, 128)
# Every pair of two int8 values.
_A = np.repeat(_ALL, 256).reshape(1, 16, 16, 256).astype(np.int8)
_B = np.tile(_ALL, 256).reshape(1, 16, 16, 256).astype(np.int8)


def _grid(scale, zero):
  return kernels.Grid(tf.constant(scale, tf.float32), tf.constant(float(zero)))


def _integers(values, scale, zero):
  return kernels.Integers(
    tf.constant(values.astype(np.float32) - zero), _grid(scale, zero)
  )


def _int8(integers):
  return integers.steps.numpy() + integers.grid.zero.numpy()


class PairsTest(parameterized.TestCase):
  """Sums and products of every pair of values, on some grids."""

  @parameterized.product(
    ratios=((0.7, 1.3), (0.031, 1.9), (3.1, 0.02), (0.5, 0.5)),
    kind=('sum', 'difference', 'sum with a constant', 'sum with relu6'),
  )
  def test_sums(self, ratios, kind):
    out, zeros = 0.037, (-128, 17, -40)
    a = (_A, out * ratios[0], zeros[0])
    constant = kind == 'sum with a constant'
    b = (_B[:1, :1, :1] if constant else _B, out * ratios[1], zeros[1])
    if kind == 'difference':
      code, options, sign = _CODES.SUB, schema.SubOptionsT(), -1
    else:
      code, options, sign = _CODES.ADD, schema.AddOptionsT(), 1
    found = kernels.add(
      _integers(*a), _integers(*b), _grid(out, zeros[2]), sign=sign
    )
    if kind == 'sum with relu6':
      options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
      found = kernels.relu6(found)
    expected = kernel_files.run(
      code,
      [kernel_files.Tensor(*a), kernel_files.Tensor(*b, is_constant=constant)],
      kernel_files.Tensor(_A, out, zeros[2]),
      options,
    )
    np.testing.assert_array_equal(_int8(found), expected)

  @parameterized.parameters(
    (0.02, 1 / 256, 0.0113, False),
    (0.05, 0.031, 0.21, False),
    (0.05, 0.031, 0.0507, True),
    (0.25, 0.25, 0.125, False),  # Many products are halves.
  )
  def test_products(self, scale_a, scale_b, out, constant):
    a = (_A, scale_a, 33)
    b = (_B[:1, :1, :1] if constant else _B, scale_b, -128)
    found = kernels.multiply(_integers(*a), _integers(*b), _grid(out, -90))
    expected = kernel_files.run(
      _CODES.MUL,
      [kernel_files.Tensor(*a), kernel_files.Tensor(*b, is_constant=constant)],
      kernel_files.Tensor(_A, out, -90),
      schema.MulOptionsT(),
    )
    np.testing.assert_array_equal(_int8(found), expected)


class OtherKernelsTest(parameterized.TestCase):
  @parameterized.parameters((7, 7, 0.4), (8, 8, 1.0), (5, 3, 0.2), (2, 2, 0.7))
  def test_means(self, height, width, ratio):
    rng = np.random.default_rng(0)
    shape = (1, height, width, 500)
    x = (rng.integers(-128, 128, shape).astype(np.int8), 0.05, 20)
    options = schema.ReducerOptionsT()
    options.keepDims = True
    axes = kernel_files.Tensor(np.array([1, 2], np.int32), is_constant=True)
    found = kernels.mean(_integers(*x), _grid(0.05 * ratio, -3))
    expected = kernel_files.run(
      _CODES.MEAN,
      [kernel_files.Tensor(*x), axes],
      kernel_files.Tensor(x[0][:, :1, :1], 0.05 * ratio, -3),
      options,
    )
    np.testing.assert_array_equal(_int8(found), expected)

  @parameterized.parameters((0.04, 14), (0.2, -128), (0.9, 127))
  def test_sigmoid(self, scale, zero):
    x = _ALL.astype(np.int8).reshape(1, 1, 1, 256)
    found = kernels.sigmoid(_integers(x, scale, zero), _grid(1 / 256, -128))
    expected = kernel_files.run(
      _CODES.LOGISTIC,
      [kernel_files.Tensor(x, scale, zero)],
      kernel_files.Tensor(x, 1 / 256, -128),
    )
    np.testing.assert_array_equal(_int8(found), expected)

  @parameterized.parameters(
    (_CODES.RELU, tf.nn.relu), (_CODES.RELU6, tf.nn.relu6)
  )
  def test_relu_of_its_own(self, code, activate):
    x = _ALL.astype(np.int8).reshape(1, 1, 1, 256)
    values = activate(_integers(x, 0.071, -31).values())
    found = kernels.quantise(values, _grid(0.047, -120))
    expected = kernel_files.run(
      code,
      [kernel_files.Tensor(x, 0.071, -31)],
      kernel_files.Tensor(x, 0.047, -120),
    )
    np.testing.assert_array_equal(_int8(found), expected)

  def test_weighted_sums(self):
    rng = np.random.default_rng(0)
    x = (rng.integers(-128, 128, (1, 32, 32, 64)).astype(np.int8), 0.021, 9)
    scales = rng.uniform(0.001, 0.02, 32).astype(np.float32)
    scales[:4] = 0.2 / 0.021 / 2048  # Every other sum is a half.
    weights = rng.integers(-127, 128, (32, 1, 1, 64)).astype(np.int8)
    bias = rng.integers(-200_000, 200_000, 32).astype(np.int32)
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = 1
    options.padding = schema.Padding.VALID
    expected = kernel_files.run(
      _CODES.CONV_2D,
      [
        kernel_files.Tensor(*x),
        kernel_files.Tensor(weights, scales, is_constant=True),
        kernel_files.Tensor(bias, scales * np.float32(x[1]), is_constant=True),
      ],
      kernel_files.Tensor(np.zeros((1, 32, 32, 32), np.int8), 0.2, -7),
      options,
    )
    given = _integers(*x)
    sums = given.steps.numpy() @ weights[:, 0, 0].T.astype(np.float32) + bias
    found = kernels.requantise(
      tf.constant(sums.astype(np.float32)),
      given.grid.scale * scales,
      _grid(0.2, -7),
    )
    np.testing.assert_array_equal(_int8(found), expected)


class GridTest(parameterized.TestCase):
  @parameterized.parameters(
    (0.0, 255.0, 1.0, -128),
    (-1.0, 1.0, 2 / 255, 0),
    (-0.5, 0.0, 0.5 / 255, 127),
  )
  def test_scale_and_zero_point(self, low, high, scale, zero):
    found = kernels.grid(tf.constant(low), tf.constant(high))
    self.assertEqual(found.scale.numpy(), np.float32(scale))
    self.assertEqual(found.zero.numpy(), zero)

  @parameterized.parameters(3.0, -3.0, 1 / 6, 0.0)
  def test_constant_of_one_number_is_kept(self, number):
    found = kernels.constant(number)
    self.assertAlmostEqual(float(found.values()), number, places=6)

  def test_values_that_lie_on_a_grid_are_read(self):
    integers = _integers(_ALL, 0.0371, 5)
    again = kernels.read(integers.values() * (1 + 1e-6), integers.grid)
    np.testing.assert_array_equal(again.steps, integers.steps)


if __name__ == '__main__':
  absltest.main()
