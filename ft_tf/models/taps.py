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
  for layer in reversed(_layers(model)):
    shape = layer.output.shape
    # A pooled map that keeps its axes is 1x1, and no longer a map.
    if len(shape) == 4 and shape[1:3] != (1, 1):
      return layer.name
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
  return keras.Model(model.input, _outputs(model, names))


def logits_and_features(
  model: keras.Model, names: Iterable[str]
) -> keras.Model:
  """Returns a model to `(logits, {name: feature})`, sharing the weights."""
  return keras.Model(model.input, (model.output, _outputs(model, names)))


def _outputs(model, names):
  _layers(model)
  return {name: model.get_layer(name).output for name in names}


def _layers(model):
  """Returns the layers that have one symbolic output, in order."""
  if not isinstance(model, keras.Sequential) and not hasattr(
    model, 'operations'
  ):
    raise errors.UsageError(
      f'{model.name} is a subclassed model, whose layers have no symbolic '
      'outputs: give one built by the functional API or keras.Sequential'
    )
  return [
    layer
    for layer in model.layers
    if len(getattr(layer, '_inbound_nodes', ())) == 1
    and isinstance(layer.output, keras.KerasTensor)
  ]
