"""Where height, width and channels are in each tensor of a model's graph.

Images come as `[B, H, W, C]`. A layer's `data_format` says how it leaves a map;
elsewhere a map keeps the order of the one before. What a transposition, a
reshape to tokens or the joining of further tokens does is found by asking the
operation itself: which of its outputs change with a part of its inputs?
"""

import dataclasses
import itertools
from collections.abc import Iterable

import keras
import numpy as np

from ft_tf.models import graph

_LAST, _FIRST = 'HWC', 'CHW'
_SEED = 0
_TOLERANCE = 1e-6
_UNKNOWN = object()  # The graph does not tell.
_BORDERS = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Tokens `[B, N, C]` or `[B, C, N]` that are the places of a map, by rows.

  Attributes:
    size: `(h, w)` of the map.
    first: Number of other tokens before them, as a class's or registers.
    axis: 1 or 2, along which tokens are counted.
  """

  size: tuple[int, int]
  first: int = 0
  axis: int = 1


class Layouts:
  """What is known of the tensors of one graph."""

  def __init__(self, calls: Iterable[graph.Call]):
    """Looks at a graph.

    Args:
      calls: As of `graph.calls`.
    """
    self._known = {}
    for call in calls:
      for tensor in call.outputs:
        if len(tensor.shape) == 4:
          self._known[id(tensor)] = self._order_of(call, tensor)
        elif len(tensor.shape) == 3 and None not in tensor.shape[1:]:
          layout = self._tokens_of(call, tensor)
          if layout is not _UNKNOWN:
            self._known[id(tensor)] = layout

  def order(self, tensor: keras.KerasTensor) -> str:
    """Returns the axes of a map behind the batch: 'HWC', 'CHW' or another."""
    return self._known.get(id(tensor), _LAST)

  def tokens(self, tensor: keras.KerasTensor) -> Tokens | None:
    """Returns how tokens lie; None if they are not those of a map.

    Raises:
      KeyError: the graph does not tell.
    """
    return self._known[id(tensor)]

  def _order_of(self, call, tensor) -> str:
    maps = [each for each in call.inputs if len(each.shape) == 4]
    order = self.order(maps[0]) if maps else self._of_reshaped(call, tensor)
    data_format = getattr(call.operation, 'data_format', None)
    if maps and isinstance(call.operation, _BORDERS):
      return order  # They may widen the channels, called by another name.
    if data_format == 'channels_first':
      return order if order[0] == 'C' else _FIRST
    if data_format == 'channels_last':
      return order if order[2] == 'C' else _LAST
    if len(call.inputs) == 1 and maps:
      axes = _transposition(call, tensor)
      return ''.join(order[axis - 1] for axis in axes)
    return order

  def _of_reshaped(self, call, tensor):
    """Returns the order of a map that is made of something else."""
    for each in call.inputs:
      layout = self._known.get(id(each))
      if isinstance(layout, Tokens) and layout.axis == 2:
        return _FIRST if tensor.shape[2:] == layout.size else _LAST
    return _LAST

  def _tokens_of(self, call, tensor):
    """Returns `Tokens`, None if it is not of a map's places, or _UNKNOWN."""
    sources = [
      each
      for each in call.inputs
      if isinstance(self._known.get(id(each)), Tokens)
    ]
    if sources:
      return self._of_tokens(call, tensor, sources)
    if any(len(each.shape) == 3 for each in call.inputs):
      known = all(
        id(each) in self._known for each in call.inputs if len(each.shape) == 3
      )
      return None if known else _UNKNOWN
    maps = [each for each in call.inputs if len(each.shape) == 4]
    if len(maps) == 1 and None not in maps[0].shape[1:]:
      return self._of_map(call, tensor, maps[0])
    return _UNKNOWN

  def _of_tokens(self, call, tensor, sources):
    source = sources[0]
    layout = self._known[id(source)]
    if len(call.inputs) == 1:
      axes = _transposition(call, tensor)
      if axes != (1, 2):
        return dataclasses.replace(layout, axis=3 - layout.axis)
    axis = layout.axis
    if tensor.shape[axis] == source.shape[axis]:
      return layout
    if len(sources) > 1:
      return None  # Which of them is meant?
    count = layout.size[0] * layout.size[1]
    part = [slice(None)] * 3
    part[axis] = slice(layout.first, layout.first + count)
    (changed,) = _changed(call, tensor, source, [tuple(part)])
    places = np.flatnonzero(changed.any(axis=2 - axis))
    if len(places) == count == places[-1] - places[0] + 1:
      return dataclasses.replace(layout, first=int(places[0]))
    return None

  def _of_map(self, call, tensor, source):
    """Returns the layout of tokens that an operation makes of a map.

    Its first row must change the first w of the tokens that change with it, and
    its first column each w-th.
    """
    order = self.order(source)
    parts = [(slice(None),) * 4]
    for axis in 'HW':
      part = [slice(None)] * 4
      part[1 + order.index(axis)] = slice(0, 1)
      parts.append(tuple(part))
    changed = _changed(call, tensor, source, parts)
    opaque = True
    for axis in (1, 2):
      places, in_row, in_column = (
        np.flatnonzero(each.any(axis=2 - axis)) for each in changed
      )
      width, height = len(in_row), len(in_column)
      opaque &= width == height == tensor.shape[axis]
      if min(width, height) < 2 or len(places) != width * height:
        continue
      first = places[0]
      if (
        np.array_equal(places, first + np.arange(len(places)))
        and np.array_equal(in_row, first + np.arange(width))
        and np.array_equal(in_column, first + width * np.arange(height))
      ):
        return Tokens((height, width), int(first), axis)
    return _UNKNOWN if opaque else None  # Opaque: each token sees it all.


