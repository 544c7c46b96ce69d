"""TFLite files of one int8 operation with given scales."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

_VERSION = 3  # of the operations' kernels


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A tensor of a file.

  Attributes:
    values: Of the shape and dtype; what they are counts for constants alone.
    scale: Between two values, one or one for each channel of `axis`.
    zero: The integer that is 0.
    is_constant: Whether the file holds the values.
    axis: That of the channels.
  """

  values: np.ndarray
  scale: Any = None
  zero: int = 0
  is_constant: bool = False
  axis: int = 0


def run(
  code: int,
  inputs: Sequence[Tensor],
  output: Tensor,
  options: Any = None,
) -> np.ndarray:
  """Returns what LiteRT makes of the inputs' values by a file's operation.

  Args:
    code: The `schema.BuiltinOperator`.
    inputs: Its inputs.
    output: Its output's form.
    options: The operation's own.
  """
  interpreter = litert.Interpreter(
    model_content=_file(code, inputs, output, options)
  )
  interpreter.allocate_tensors()
  given = [each for each in inputs if not each.is_constant]
  for details, tensor in zip(
    interpreter.get_input_details(), given, strict=True
  ):
    interpreter.set_tensor(details['index'], tensor.values)
  interpreter.invoke()
  (details,) = interpreter.get_output_details()
  return interpreter.get_tensor(details['index'])


def _file(code, inputs, output, options):
  model = schema.ModelT()
  model.version, model.buffers = 3, [schema.BufferT()]
  graph = schema.SubGraphT()
  graph.tensors = [_tensor(each, model.buffers) for each in (*inputs, output)]
  count = len(inputs)
  graph.inputs = [i for i in range(count) if not inputs[i].is_constant]
  graph.outputs = [count]
  operator = schema.OperatorT()
  operator.inputs, operator.outputs = list(range(count)), [count]
  if options is not None:
    name = type(options).__name__.removesuffix('T')
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
    operator.builtinOptions = options
  graph.operators = [operator]
  operator_code = schema.OperatorCodeT()
  operator_code.builtinCode = operator_code.deprecatedBuiltinCode = code
  operator_code.version = _VERSION
  model.operatorCodes, model.subgraphs = [operator_code], [graph]
  builder = flatbuffers.Builder(1024)
  builder.Finish(model.Pack(builder), b'TFL3')
  return bytes(builder.Output())


def _tensor(form, buffers):
  tensor = schema.TensorT()
  tensor.shape = list(form.values.shape)
  tensor.type = getattr(schema.TensorType, form.values.dtype.name.upper())
  if form.scale is not None:
    scales = np.atleast_1d(np.asarray(form.scale, np.float32))
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = [float(each) for each in scales]
    tensor.quantization.zeroPoint = [form.zero] * len(scales)
    tensor.quantization.quantizedDimension = form.axis
  if form.is_constant:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(form.values.tobytes(), np.uint8)
    buffers.append(buffer)
    tensor.buffer = len(buffers) - 1
  return tensor
