"""Feature maps out of a model, by the name of the layer that makes them."""

import collections
import dataclasses
import fnmatch
import re
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors
from ft_tf.models import graph, layouts, tokens

# Their maps are those before them, with another border.
_PADDED = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)
_NORMALIZED = (
  keras.layers.BatchNormalization,
  keras.layers.GroupNormalization,
  keras.layers.LayerNormalization,
)
# Of layers and of operations: ReLU and keras.ops.relu, LeakyReLU, ...
_ACTIVATIONS = {name.replace('_', '') for name in dir(keras.activations)}


def last_feature_map(model: keras.Model) -> str:
  """Returns the name of the last layer with a feature map `[B, H, W, C]`.

  That is the one before global pooling or flattening: the factor layer of the
  paper (section 3), after the last group's ReLU in our networks. Tokens of a
  transformer count as the map of their grid; see `tokens.grid`.

  Raises:
    UsageError: no layer has one, or the model's layers cannot be tapped.
  """
  tensors = _tensors(model)
  for name in reversed(_maps(model)):
    if not isinstance(graph.producer(tensors[name]).operation, _PADDED):
      return name
  *_, last = [name for name in tensors if len(tensors[name].shape) == 3] or ['']
  raise errors.UsageError(
    f'{model.name} has no feature map [B, H, W, C] to transfer'
    f'{_of_no_grid(model, last)}: give a convolutional network built by the '
    'functional API or keras.Sequential'
  )


def choose(
  model: keras.Model, layer: str = 'auto', *, before: bool = False
) -> str:
  """Returns the name of the layer that a recipe means.

  Args:
    model: A model as of `last_feature_map`.
    layer: 'auto', the last feature map; a number below 0, which counts the
      sizes of maps from the last, each standing for its last map (a model of
      fewer sizes gives its first); or a layer's name, with / between
      that of a model within and that of its layer; or a pattern of names with
      *, ? or [], of which the last map is meant.
    before: Whether the map before that layer's activation is meant.

  Raises:
    UsageError: there is no such layer, or it has no feature map.
  """
  if layer == 'auto':
    name = last_feature_map(model)
  elif re.fullmatch(r'-[1-9]\d*', layer):
    last_feature_map(model)  # raises if there is none
    names = list(_last_of_each_size(model).values())
    name = names[max(int(layer), -len(names))]
  else:
    asked = layer
    layer = layer.replace('/', '.')  # of models within, see `standard.flat`
    maps = _maps(model, pooled=True)
    fitting = [layer] if layer in maps else fnmatch.filter(maps, layer)
    if not fitting:
      last = ', '.join(_last_of_each_size(model).values())
      raise errors.UsageError(
        f'{model.name} has no feature map {asked!r}{_of_no_grid(model, layer)}'
        ': give auto, -1, -2, ... or the name of a layer with one; the last of '
        'each size: ' + last.replace('.', '/')
      )
    name = fitting[-1]
  return before_activation(model, name) if before else name


def _of_no_grid(model, layer) -> str:
  """Returns what a message says of a layer of tokens without a grid."""
  tensor = _tensors(model).get(layer)
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
    share: Of the model's parameters, those up to the layer, 0..1.
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
  called = {last_feature_map(model): ['auto']}
  names = list(_last_of_each_size(model).values())
  for number, name in enumerate(reversed(names), start=1):
    called.setdefault(name, []).append(f'-{number}')
  found, before, maps = [], 0, _maps(model)
  for name, tensor in _tensors(model).items():
    operation = graph.producer(tensor).operation
    if isinstance(operation, keras.layers.Layer):
      before += operation.count_params()
    if name in maps:
      found.append(
        Candidate(
          name.replace('.', '/'),
          maps[name],
          before / max(1, model.count_params()),
          tuple(called.get(name, ())),
        )
      )
  return found


