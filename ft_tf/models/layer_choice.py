"""Which layer's feature map a recipe means."""

import dataclasses
import fnmatch
import re

import keras

from ft_tf import errors
from ft_tf.models import blocks, feature_maps, graph, onnx_layers, onnx_models


def last_feature_map(model: keras.Model) -> str:
  """Returns the name of the last layer with a feature map `[B, H, W, C]`.

  That is the one before global pooling or flattening: the factor layer of the
  paper (section 3), after the last group's ReLU in our networks. Tokens of a
  transformer count as the map of their grid; see `tokens.grid`.

  Raises:
    UsageError: no layer has one, or the model is subclassed.
  """
  tensors = feature_maps.outputs(model)
  for name in reversed(feature_maps.shapes(model)):
    if not feature_maps.is_padding(tensors[name]):
      return name
  token_layers = [name for name in tensors if len(tensors[name].shape) == 3]
  reason = _no_grid(model, token_layers[-1]) if token_layers else ''
  raise errors.UsageError(
    f'{model.name} has no feature map [B, H, W, C] to transfer{reason}: give a '
    'convolutional network built by the functional API or keras.Sequential'
  )


def resolve_layer(
  model: keras.Model, layer: str = 'auto', *, before: bool = False
) -> str:
  """Returns the name of the layer that a recipe means.

  Args:
    model: A model as for `last_feature_map`.
    layer: 'auto', the last feature map; a number below 0, which counts the
      sizes of maps from the last, each standing for its last map (a model of
      fewer sizes gives its first); or a layer's name, with / between the name
      of a nested model and that of its layer; or a pattern of names with
      *, ? or [], of which the last map is meant.
    before: Whether the map before that layer's activation is meant.

  Raises:
    UsageError: there is no such layer, or it has no feature map.
  """
  if layer == 'auto':
    name = last_feature_map(model)
  elif re.fullmatch(r'-[1-9]\d*', layer):
    last_feature_map(model)  # raises if there is none
    names = list(feature_maps.last_of_each_size(model).values())
    name = names[max(int(layer), -len(names))]
  else:
    name = _by_name(model, layer)
  return blocks.before_activation(model, name) if before else name


def _by_name(model: keras.Model, layer: str) -> str:
  """Returns the last feature map whose name a name or pattern fits."""
  # In a flat model a nested model's layers have dots; see `standard.flatten`.
  pattern = layer.replace('/', '.')
  if onnx_models.holds(model):
    pattern = onnx_models.layer_name(layer)
  names = [*feature_maps.find(model)]
  fitting = [pattern] if pattern in names else fnmatch.filter(names, pattern)
  if not fitting:
    last = ', '.join(
      shown_name(model, name)
      for name in feature_maps.last_of_each_size(model).values()
    )
    raise errors.UsageError(
      f'{model.name} has no feature map {layer!r}{_no_grid(model, pattern)}: '
      'give auto, -1, -2, ... or the name of a layer with one; the last of '
      'each size: ' + last
    )
  return fitting[-1]


def shown_name(model: keras.Model, name: str) -> str:
  """Returns a layer's name as a recipe has it.

  It has `/` between models and their layers; that of an ONNX file is the name
  of the tensor there.
  """
  operation = graph.producer(feature_maps.outputs(model)[name]).operation
  if isinstance(operation, onnx_layers.OnnxMap):
    return operation.tensor
  return name.replace('.', '/')


def _no_grid(model: keras.Model, name: str) -> str:
  """Returns for a message why a layer of tokens has no map; '' for others."""
  tensor = feature_maps.outputs(model).get(name)
  if tensor is None or len(tensor.shape) != 3:
    return ''
  return (
    ', because the image positions of its '
    f'{tensor.shape[1]} tokens cannot be determined'
  )


@dataclasses.dataclass(frozen=True)
class Candidate:
  """A layer whose feature map can be transferred.

  Attributes:
    layer: Its name as a recipe has it, `/` between models and their layers.
    shape: `(H, W, C)`; None where it depends on the image.
    share: The share of the model's parameters up to and in the layer, 0..1.
    called: What else a recipe may call it: 'auto', '-1', '-2', ...
  """

  layer: str
  shape: tuple[int | None, ...]
  share: float
  called: tuple[str, ...]


def candidates(model: keras.Model) -> list[Candidate]:
  """Returns every feature map of a model, in the order of its layers.

  Raises:
    UsageError: there is none.
  """
  aliases = {last_feature_map(model): ['auto']}
  names = list(feature_maps.last_of_each_size(model).values())
  for number, name in enumerate(reversed(names), start=1):
    aliases.setdefault(name, []).append(f'-{number}')
  layers, parameters, map_shapes = [], 0, feature_maps.shapes(model)
  total = model.count_params() + onnx_models.count_parameters(model)
  for name, tensor in feature_maps.outputs(model).items():
    operation = graph.producer(tensor).operation
    if isinstance(operation, keras.layers.Layer):
      parameters += operation.count_params()
    if name in map_shapes:
      layers.append(
        Candidate(
          shown_name(model, name),
          map_shapes[name],
          parameters / max(1, total),
          tuple(aliases.get(name, ())),
        )
      )
  return layers


def pair_by_size(
  teacher: keras.Model, student: keras.Model
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns the last feature maps of each size that both models have.

  Args:
    teacher: A model as for `last_feature_map`.
    student: Another such model.

  Returns:
    The teacher's layers and the student's, from the largest map to the
    smallest.

  Raises:
    UsageError: the models share no size.
  """
  teacher_layers = feature_maps.last_of_each_size(teacher)
  student_layers = feature_maps.last_of_each_size(student)
  shared = sorted(teacher_layers.keys() & student_layers.keys(), reverse=True)
  if not shared:
    raise errors.UsageError(
      'the feature maps of teacher and student share no size: '
      f'{list(teacher_layers)} in the teacher, {list(student_layers)} in the '
      'student; give another --student'
    )
  return (
    tuple(teacher_layers[size] for size in shared),
    tuple(student_layers[size] for size in shared),
  )
