"""The shapes of the tensors in an ONNX graph, for images of a size."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ft_tf import errors

Shape = tuple[int | None, ...]

_LARGE = 1024  # elements of a tensor that no shape depends on


def inferred(
  onnx: Any, model: Any, image: str, sizes: Sequence[int | None]
) -> dict[str, Shape]:
  """Returns the shapes of tensors for images of a size, by name.

  The batch is taken for one image: an operation that holds on to the batch that
  the file was made with does so only for one.
  """
  light = onnx.ModelProto()
  light.CopyFrom(_without_weights(onnx, model))
  graph = light.graph
  for value in graph.input:
    if value.name == image:
      dims = value.type.tensor_type.shape.dim
      for dim, size in zip(dims, (1, *sizes[1:]), strict=True):
        dim.Clear()
        if size is not None:
          dim.dim_value = size
  # What the exporter noted is of the images that it was given.
  del graph.value_info[:]
  for value in graph.output:
    value.type.tensor_type.ClearField('shape')
  try:
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
  except Exception as error:  # ONNX's own kinds, and those of pybind11.
    raise errors.UsageError(
      f'the ONNX teacher has a graph that is not valid ('
      f'{errors.first_line(error)}): export it again'
    ) from error
  return {
    value.name: stated(value)
    for value in (*inferred.input, *inferred.value_info, *inferred.output)
    if value.type.tensor_type.HasField('shape')
  } | {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}


def _without_weights(onnx: Any, model: Any) -> Any:
  """Returns a model with inputs in the place of its large weights."""
  light = onnx.ModelProto(
    ir_version=model.ir_version, opset_import=model.opset_import
  )
  graph = light.graph
  graph.name = model.graph.name
  graph.node.extend(model.graph.node)
  graph.output.extend(model.graph.output)
  names = set()
  for tensor in model.graph.initializer:
    if np.prod(tensor.dims) > _LARGE:
      names.add(tensor.name)
      graph.input.append(
        onnx.helper.make_tensor_value_info(
          tensor.name, tensor.data_type, tensor.dims
        )
      )
    else:
      graph.initializer.append(tensor)
  graph.input.extend(x for x in model.graph.input if x.name not in names)
  return light


def stated(value: Any) -> Shape:
  """Returns the shape that a graph states for a tensor."""
  return tuple(
    size.dim_value if size.dim_value > 0 else None
    for size in value.type.tensor_type.shape.dim
  )
