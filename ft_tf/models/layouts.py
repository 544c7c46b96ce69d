"""Where height, width and channels are in each tensor of a model's graph.

Images come as `[B, H, W, C]`. A layer's `data_format` tells the layout of its
output; other operations keep the layout of their input. Three kinds do not: a
transposition, a reshape of a map to tokens, and a concatenation with further
tokens. No attribute tells what they do, so the operation itself is run: which
of its outputs change with a part of its inputs?
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from ft_tf.models import graph

_LAST, _FIRST = 'HWC', 'CHW'
_SEED = 0
_TOLERANCE = 1e-6
_UNKNOWN = object()  # The graph does not tell; None: not tokens of a map.
_BORDERS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Tokens `[B, N, C]` or `[B, C, N]` that are the places of a map, by rows.

  Attributes:
    size: `(h, w)` of the map.
    first: Number of other tokens before them, such as a class token or
      registers.
    axis: 1 or 2, along which tokens are counted.
  """

  size: tuple[int, int]
  first: int = 0
  axis: int = 1


class Layouts:
  """The layout of each map and of each tensor of tokens in one graph."""

  def __init__(self, calls: Iterable[graph.Call]):
    """Follows the layouts through a graph.

    Args:
      calls: The graph's, each after those it reads from; see `graph.calls`.
    """
    # By the id of a tensor: the axes of a map, such as 'HWC'; and the places of
    # tokens, None for those that are not of a map.
    self._orders: dict[int, str] = {}
    self._tokens: dict[int, Tokens | None] = {}
    for call in calls:
      for tensor in call.outputs:
        if len(tensor.shape) == 4:
          self._orders[id(tensor)] = self._map_order(call, tensor)
        elif len(tensor.shape) == 3 and None not in tensor.shape[1:]:
          layout = self._token_layout(call, tensor)
          if layout is not _UNKNOWN:
            self._tokens[id(tensor)] = layout

  def order(self, tensor: keras.KerasTensor) -> str:
    """Returns the axes of a map after the batch: 'HWC', 'CHW' or another."""
    return self._orders.get(id(tensor), _LAST)

  def tokens(self, tensor: keras.KerasTensor) -> Tokens | None:
    """Returns how tokens lie on a map; None if they are not those of a map.

    Raises:
      KeyError: the graph does not tell.
    """
    return self._tokens[id(tensor)]

  def _map_order(self, call: graph.Call, tensor: keras.KerasTensor) -> str:
    """Returns the axes of a map that a call returned."""
    maps = [each for each in call.inputs if len(each.shape) == 4]
    order = (
      self.order(maps[0]) if maps else self._order_of_reshaped(call, tensor)
    )
    data_format = getattr(call.operation, 'data_format', None)
    if maps and isinstance(call.operation, _BORDERS):
      # Their data_format names the axes that they widen, which need not be
      # height and width: some models pad the channels with it.
      return order
    # Channels may be first after a transposition in another order than CHW,
    # which a layer of that data_format keeps.
    if data_format == 'channels_first':
      return order if order[0] == 'C' else _FIRST
    if data_format == 'channels_last':
      return order if order[2] == 'C' else _LAST
    if len(call.inputs) == 1 and maps:
      axes = _transposition(call, tensor)
      return ''.join(order[axis - 1] for axis in axes)
    return order

  def _order_of_reshaped(
    self, call: graph.Call, tensor: keras.KerasTensor
  ) -> str:
    """Returns the axes of a map that is made of something else than maps."""
    for source in call.inputs:
      layout = self._tokens.get(id(source))
      if layout is not None and layout.axis == 2:
        return _FIRST if tensor.shape[2:] == layout.size else _LAST
    return _LAST

  def _token_layout(self, call, tensor):
    """Returns the layout of a tensor `[B, N, C]` that a call returned.

    That is `Tokens`, None if it is not of a map's places, or _UNKNOWN.
    """
    token_sources = [
      (source, layout)
      for source in call.inputs
      if (layout := self._tokens.get(id(source))) is not None
    ]
    if token_sources:
      return self._layout_from_tokens(call, tensor, token_sources)
    flat_sources = [each for each in call.inputs if len(each.shape) == 3]
    if flat_sources:
      all_known = all(id(each) in self._tokens for each in flat_sources)
      return None if all_known else _UNKNOWN
    maps = [each for each in call.inputs if len(each.shape) == 4]
    if len(maps) == 1 and None not in maps[0].shape[1:]:
      return self._layout_from_map(call, tensor, maps[0])
    return _UNKNOWN

  def _layout_from_tokens(
    self,
    call: graph.Call,
    tensor: keras.KerasTensor,
    sources: list[tuple[keras.KerasTensor, Tokens]],
  ) -> Tokens | None:
    """Returns the layout of what an operation makes of known tokens."""
    source, layout = sources[0]
    if len(call.inputs) == 1:
      axes = _transposition(call, tensor)
      if axes != (1, 2):
        return dataclasses.replace(layout, axis=3 - layout.axis)
    axis = layout.axis
    if tensor.shape[axis] == source.shape[axis]:
      return layout
    if len(sources) > 1:
      return None  # Maps joined: the places of none of them are all.
    # Tokens were added or taken away. Which outputs change with the map's?
    count = layout.size[0] * layout.size[1]
    map_tokens = [slice(None)] * 3
    map_tokens[axis] = slice(layout.first, layout.first + count)
    (changed,) = _changed(call, tensor, source, [tuple(map_tokens)])
    places = np.flatnonzero(changed.any(axis=2 - axis))
    if len(places) == count == places[-1] - places[0] + 1:
      return dataclasses.replace(layout, first=int(places[0]))
    return None

  def _layout_from_map(self, call, tensor, source):
    """Returns the layout of tokens that an operation makes of a map.

    Tokens are the map's places, by rows, if the map's first row changes the
    first w of the tokens that change with the map, and its first column each
    w-th of these.
    """
    order = self.order(source)
    # The map, its first row, its first column.
    parts: list[tuple[slice, ...]] = [(slice(None),) * 4]
    for letter in 'HW':
      part = [slice(None)] * 4
      part[1 + order.index(letter)] = slice(0, 1)
      parts.append(tuple(part))
    changed = _changed(call, tensor, source, parts)
    is_opaque = True  # Each token sees the whole map, and nothing can be told.
    for axis in (1, 2):
      places, row_places, column_places = (
        np.flatnonzero(each.any(axis=2 - axis)) for each in changed
      )
      width, height = len(row_places), len(column_places)
      is_opaque &= width == height == tensor.shape[axis]
      if min(width, height) < 2 or len(places) != width * height:
        continue
      first = places[0]
      if (
        np.array_equal(places, first + np.arange(len(places)))
        and np.array_equal(row_places, first + np.arange(width))
        and np.array_equal(column_places, first + width * np.arange(height))
      ):
        return Tokens((height, width), int(first), axis)
    return _UNKNOWN if is_opaque else None


