"""The int8 file of a twin: its weights and ranges, and no calibration images.

The converter turns fake quantisation into the scales of a file, and is not
trusted: the file is read afterwards and held against the twin.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from ft_tf import errors
from ft_tf.export import constant_graph, convert
from ft_tf.quantisation import quantisers, weighted
from ft_tf.quantisation import twin as twins

INPUT_TYPES = {'uint8': tf.uint8, 'int8': tf.int8}
_INTEGERS = {
  getattr(schema.TensorType, name): np.dtype(name.lower())
  for name in ('INT8', 'UINT8', 'INT32', 'INT64')
}
# The axis of the output channels in the weights of each operation.
_WEIGHTED = {
  schema.BuiltinOperator.CONV_2D: 0,
  schema.BuiltinOperator.FULLY_CONNECTED: 0,
  schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3,
}
# The mean and deviation by which bytes less 128 become 0 to 255.
_IMAGE_STATISTICS = -128.0, 1.0
_LARGE_BIAS = 2**29  # The converter keeps a bias within 2**30.
# Of a scale. float32 holds 7 digits, and the converter divides once more.
_TOLERANCE = 1e-5


def tflite(twin: twins.Twin, *, io: str = 'uint8') -> bytes:
  """Returns the int8 file of a twin, for one image.

  Args:
    twin: Its ranges are set.
    io: 'uint8': raw images, scale 1 and zero point 0, to uint8 logits; 'int8':
      images less 128, zero point -128, to int8 logits. Where the twin leaves
      the logits in float they are float32.

  Raises:
    UsageError: a weight or a range is not finite; the converter fails; or the
      file is not what the twin computes, with the name of the layer.
  """
  twin.check_finite()
  content = _convert(twin, INPUT_TYPES[io])
  check(content, twin)
  return content


def _convert(twin: twins.Twin, dtype: tf.DType) -> bytes:
  shape = (1, *twin.model.input_shape[1:])
  with twin.frozen():
    traced = constant_graph.trace(
      lambda images: twin.model(images, training=False),
      tf.TensorSpec(shape, tf.float32, 'image'),
    )

  def configure(converter):
    # Not TFLITE_BUILTINS_INT8, which asks for calibration images.
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_type = tf.int8
    converter.quantized_input_stats = {'image': _IMAGE_STATISTICS}
    converter.inference_input_type = dtype
    converter.inference_output_type = tf.float32 if twin.gives_reals else dtype

  return convert.convert_graph(traced, configure, twin.student.name)


def check(content: bytes, twin: twins.Twin) -> None:
  """Holds a file against its twin.

  Args:
    content: A TFLite model that `tflite` made.
    twin: What it was made of.

  Raises:
    UsageError: an operation is not integer that the twin does not leave in
      float, an activation has another scale than a place of the twin, a place
      has no activation, or the weights are others; with the name of the layer.
  """
  file = _File(content)
  name = twin.student.name
  for tensor in file.floats(twin):
    raise errors.UsageError(
      f'the int8 file of {name} is not integer throughout: {tensor} is a float '
      f'tensor of the layer {_layer_of(tensor, twin)}; leave out int8, or give '
      'a student without that layer'
    )
  expected = dict(_expected_scales(twin))
  scales = file.activation_scales()
  for tensor, scale in scales.items():
    if not any(_same(scale, each) for each in expected.values()):
      raise errors.UsageError(
        f'the int8 file of {name} has the scale {scale[0]:g} and zero point '
        f'{scale[1]} behind the layer {_layer_of(tensor, twin)}, where the '
        'student was not quantised; leave out int8, or give a student without '
        'that layer'
      )
  for place, scale in expected.items():
    if twin.is_in_file(place) and not any(
      _same(scale, each) for each in scales.values()
    ):
      raise errors.UsageError(
        f'the int8 file of {name} has no tensor of scale {scale[0]:g} and zero '
        f'point {scale[1]}, as the student has behind {place}; leave out int8, '
        'or give a student without that layer'
      )
  _check_weights(file, twin)


def _check_weights(file: '_File', twin: twins.Twin) -> None:
  """Raises a UsageError if a layer's weights are not in a file."""
  kernels = list(file.kernels())
  for step in twin.steps:
    in_float = step.role.group in twin.float_groups
    if in_float or not isinstance(step, weighted.Weighted):
      continue
    integers, scales = step.integers()
    if not any(kernel.holds(integers, scales) for kernel in kernels):
      raise errors.UsageError(
        f'the int8 file of {twin.student.name} has other weights than the '
        f'layer {step.name}; leave out int8, or give a student without that '
        'layer'
      )


@dataclasses.dataclass(frozen=True)
class _Kernel:
  """The weights of one operation of a file.

  Attributes:
    values: `[N, O]` int8, the output channels last.
    scales: `[O]`, or `[1]`.
    bias: int32 `[O]`.
  """

  values: np.ndarray
  scales: np.ndarray
  bias: np.ndarray

  def holds(self, integers: np.ndarray, scales: np.ndarray) -> bool:
    """Tells whether they are the twin's, of `weighted.Weighted.integers`.

    The scale of a channel of next to no weights may be larger: the converter
    raises it until the bias, whose unit it is part of, fits 31 bits.
    """
    if self.values.shape != integers.shape or len(self.scales) != len(scales):
      return False
    same = np.isclose(self.scales, scales, rtol=_TOLERANCE, atol=0)
    raised = self.scales > scales
    if len(scales) > 1:
      raised &= np.abs(self.bias) >= _LARGE_BIAS
    else:
      raised &= np.abs(self.bias).max() >= _LARGE_BIAS
    ratio = np.where(same, 1.0, scales / self.scales)
    return bool((same | raised).all()) and np.array_equal(
      self.values, np.round(integers * ratio)
    )


