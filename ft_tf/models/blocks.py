"""What a network's graph tells of its activations and residual blocks."""

import collections

import keras

from ft_tf.models import feature_maps, graph, onnx_layers

_NORMALIZATIONS = (
  keras.layers.BatchNormalization,
  keras.layers.GroupNormalization,
  keras.layers.LayerNormalization,
)
# Class names, in lower case, of layers and of operations alike: ReLU and
# keras.ops.relu, LeakyReLU and keras.ops.leaky_relu, ...
_ACTIVATIONS = {name.replace('_', '') for name in dir(keras.activations)}


def before_activation(model: keras.Model, name: str) -> str:
  """Returns the layer that feeds an activation; another layer's own name."""
  call = graph.producer(feature_maps.outputs(model)[name])
  if isinstance(call.operation, onnx_layers.OnnxMap):
    return call.operation.before or name
  if not _is_activation(call.operation):
    return name
  (source,) = call.inputs
  return graph.producer(source).operation.name


def block_output(model: keras.Model, name: str) -> str:
  """Returns the layer that a residual block ends with, of a last feature map.

  Where a network activates its sums and goes on from there (He et al. 2015),
  the block's output is the activated map. Where blocks activate their input
  (pre-activation: He et al. 2016, wide ResNets), it is the sum as it stands,
  and the last map of a size belongs to the layers that read the sum. Zagoruyko
  and Komodakis 2017 and RepDistiller take attention maps and hints of these.

  The graph tells the two apart: a sum is a block's output as it stands if a
  normalisation stands between it and its activation, or if a shortcut reads it
  before its activation.

  Args:
    model: A model as for `layer_choice.last_feature_map`.
    name: A layer, the last of its map's size.

  Returns:
    The sum of that size from which normalisation, activation and the start of
    the next block's branch make the layer; otherwise the layer's own name.
  """
  map_shapes, reader_counts = feature_maps.shapes(model), _reader_counts(model)
  # Walk back to the closest sum. `path` leads from the sum to the layer.
  total = feature_maps.outputs(model)[name]
  path: list[keras.KerasTensor] = []
  while not _is_sum(total):
    inputs = graph.producer(total).inputs
    if len(inputs) != 1:
      return name
    path.insert(0, total)
    (total,) = inputs
  sum_name = graph.producer(total).operation.name
  if (
    not path
    or sum_name not in map_shapes
    or map_shapes[sum_name][:2] != map_shapes[name][:2]
  ):
    return name
  operations = [graph.producer(tensor).operation for tensor in path]
  is_normalized = isinstance(operations[0], _NORMALIZATIONS)
  activation = 1 if is_normalized else 0  # its place in the path
  if len(path) <= activation or not _is_activation(operations[activation]):
    return name
  if not is_normalized and reader_counts[id(total)] == 1:
    return name  # Only its activation reads it.
  # Layers after the activation are the next block's if a shortcut leaves before
  # them. Otherwise they come after the last block, and the map is theirs.
  has_shortcut = any(
    reader_counts[id(each)] > 1 for each in (total, *path[:-1])
  )
  return sum_name if has_shortcut or len(path) == activation + 1 else name


def _reader_counts(model: keras.Model) -> collections.Counter[int]:
  """Returns by the id of each tensor how many inputs in the model it is."""
  return collections.Counter(
    id(tensor) for call in graph.calls(model) for tensor in call.inputs
  )


def _is_sum(tensor: keras.KerasTensor) -> bool:
  """Tells whether a layer or an operation adds tensors to one another."""
  call = graph.producer(tensor)
  return type(call.operation).__name__ == 'Add' and len(call.inputs) > 1


def _is_activation(operation: keras.Operation) -> bool:
  return (
    isinstance(operation, (keras.layers.Activation, keras.layers.PReLU))
    or type(operation).__name__.lower() in _ACTIVATIONS
  )