def _transposition(
  call: graph.Call, tensor: keras.KerasTensor
) -> tuple[int, ...]:
  """Returns for each axis of a call's output the axis of its one input."""
  (source,) = call.inputs
  axes = tuple(range(1, len(tensor.shape)))
  sizes = source.shape[1:]
  if (
    not _may_transpose(call.operation)
    or None in sizes
    or None in tensor.shape[1:]
    or sorted(sizes) != sorted(tensor.shape[1:])
  ):
    return axes
  values = _random_values(source)
  output = _compute(call, {id(source): values}, tensor)
  for order in itertools.permutations(axes):
    if np.array_equal(output, values.transpose(0, *order)):
      return order
  return axes


def _may_transpose(operation: keras.Operation) -> bool:
  """Tells whether to run an operation; most need not be, which takes time."""
  if isinstance(operation, (keras.layers.Permute, keras.layers.Lambda)):
    return True
  is_keras_layer = isinstance(
    operation, keras.layers.Layer
  ) and graph.is_of_keras(operation)
  return not getattr(operation, 'weights', ()) and not is_keras_layer


def _changed(
  call: graph.Call,
  tensor: keras.KerasTensor,
  source: keras.KerasTensor,
  parts: Iterable[tuple[slice, ...]],
) -> list[np.ndarray]:
  """Returns which values of an output change with parts of an input.

  Args:
    call: Of the graph.
    tensor: One of its outputs.
    source: The input that is changed.
    parts: Indices of the input's values, such as tuples of slices.

  Returns:
    For each part an array of bools, of the shape of one example's output.
  """
  values = {id(each): _random_values(each) for each in call.inputs}
  before = _compute(call, values, tensor)
  changed = []
  for part in parts:
    other = values[id(source)].copy()
    other[part] = _random_values(source, _SEED + 1)[part]
    after = _compute(call, {**values, id(source): other}, tensor)
    changed.append(np.abs(after - before)[0] > _TOLERANCE)
  return changed


def _random_values(tensor: keras.KerasTensor, seed: int = _SEED) -> np.ndarray:
  """Returns random values of a tensor's shape, for one example."""
  shape = (1, *(size or 1 for size in tensor.shape[1:]))
  rng = np.random.default_rng(seed)
  if 'int' in tensor.dtype:
    return rng.integers(1, 128, size=shape).astype(tensor.dtype)
  return rng.normal(size=shape).astype(np.float32)


def _compute(
  call: graph.Call, values: Mapping[int, np.ndarray], tensor: keras.KerasTensor
) -> np.ndarray:
  """Returns an output of a call for other inputs.

  Args:
    call: Of the graph.
    values: An array for each input, by the input's id.
    tensor: The output.
  """
  inputs = [
    keras.ops.convert_to_tensor(values[id(each)], each.dtype)
    for each in call.inputs
  ]
  # No variable may move, as a random layer's seed would.
  with keras.StatelessScope():
    outputs = call.compute(inputs)
  index = [id(each) for each in call.outputs].index(id(tensor))
  return np.asarray(keras.ops.convert_to_numpy(outputs[index]), np.float32)