def _expected_scales(
  twin: twins.Twin,
) -> Iterator[tuple[str, tuple[float, int]]]:
  """Yields name, scale and zero point, of int8, of everything rounded."""
  for place, (low, high) in twin.ranges_by_place().items():
    yield place, quantisers.scale_and_zero(low, high)
  yield 'the image', quantisers.scale_and_zero(*quantisers.IMAGE)
  yield 'a sigmoid', quantisers.scale_and_zero(*quantisers.SIGMOID)


def _same(one: tuple[float, int], other: tuple[float, int]) -> bool:
  return one[1] == other[1] and bool(
    np.isclose(one[0], other[0], rtol=_TOLERANCE, atol=0)
  )


def _layer_of(tensor: str, twin: twins.Twin) -> str:
  """Returns the layer that the name of a file's tensor tells of.

  Args:
    tensor: Such as `MODEL_1/LAYER_1/add;MODEL_1/LAYER_1/convolution`, where 1
      counts the traces.
    twin: What the file was made of.
  """
  groups = {step.name: step.role.group for step in twin.steps}
  for part in tensor.split(';'):
    _, _, rest = part.partition('/')
    layer = rest.partition('/')[0]
    for name in (re.sub(r'_\d+$', '', layer), layer):
      if name in groups:
        return groups[name]
  return tensor


class _File:
  """The tensors of a TFLite model of one subgraph."""

  def __init__(self, content: bytes):
    self._model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = self._model.subgraphs
    self._tensors, self._operators = graph.tensors, graph.operators
    self._outputs = [int(index) for index in graph.outputs]
    self._used = list(
      dict.fromkeys(
        int(index)
        for operator in graph.operators
        for index in (*operator.inputs, *operator.outputs)
      )
    )

  def floats(self, twin: twins.Twin) -> Iterator[str]:
    """Yields the names of what a file computes in float, its twin in integers.

    Conversions come last, and are allowed beside layers in float.
    """
    for operator in sorted(self._operators, key=self._is_conversion):
      outputs = list(self._named(operator.outputs))
      tensors = (*outputs, *self._named(operator.inputs))
      if all(tensor.type in _INTEGERS for tensor in tensors):
        continue
      name = _text(outputs[0].name)
      if twin.float_groups and (
        self._is_conversion(operator)
        or _layer_of(name, twin) in twin.float_groups
        # The converter gives it the name of the signature's output.
        or (twin.gives_reals and int(operator.outputs[0]) in self._outputs)
      ):
        continue
      yield name

  def _code(self, operator: schema.OperatorT) -> int:
    """Returns the `BuiltinOperator` of an operation."""
    return int(self._model.operatorCodes[operator.opcodeIndex].builtinCode)

  def _is_conversion(self, operator: schema.OperatorT) -> bool:
    return self._code(operator) in (
      schema.BuiltinOperator.QUANTIZE,
      schema.BuiltinOperator.DEQUANTIZE,
    )

  def activation_scales(self) -> dict[str, tuple[float, int]]:
    """Returns scale and zero point, as of int8, of what is computed."""
    scales = {}
    for tensor in self._named(self._used):
      dtype = _INTEGERS.get(tensor.type)
      if dtype is None or dtype.itemsize > 1 or self._data(tensor) is not None:
        continue
      (scale,), (zero,) = (
        tensor.quantization.scale,
        tensor.quantization.zeroPoint,
      )
      shift = 128 if dtype == np.uint8 else 0
      scales[_text(tensor.name)] = float(scale), int(zero) - shift
    return scales

  def kernels(self) -> Iterator[_Kernel]:
    """Yields the weights of convolutions and dense layers."""
    for operator in self._operators:
      code = self._code(operator)
      tensors = list(self._named(operator.inputs[:3]))
      if code not in _WEIGHTED or len(tensors) < 2:
        continue
      _, kernel, *biases = tensors
      values = self._data(kernel)
      if values is None or kernel.type != schema.TensorType.INT8:
        continue
      channels = kernel.shape[_WEIGHTED[code]]
      bias = np.zeros(channels, np.int32)  # The converter leaves zeros out.
      for each in biases:
        data = self._data(each)
        bias = bias if data is None else data.view(np.int32)
      values = values.view(np.int8).reshape(-1, channels)
      if _WEIGHTED[code] == 0:
        values = values.reshape(channels, -1).T
      scales = np.asarray(kernel.quantization.scale)
      yield _Kernel(values, scales, bias.astype(np.int64))

  def _named(self, indices: Iterable[int]) -> Iterator[schema.TensorT]:
    return (self._tensors[index] for index in indices if index >= 0)

  def _data(self, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the bytes of a constant; None of what is computed."""
    data = self._model.buffers[tensor.buffer].data
    return None if data is None else np.asarray(data, np.uint8)


def _text(name: bytes | str) -> str:
  return name.decode() if isinstance(name, bytes) else name
