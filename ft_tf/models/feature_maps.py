"""The feature maps in a model's graph, by the name of their layer.

A map is the output of one layer or operation. A layer that is called more than
once has no entry, because its name would not tell which output is meant.
"""

import dataclasses
from typing import cast

import keras

from ft_tf import errors
from ft_tf.models import graph, layouts, tokens

# Their output is the map before them with another border.
_PADDING = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


@dataclasses.dataclass(frozen=True)
class FeatureMap:
  """Where the height, width and channels of a layer's output are.

  Attributes:
    shape: `(H, W, C)`; None where it depends on the image.
    axes: The axes of the output that are H, W and C; None if the output is the
      tokens `[B, N, C]` of a map.
    first: Of tokens, the number of others (class token, registers) before those
      of the map.
  """

  shape: tuple[int | None, int | None, int | None]
  axes: tuple[int, int, int] | None = None
  first: int = 0


def find(model: keras.Model) -> dict[str, FeatureMap]:
  """Returns the feature map of each layer that has one, in graph order.

  Maps of 1x1, such as those of a global pooling that keeps its axes, included.

  Raises:
    UsageError: the model is subclassed.
  """
  known = layouts.Layouts(_calls(model))
  image_size = model.inputs[0].shape[1:3]
  maps = {}
  for name, tensor in outputs(model).items():
    if len(tensor.shape) == 4:
      order = known.order(tensor)
      rows, columns, channels = (1 + order.index(axis) for axis in 'HWC')
      maps[name] = FeatureMap(
        (tensor.shape[rows], tensor.shape[columns], tensor.shape[channels]),
        (rows, columns, channels),
      )
    elif len(tensor.shape) == 3:
      layout = _token_layout(tensor, known, image_size)
      if layout and layout.axis == 1:
        maps[name] = FeatureMap(
          (*layout.size, tensor.shape[2]), first=layout.first
        )
  return maps


def _token_layout(
  tensor: keras.KerasTensor,
  known: layouts.Layouts,
  image_size: tuple[int | None, int | None],
) -> layouts.Tokens | None:
  """Returns how an output `[B, N, C]` lies on a map; None if it does not."""
  try:
    return known.tokens(tensor)
  except KeyError:
    # The graph does not tell: a count of tokens that fits the image's shape is
    # taken for a grid, and the tokens over it for class tokens before the grid.
    size = tokens.grid(tensor.shape, image_size)
    if not size:
      return None
    return layouts.Tokens(size, first=tensor.shape[1] - size[0] * size[1])


def shapes(
  model: keras.Model,
) -> dict[str, tuple[int | None, int | None, int | None]]:
  """Returns `(H, W, C)` of each layer's feature map above 1x1, in order."""
  return {
    name: each.shape
    for name, each in find(model).items()
    if each.shape[:2] != (1, 1)
  }


def shape(model: keras.Model, name: str) -> tuple[int, int, int]:
  """Returns `(H, W, C)` of a layer's feature map."""
  # Students and teachers take images of one size, which fixes all maps.
  return cast(tuple[int, int, int], find(model)[name].shape)


def last_of_each_size(
  model: keras.Model,
) -> dict[tuple[int | None, int | None], str]:
  """Returns the last layer with a map of each height and width above 1x1.

  Padding and cropping do not count: their values are the layer's before them.
  """
  tensors = outputs(model)
  return {
    map_shape[:2]: name
    for name, map_shape in shapes(model).items()
    if not is_padding(tensors[name])
  }


def is_padding(tensor: keras.KerasTensor) -> bool:
  """Tells whether an output is the map before it with another border."""
  return isinstance(graph.producer(tensor).operation, _PADDING)


def outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
  """Returns the output of each operation called once, by name, in graph order.

  Not `layer.output`: for a nested model that is a tensor of the nested graph,
  and a loaded layer may have been called before, in another graph.

  Raises:
    UsageError: the model is subclassed.
  """
  tensors, called_again = {}, set()
  for call in _calls(model):
    name = call.operation.name
    if name in tensors:
      called_again.add(name)
    if len(call.outputs) == 1:
      tensors[name] = call.outputs[0]
  return {
    name: tensor for name, tensor in tensors.items() if name not in called_again
  }


def _calls(model: keras.Model) -> list[graph.Call]:
  if not getattr(model, 'inputs', None):
    raise errors.UsageError(
      f'{model.name} is a subclassed model, whose layers have no symbolic '
      'outputs: give one built by the functional API or keras.Sequential'
    )
  return graph.calls(model)
