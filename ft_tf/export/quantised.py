"""The int8 file of a twin: its weights and ranges, and no calibration images.

The converter turns fake quantisation into the scales of a file, and is not
trusted: the file is read afterwards and held against the twin.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from ft_tf import errors
from ft_tf.export import convert, saved_model
from ft_tf.quantisation import quantisers, steps
from ft_tf.quantisation import twin as twins

INPUT_TYPES = {'uint8': tf.uint8, 'int8': tf.int8}
_INTEGERS = {
  getattr(schema.TensorType, name): np.dtype(name.lower())
  for name in ('INT8', 'UINT8', 'INT32', 'INT64')
}
# Of a scale. float32 holds 7 digits, and the converter divides once more.
_TOLERANCE = 1e-5


def tflite(twin: twins.Twin, *, io: str = 'uint8') -> bytes:
  """Returns the int8 file of a twin, for one image.

  Args:
    twin: Its ranges are set.
    io: 'uint8': raw images, scale 1 and zero point 0, to uint8 logits; 'int8':
      images less 128, zero point -128, to int8 logits.

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
  with tempfile.TemporaryDirectory() as scratch, twin.frozen():
    path = os.path.join(scratch, 'saved_model')
    module = tf.Module()
    module.serve = tf.function(
      lambda image: {'logits': twin.model(image, training=False)},
      input_signature=[tf.TensorSpec(shape, tf.float32, 'image')],
    )
    # The trace holds them, though as constants.
    module.weights = [variable.value for variable in twin.model.variables]
    tf.saved_model.save(
      module, path, signatures={saved_model.SIGNATURE: module.serve}
    )

    def configure(converter):
      # Not TFLITE_BUILTINS_INT8, which asks for calibration images.
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.inference_input_type = dtype
      converter.inference_output_type = dtype

    return convert.convert_saved(path, configure, twin.student.name)


def check(content: bytes, twin: twins.Twin) -> None:
  """Holds a file against its twin.

  Args:
    content: A TFLite model that `tflite` made.
    twin: What it was made of.

  Raises:
    UsageError: an operation is not integer, an activation has another scale
      than a place of the twin, a place has no activation, or the weights are
      others; with the name of the layer.
  """
  file = _File(content)
  name = twin.student.name
  for tensor in file.floats():
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
    if place in twin.ranges_by_place() and not any(
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
  constants = list(file.weights())
  for step in twin.steps:
    if not isinstance(step, steps.Weighted):
      continue
    integers, scales = step.integers()
    if not any(
      values.size == integers.size
      and len(found) == len(scales)
      and np.allclose(found, scales, rtol=_TOLERANCE, atol=0)
      and np.array_equal(values.ravel(), integers.ravel())
      for values, found in constants
    ):
      raise errors.UsageError(
        f'the int8 file of {twin.student.name} has other weights than the '
        f'layer {step.name}; leave out int8, or give a student without that '
        'layer'
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
  """Returns the layer that the name of a file's tensor tells of."""
  # MODEL_1/LAYER_1/range_1/FakeQuantWithMinMaxVars;MODEL_1/...
  parts = [re.sub(r'_\d+$', '', part) for part in re.split('[/;]', tensor)]
  names = {step.name for step in twin.steps}
  return next(
    (part for part in (*re.split('[/;]', tensor), *parts) if part in names),
    tensor,
  )


class _File:
  """The tensors of a TFLite model of one subgraph."""

  def __init__(self, content: bytes):
    self._model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = self._model.subgraphs
    self._tensors = graph.tensors
    self._used = sorted(
      {
        int(index)
        for operator in graph.operators
        for index in (*operator.inputs, *operator.outputs)
        if index >= 0
      }
    )

  def floats(self) -> Iterator[str]:
    """Yields the names of tensors that are not integer."""
    for tensor in self._named(self._used):
      if tensor.type not in _INTEGERS:
        yield _text(tensor.name)

  def activation_scales(self) -> dict[str, tuple[float, int]]:
    """Returns scale and zero point, as of int8, of what is computed."""
    scales = {}
    for tensor in self._named(self._used):
      dtype = _INTEGERS[tensor.type]
      if dtype.itemsize > 1 or self._data(tensor) is not None:
        continue
      (scale,), (zero,) = (
        tensor.quantization.scale,
        tensor.quantization.zeroPoint,
      )
      shift = 128 if dtype == np.uint8 else 0
      scales[_text(tensor.name)] = float(scale), int(zero) - shift
    return scales

  def weights(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields values and scales of the int8 constants."""
    for tensor in self._named(self._used):
      data = self._data(tensor)
      if _INTEGERS[tensor.type] == np.int8 and data is not None:
        yield data.view(np.int8), np.asarray(tensor.quantization.scale)

  def _named(self, indices: Iterable[int]) -> Iterator[schema.TensorT]:
    return (self._tensors[index] for index in indices)

  def _data(self, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the bytes of a constant; None of what is computed."""
    data = self._model.buffers[tensor.buffer].data
    return None if data is None else np.asarray(data, np.uint8)


def _text(name: bytes | str) -> str:
  return name.decode() if isinstance(name, bytes) else name