def pairs(
  teacher: keras.Model, student: keras.Model
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Returns the last feature maps of each size that both models have.

  Args:
    teacher: A model as of `last_feature_map`.
    student: Likewise.

  Returns:
    The teacher's layers and the student's, from the largest map to the
    smallest.

  Raises:
    UsageError: the models share no size.
  """
  theirs, ours = _last_of_each_size(teacher), _last_of_each_size(student)
  shared = sorted(theirs.keys() & ours.keys(), reverse=True)
  if not shared:
    raise errors.UsageError(
      f'the feature maps of teacher and student share no size: {list(theirs)} '
      f'in the teacher, {list(ours)} in the student; give another --student'
    )
  return (
    tuple(theirs[size] for size in shared),
    tuple(ours[size] for size in shared),
  )


def _last_of_each_size(model) -> dict[tuple[int, int], str]:
  """Returns the last layer of each height and width above 1x1."""
  tensors = _tensors(model)
  return {
    shape[:2]: name
    for name, shape in _maps(model).items()
    if not isinstance(graph.producer(tensors[name]).operation, _PADDED)
  }


@dataclasses.dataclass(frozen=True)
class _Map:
  """A feature map in a model's graph.

  Attributes:
    shape: `(H, W, C)`; None where it depends on the image.
    axes: Those of its tensor that are H, W and C; None if it is of tokens.
    first: Of tokens, the number before those of the map.
  """

  shape: tuple[int | None, ...]
  axes: tuple[int, int, int] | None = None
  first: int = 0


def _maps(model, *, pooled=False) -> dict[str, tuple[int | None, ...]]:
  """Returns `(H, W, C)` of each layer that has a feature map, in order.

  A pooled map that keeps its axes is 1x1, and no map unless it is asked for.
  """
  return {
    name: each.shape
    for name, each in _found_maps(model).items()
    if pooled or each.shape[:2] != (1, 1)
  }


def _found_maps(model) -> dict[str, _Map]:
  """Returns each layer's feature map, in order."""
  known = layouts.Layouts(_calls(model))
  image_size = tuple(model.inputs[0].shape[1:3])
  found = {}
  for name, tensor in _tensors(model).items():
    if len(tensor.shape) == 4:
      order = known.order(tensor)
      axes = tuple(1 + order.index(axis) for axis in 'HWC')
      found[name] = _Map(tuple(tensor.shape[axis] for axis in axes), axes)
    elif len(tensor.shape) == 3:
      try:
        its = known.tokens(tensor)
      except KeyError:
        size = tokens.grid(tensor.shape, image_size)
        its = size and layouts.Tokens(
          size, first=tensor.shape[1] - size[0] * size[1]
        )
      if its and its.axis == 1:
        found[name] = _Map((*its.size, tensor.shape[2]), first=its.first)
  return found


def before_activation(model: keras.Model, name: str) -> str:
  """Returns the layer that feeds an activation; another layer's own name."""
  tensor = _tensors(model)[name]
  call = graph.producer(tensor)
  if not _is_activation(call.operation):
    return name
  (before,) = call.inputs
  return graph.producer(before).operation.name


def block_output(model: keras.Model, name: str) -> str:
  """Returns the layer that a residual block ends with, of a last feature map.

  Where a network activates its sums and goes on from there (He et al. 2015),
  the block's output is the activated map. Where blocks activate what they read
  (pre-activation: He et al. 2016, wide ResNets), it is the sum as it stands,
  and the last map of a size belongs to what reads it. Zagoruyko and Komodakis
  2017 and RepDistiller take attention maps and hints of these.

  The graph tells: a sum is a block's output as it stands if a normalisation
  stands between it and its activation, or if it goes past its activation too,
  as a shortcut.

  Args:
    model: A model as of `last_feature_map`.
    name: A layer, the last of its map's size.

  Returns:
    The sum of that size that the layer is made from, with its normalisation and
    activation and the start of the next block's branch; another layer's own
    name.
  """
  maps, readers = _maps(model), _readers(model)
  total, path = _tensors(model)[name], []  # path: from the sum to the layer
  while not _is_sum(total):
    inputs = graph.producer(total).inputs
    if len(inputs) != 1:
      return name
    path.insert(0, total)
    (total,) = inputs
  output = graph.producer(total).operation.name
  if not path or output not in maps or maps[output][:2] != maps[name][:2]:
    return name
  operations = [graph.producer(tensor).operation for tensor in path]
  normalized = isinstance(operations[0], _NORMALIZED)
  activation = 1 if normalized else 0
  if len(path) <= activation or not _is_activation(operations[activation]):
    return name
  if not normalized and readers[id(total)] == 1:
    return name  # It goes through its activation and nowhere else.
  # Layers behind the activation are the next block's if a shortcut leaves
  # before them; otherwise they follow the block.
  shortcut = any(readers[id(each)] > 1 for each in (total, *path[:-1]))
  return output if shortcut or len(path) == activation + 1 else name


def shape(model: keras.Model, name: str) -> tuple[int, int, int]:
  """Returns `(H, W, C)` of a layer's feature map."""
  return _maps(model, pooled=True)[name]


def averaged(feature: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns a feature map averaged to a smaller height and width.

  Each place is the mean of those that it covers, as in adaptive average
  pooling; a map of that size is returned as it is.

  Args:
    feature: `[B, H, W, C]`.
    size: `(h, w)`, at most `(H, W)`.
  """
  if feature.shape[1:3] == tuple(size):
    return feature
  rows, columns = (
    tf.constant(_covering(wanted, has), feature.dtype)
    for wanted, has in zip(size, feature.shape[1:3], strict=True)
  )
  return tf.einsum('bhwc,ih,jw->bijc', feature, rows, columns)


def _covering(wanted: int, has: int) -> np.ndarray:
  """Returns `[wanted, has]`: the share of each place in each wanted one."""
  shares = np.zeros((wanted, has))
  for i in range(wanted):
    first, last = i * has // wanted, -(-(i + 1) * has // wanted)
    shares[i, first:last] = 1 / (last - first)
  return shares


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
  """Returns the maps of layers; other outputs are as they are."""
  tensors, maps = _tensors(model), _found_maps(model)
  found = {}
  for name in names:
    if name not in tensors:
      raise ValueError(f'{model.name} has no layer {name}: {list(tensors)}')
    found[name] = tensors[name]
    its = maps.get(name)
    if its and its.axes is None:
      found[name] = tokens.on_grid(tensors[name], its.shape[:2], its.first)
    elif its and its.axes != (1, 2, 3):
      found[name] = keras.ops.transpose(tensors[name], (0, *its.axes))
  return found


def _readers(model) -> collections.Counter:
  """Returns by the id of each tensor how many inputs in the model it is."""
  return collections.Counter(
    id(tensor) for call in graph.calls(model) for tensor in call.inputs
  )


def _is_sum(tensor) -> bool:
  """Whether a layer or an operation adds tensors to one another."""
  call = graph.producer(tensor)
  return type(call.operation).__name__ == 'Add' and len(call.inputs) > 1


def _is_activation(operation) -> bool:
  return (
    isinstance(operation, (keras.layers.Activation, keras.layers.PReLU))
    or type(operation).__name__.lower() in _ACTIVATIONS
  )


def _tensors(model):
  """Returns the output of each operation in the model's own graph, in order.

  Not `layer.output`: a nested model's is that of its own graph, and a loaded
  layer may have been called before.
  """
  tensors, shared = {}, set()
  for call in _calls(model):
    name = call.operation.name
    if name in tensors:
      shared.add(name)  # Called twice: which output is meant?
    if len(call.outputs) == 1:
      tensors[name] = call.outputs[0]
  return {name: t for name, t in tensors.items() if name not in shared}


def _calls(model) -> list[graph.Call]:
  """Returns the calls of a model's own graph, from its input on."""
  if not getattr(model, 'inputs', None):
    raise errors.UsageError(
      f'{model.name} is a subclassed model, whose layers have no symbolic '
      'outputs: give one built by the functional API or keras.Sequential'
    )
  return graph.calls(model)
