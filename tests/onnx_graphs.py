"""Small ONNX graphs that tests write, and the one that PyTorch wrote.

Whoever calls this has checked `MISSING`.
"""

import importlib.util
import os
from typing import Any

import numpy as np

MISSING = ', '.join(
  name
  for name in ('onnx', 'onnxruntime')
  if importlib.util.find_spec(name) is None
)
_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'onnx_files')
CNN = os.path.join(_FOLDER, 'cnn.onnx')  # see make_cnn.py beside it


def expected() -> dict[str, np.ndarray]:
  """Returns what PyTorch computes for some images, as make_cnn.py wrote it."""
  with np.load(os.path.join(_FOLDER, 'cnn.npz')) as file:
    return dict(file)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
  """Returns a node; names are separated by spaces."""
  from onnx import helper  # noqa: PLC0415

  return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def model(
  nodes: list[Any],
  *,
  image: tuple[int | str, ...] = ('n', 3, 8, 8),
  outputs: str = 'logits',
  weights: dict[str, np.ndarray] | None = None,
  dtype: str = 'FLOAT',
  more_inputs: str = '',
) -> Any:
  """Returns a ModelProto of an input `image`, with open outputs.

  Args:
    nodes: Of the graph.
    image: The shape of the input; a text is a size that is left open.
    outputs: Names of the outputs.
    weights: Its weights; those of `classifier` are added.
    dtype: ONNX's type of the input.
    more_inputs: Names of further inputs.
  """
  import onnx  # noqa: PLC0415

  helper = onnx.helper
  kind = getattr(onnx.TensorProto, dtype)
  inputs = [helper.make_tensor_value_info('image', kind, image)]
  inputs += [
    helper.make_tensor_value_info(name, kind, image)
    for name in more_inputs.split()
  ]
  graph = helper.make_graph(
    nodes,
    'graph',
    inputs,
    [
      helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
      for name in outputs.split()
    ],
    [
      onnx.numpy_helper.from_array(value, name)
      for name, value in {**_WEIGHTS, **(weights or {})}.items()
    ],
  )
  return helper.make_model(
    graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9
  )


_RNG = np.random.default_rng(0)
_WEIGHTS = {
  'kernel': _RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
  'matrix': _RNG.normal(size=(4, 3)).astype(np.float32),
}


def classifier(source: str = 'image', logits: str = 'logits') -> list[Any]:
  """Returns nodes from a map `[N, 3, H, W]` to logits of 3 classes.

  Their maps are `conv` and `relu`, of 4 channels.
  """
  return [
    node('Conv', f'{source} kernel', 'conv', pads=[1, 1, 1, 1]),
    node('Relu', 'conv', 'relu'),
    node('GlobalAveragePool', 'relu', 'pooled'),
    node('Flatten', 'pooled', 'flat'),
    node('MatMul', 'flat matrix', logits),
  ]


def write(path: str, proto: Any) -> str:
  """Writes a model; returns the path."""
  with open(path, 'wb') as file:
    file.write(proto.SerializeToString())
  return path
