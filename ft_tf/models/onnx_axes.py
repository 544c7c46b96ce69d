"""Which axes of a tensor in an ONNX graph are batch, height, width, channels.

ONNX's convolutions and poolings take `[N, C, H, W]`. Other operations keep the
axes of their input, or move them as a transposition says. So the axes of a
graph's input and of its maps follow from the graph.
"""

from collections.abc import Mapping
from typing import Any

FIRST, LAST = 'NCHW', 'NHWC'
_OF_FIRST = {
  'AveragePool',
  'BatchNormalization',
  'Conv',
  'ConvInteger',
  'ConvTranspose',
  'DepthToSpace',
  'GlobalAveragePool',
  'GlobalLpPool',
  'GlobalMaxPool',
  'GroupNormalization',
  'InstanceNormalization',
  'LRN',
  'LpPool',
  'MaxPool',
  'QLinearConv',
  'SpaceToDepth',
}
# Their output has other axes than their input, or may have.
_UNKNOWN = {
  'Einsum',
  'Expand',
  'Gather',
  'GatherElements',
  'GatherND',
  'If',
  'Loop',
  'Reshape',
  'Scan',
  'ScatterElements',
  'ScatterND',
}


def follow(
  graph: Any, image: str, order: str, ranks: Mapping[str, int]
) -> dict[str, str] | None:
  """Returns the axes of each tensor of rank 4, such as 'NCHW', where known.

  Args:
    graph: A GraphProto.
    image: The name of its input.
    order: The axes that the input is taken to have.
    ranks: Of the tensors, by name.

  Returns:
    None if the input cannot have these axes, because a convolution would then
    see others than it takes.
  """
  orders = {image: order}
  for node in graph.node:
    first = orders.get(node.input[0]) if node.input else None
    if node.op_type in _OF_FIRST:
      if first not in (None, FIRST):
        return None
      after: str | None = FIRST
    elif node.op_type == 'Transpose':
      after = first and _moved(node, first)
    elif node.op_type == 'MatMul':
      # A matrix of weights stands second, and changes the last axis alone.
      keeps = len(node.input) > 1 and ranks.get(node.input[1]) == 2
      after = first if keeps and first and first.endswith('C') else None
    elif node.op_type in _UNKNOWN:
      after = None
    else:
      after = next((orders[x] for x in node.input if x in orders), None)
    if after:
      orders |= {name: after for name in node.output if ranks.get(name) == 4}
  return orders


def _moved(node: Any, order: str) -> str | None:
  for attribute in node.attribute:
    if attribute.name == 'perm':
      axes = attribute.ints
      return ''.join(order[axis] for axis in axes) if len(axes) == 4 else None
  return order[::-1]  # ONNX's default