def _transposition(call, tensor) -> tuple[int, ...]:
  """Returns the axes of the one input that an operation's output has.

  Only what may transpose is asked: not Keras's layers but for two.
  """
  (source,) = call.inputs
  axes = tuple(range(1, len(tensor.shape)))
  operation = call.operation
  may = isinstance(operation, (keras.layers.Permute, keras.layers.Lambda)) or (
    not getattr(operation, 'weights', ())
    and not (
      isinstance(operation, keras.layers.Layer) and graph.is_of_keras(operation)
    )
  )
  sizes = source.shape[1:]
  if (
    not may
    or None in sizes
    or None in tensor.shape[1:]
    or sorted(sizes) != sorted(tensor.shape[1:])
  ):
    return axes
  values = _values(source)
  found = _compute(call, {id(source): values}, tensor)
  for order in itertools.permutations(axes):
    if np.array_equal(found, values.transpose(0, *order)):
      return order
  return axes


def _changed(call, tensor, source, parts) -> list[np.ndarray]:
  """Returns which values of an output `[...]` change with parts of an input.

  Args:
    call: Of the graph.
    tensor: The output.
    source: The input that is changed.
    parts: Indices of it.
  """
  values = {id(each): _values(each) for each in call.inputs}
  before = _compute(call, values, tensor)
  changed = []
  for part in parts:
    other = values[id(source)].copy()
    other[part] = _values(source, _SEED + 1)[part]
    after = _compute(call, {**values, id(source): other}, tensor)
    changed.append(np.abs(after - before)[0] > _TOLERANCE)
  return changed


def _values(tensor, seed=_SEED) -> np.ndarray:
  """Returns random values of a tensor's shape, for one example."""
  shape = (1, *(size or 1 for size in tensor.shape[1:]))
  rng = np.random.default_rng(seed)
  if 'int' in tensor.dtype:
    return rng.integers(1, 128, size=shape).astype(tensor.dtype)
  return rng.normal(size=shape).astype(np.float32)


def _compute(call, values, tensor) -> np.ndarray:
  """Returns an output of an operation; no variable moves."""
  inputs = [
    keras.ops.convert_to_tensor(values[id(each)], each.dtype)
    for each in call.inputs
  ]
  with keras.StatelessScope():
    outputs = call.compute(inputs)
  index = [id(each) for each in call.outputs].index(id(tensor))
  return np.float32(keras.ops.convert_to_numpy(outputs[index]))
