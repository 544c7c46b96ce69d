"""A Keras student as an ONNX file: one input, one output, batch 1.

Keras's own `model.export(format='onnx')` makes inputs of what Normalization
holds, its mean and variance. Here every weight is a constant of the graph that
tf2onnx reads.
"""

import importlib
import importlib.util
import logging
import types
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from ft_tf import errors, native_output
from ft_tf.export import constant_graph

INPUT = 'image'
OUTPUT = 'logits'
_OPSET = 15  # of 2021; ONNX Runtime reads it from 1.10 on


def onnx_model(twin: keras.Model) -> bytes:
  """Returns an ONNX model of a float32 twin, as one serialised ModelProto.

  Args:
    twin: From raw images `[B, H, W, C]` (0..255, uint8 or float32) to logits,
      as of `convert.float32_twin`.

  Returns:
    A model with the input `image`, `[1, H, W, C]` of the twin's dtype, and the
    output `logits`, `[1, classes]` float32.

  Raises:
    UsageError: tf2onnx is not installed, or has no form for some of the
      twin's operations, which are named.
  """
  tf2onnx = _tf2onnx()
  traced = constant_graph.of_model(twin)
  (source,), (target,) = traced.inputs, traced.outputs
  try:
    with native_output.held():
      model, _ = tf2onnx.convert.from_graph_def(
        _without_scalar_terms(traced),
        name=twin.name,
        input_names=[source.name],
        output_names=[target.name],
        opset=_OPSET,
      )
  except Exception as error:  # tf2onnx raises many kinds.
    raise errors.UsageError(_refusal(twin, str(error))) from error
  # It writes what it has no form for as if ONNX had it.
  onnx = importlib.import_module('onnx')  # which tf2onnx asks for
  foreign = {
    node.op_type
    for node in model.graph.node
    if node.domain or not onnx.defs.has(node.op_type)
  }
  if foreign:
    raise errors.UsageError(
      _refusal(twin, f'ONNX has no {", ".join(sorted(foreign))}')
    )
  _rename(model.graph, {source.name: INPUT, target.name: OUTPUT})
  return model.SerializeToString()


def check_installed() -> None:
  """Raises `UsageError` unless ONNX files can be written and run."""
  for name in ('tf2onnx', 'onnx', 'onnxruntime'):
    if importlib.util.find_spec(name) is None:
      raise errors.UsageError(_lacking(f'there is no package {name}'))


def _lacking(reason: str) -> str:
  return (
    f'an ONNX file needs tf2onnx ({reason}): run `pip install tf2onnx onnx '
    'onnxruntime`, or leave onnx out of --formats'
  )


def _tf2onnx() -> types.ModuleType:
  """Returns the package tf2onnx, which logs nothing from now on."""
  try:
    package = importlib.import_module('tf2onnx')
  except ImportError as error:
    raise errors.UsageError(_lacking(str(error))) from error
  # What fails is raised; the rest is of calls that are deprecated within.
  logging.getLogger('tf2onnx').setLevel(logging.CRITICAL)
  logging.getLogger('tensorflow').setLevel(logging.ERROR)
  return package


def _without_scalar_terms(graph: tf.Graph) -> Any:
  """Returns the GraphDef with vectors of one element for added scalars.

  tf2onnx 1.17 takes what is added to a convolution for its bias, fails on a
  scalar, such as the 3 of hard sigmoid, and then leaves every transposition in
  place, which costs half of the speed.
  """
  added: dict[str, bool] = {}
  for operation in graph.get_operations():
    for tensor in operation.inputs:
      if tensor.op.type == 'Const' and tensor.shape.rank == 0:
        others = [each for each in operation.inputs if each is not tensor]
        fits = operation.type in ('Add', 'AddV2') and all(
          other.shape.rank for other in others
        )
        added[tensor.op.name] = added.get(tensor.op.name, True) and fits
  definition = graph.as_graph_def()
  for node in definition.node:
    if added.get(node.name):
      value = tf.make_ndarray(node.attr['value'].tensor)
      node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value[None]))
  return definition


def _rename(graph: Any, names: Mapping[str, str]) -> None:
  """Gives tensors of an ONNX graph other names, wherever they stand."""
  for value in (*graph.input, *graph.output):
    value.name = names.get(value.name, value.name)
  for node in graph.node:
    for ends in (node.input, node.output):
      ends[:] = [names.get(name, name) for name in ends]


def _refusal(twin: keras.Model, reason: str) -> str:
  first = (reason.strip().splitlines() or ['no reason given'])[0]
  return (
    f'{twin.name} cannot be converted to ONNX ({first}): leave onnx out of '
    '--formats, or give a network of operations that ONNX has'
  )
