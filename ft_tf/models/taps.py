"""Feature maps out of a model, by the name of the layer that makes them."""

from collections.abc import Iterable

import keras

from ft_tf import errors


def last_feature_map(model: keras.Model) -> str:
  """Returns the name of the last layer with a feature map `[B, H, W, C]`.

  That is the one before global pooling or flattening: the factor layer of the
  paper (section 3), after the last group's ReLU in our networks.

  Raises:
    UsageError: no layer has one, or the model's layers cannot be tapped.
  """
  for name, tensor in reversed(_tensors(model).items()):
    # A pooled map that keeps its axes is 1x1, and no longer a map.
    if len(tensor.shape) == 4 and tensor.shape[1:3] != (1, 1):
      return name
  raise errors.UsageError(
    f'{model.name} has no feature map [B, H, W, C] to transfer: give a '
    'convolutional network built by the functional API or keras.Sequential'
  )


def features(model: keras.Model, names: Iterable[str]) -> keras.Model:
  """Returns the part of a model that makes some features, sharing its weights.

  Args:
    model: A functional or Sequential model.
    names: Names of layers.

  Returns:
    A model from the same input to `{name: [B, H, W, C]}`. What lies behind the
    last of the named layers is not part of it.
  """
  outputs = _outputs(model, names)
  return keras.Model(model.inputs[0], outputs)


def logits_and_features(
  model: keras.Model, names: Iterable[str]
) -> keras.Model:
  """Returns a model to `(logits, {name: feature})`, sharing the weights."""
  outputs = _outputs(model, names)
  return keras.Model(model.inputs[0], (model.outputs[0], outputs))


def _outputs(model, names):
  tensors = _tensors(model)
  for name in names:
    if name not in tensors:
      raise ValueError(f'{model.name} has no layer {name}: {list(tensors)}')
  return {name: tensors[name] for name in names}


def _tensors(model):
  """Returns the output of each operation in the model's own graph, in order.

  Not `layer.output`: a nested model's is that of its own graph, and a loaded
  layer may have been called before.
  """
  if not getattr(model, 'inputs', None):
    raise errors.UsageError(
      f'{model.name} is a subclassed model, whose layers have no symbolic '
      'outputs: give one built by the functional API or keras.Sequential'
    )
  graph = keras.Model(model.inputs, model.outputs)
  tensors, shared = {}, set()
  for depth in sorted(graph._nodes_by_depth, reverse=True):
    for node in graph._nodes_by_depth[depth]:
      name = node.operation.name
      if name in tensors:
        shared.add(name)  # Called twice: which output is meant?
      if not node.is_input and len(node.outputs) == 1:
        tensors[name] = node.outputs[0]
  return {name: t for name, t in tensors.items() if name not in shared}
