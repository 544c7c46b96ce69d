"""What a teacher is asked for, in an ONNX graph: images, maps and logits.

Read from the graph alone; nothing is run.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ft_tf import errors
from ft_tf.models import onnx_axes, onnx_files, onnx_shapes

# They make parts of a map, or give it a border.
_PARTS = ('Pad', 'Slice', 'Split')
_HARMLESS = ('Cast', 'Dropout', 'Identity')
_ACTIVATIONS = {
  'Celu', 'Clip', 'Elu', 'Gelu', 'HardSigmoid', 'HardSwish', 'LeakyRelu',
  'Mish', 'PRelu', 'Relu', 'Selu', 'Sigmoid', 'Softplus', 'Swish', 'Tanh',
}  # fmt: skip
_LARGEST = 2**14  # of a side of an image, and of a batch
_IMAGE_DTYPES = ('uint8', 'float16', 'float32', 'float64')


@dataclasses.dataclass(frozen=True)
class Map:
  """A feature map in the graph.

  Attributes:
    tensor: Its name.
    axes: The axes of the tensor that are batch, height, width and channels.
    parameters: Weights that come before it, and before no map before it.
    before: The tensor that an activation makes it of; '': no activation does.
  """

  tensor: str
  axes: tuple[int, int, int, int]
  parameters: int
  before: str = ''


@dataclasses.dataclass(frozen=True)
class Interface:
  """What a teacher takes and gives.

  Attributes:
    image: The name of the input.
    image_shape: `(H, W, C)`; None where the file leaves it open.
    channels_first: Whether the input is `[N, C, H, W]`.
    dtype: Of the input, such as 'float32'.
    batch: The only batch size that the file promises; None: any.
    maps: The feature maps, in the order of the graph.
    logits: The name of the tensor `[N, classes]`.
    activation: `softmax` or `sigmoid`, which the file puts on the logits; ''.
    parameters: Number of all weights.
  """

  image: str
  image_shape: tuple[int | None, int | None, int | None]
  channels_first: bool
  dtype: str
  batch: int | None
  maps: tuple[Map, ...]
  logits: str
  activation: str
  parameters: int


def describe(model: Any, path: str) -> Interface:
  """Returns what a model takes and gives.

  Args:
    model: A ModelProto of `onnx_files.read`.
    path: Its file, for messages.

  Raises:
    UsageError: it is no classifier of images.
  """
  onnx = onnx_files.package('onnx', path)
  image = _image(model, path)
  sizes = onnx_shapes.stated(image)
  dtype = _dtype(onnx, image.type.tensor_type.elem_type)
  if len(sizes) != 4 or dtype not in _IMAGE_DTYPES:
    raise errors.UsageError(
      f'{path} takes {dtype} {_show(sizes)}, not images: give a model that '
      'takes [N, C, H, W] or [N, H, W, C], in uint8 or float'
    )
  if any(size and size > _LARGEST for size in sizes):
    raise errors.UsageError(
      f'{path} takes {_show(sizes)}, which no memory holds: give a model of '
      f'images and batches of at most {_LARGEST:,}'
    )
  known = onnx_shapes.inferred(onnx, model, image.name, sizes)
  order, orders = _orders(model, image.name, sizes, known, path)
  size_of = dict(zip(order, sizes, strict=True))
  logits, activation = _logits(model, known, path)
  maps, parameters = _maps(onnx, model, orders)
  return Interface(
    image=image.name,
    image_shape=(size_of['H'], size_of['W'], size_of['C']),
    channels_first=order == onnx_axes.FIRST,
    dtype=dtype,
    batch=size_of['N'],
    maps=maps,
    logits=logits,
    activation=activation,
    parameters=parameters,
  )


def shapes(
  model: Any, interface: Interface, image_shape: Sequence[int | None]
) -> list[onnx_shapes.Shape]:
  """Returns the shapes of the maps `(H, W, C)` and of the logits `(classes,)`.

  Args:
    model: The ModelProto.
    interface: Its interface.
    image_shape: `(H, W, C)` of the images; None where it is open.

  Returns:
    One for each map, and last that of the logits; sizes are None where they
    depend on what is open.
  """
  onnx = onnx_files.package('onnx', 'an ONNX teacher')
  height, width, channels = image_shape
  sizes = [None, height, width, channels]
  if interface.channels_first:
    sizes = [None, channels, height, width]
  known = onnx_shapes.inferred(onnx, model, interface.image, sizes)
  return [
    *(
      tuple(known[each.tensor][axis] for axis in each.axes[1:])
      for each in interface.maps
    ),
    known[interface.logits][1:],
  ]


def _image(model: Any, path: str) -> Any:
  """Returns the one input that is not a weight."""
  weights = {tensor.name for tensor in model.graph.initializer}
  inputs = [each for each in model.graph.input if each.name not in weights]
  if len(inputs) != 1:
    names = ', '.join(each.name for each in inputs) or 'none'
    raise errors.UsageError(
      f'{path} has {len(inputs)} inputs ({names}): give a model that takes '
      'images and nothing else'
    )
  return inputs[0]


def _show(sizes: onnx_shapes.Shape) -> str:
  return f'[{", ".join(str(size or "?") for size in sizes)}]'


def _dtype(onnx: Any, kind: int) -> str:
  try:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
  except (KeyError, TypeError):
    return 'values of no type'


def _orders(
  model: Any,
  image: str,
  sizes: onnx_shapes.Shape,
  known: dict[str, onnx_shapes.Shape],
  path: str,
) -> tuple[str, dict[str, str]]:
  """Returns the axes of the input, and of each tensor whose axes are known."""
  ranks = {name: len(shape) for name, shape in known.items()}
  fitting = {
    order: orders
    for order in (onnx_axes.FIRST, onnx_axes.LAST)
    if sizes[order.index('C')] in (None, 1, 3)
    and (orders := onnx_axes.follow(model.graph, image, order, ranks))
  }
  if len(fitting) > 1:
    # Without a convolution on the images, only their sizes can tell.
    fitting = {
      order: orders
      for order, orders in fitting.items()
      if sizes[order.index('C')] is not None
    }
  if len(fitting) != 1:
    raise errors.UsageError(
      f'{path} takes {_show(sizes)}, of which it is not clear what are '
      'channels: give a model whose input is [N, C, H, W] or [N, H, W, C], '
      'with 1 or 3 channels'
    )
  return fitting.popitem()


def _logits(
  model: Any, known: dict[str, onnx_shapes.Shape], path: str
) -> tuple[str, str]:
  """Returns the tensor of the logits, and the activation that is put on it."""
  outputs = [
    each.name
    for each in model.graph.output
    if len(known.get(each.name, ())) == 2
  ]
  if len(outputs) != 1:
    names = ', '.join(
      f'{each.name} {_show(known[each.name]) if each.name in known else ""}'
      for each in model.graph.output
    )
    raise errors.UsageError(
      f'{path} gives {names}, of which {len(outputs) or "none"} are [N, '
      'classes]: export a model with one output of that shape'
    )
  makers = {name: node for node in model.graph.node for name in node.output}
  (end,) = outputs
  while end in makers and makers[end].op_type in _HARMLESS:
    end = makers[end].input[0]
  activation = makers[end].op_type.lower() if end in makers else ''
  if activation == 'sigmoid' or (
    activation == 'softmax' and _over_classes(makers[end])
  ):
    logits = makers[end].input[0]
  else:
    logits, activation = outputs[0], ''
  if None in known.get(logits, (None,))[1:]:
    raise errors.UsageError(
      f'{path} does not state the number of classes of its output '
      f'{outputs[0]}: export it with fixed sizes but for the batch'
    )
  return logits, activation


def _over_classes(node: Any) -> bool:
  axes = [each.i for each in node.attribute if each.name == 'axis']
  return not axes or axes[0] in (-1, 1)


def _maps(
  onnx: Any, model: Any, orders: dict[str, str]
) -> tuple[tuple[Map, ...], int]:
  """Returns the feature maps in the order of the graph, and all parameters."""
  weights = {
    tensor.name: int(np.prod(tensor.dims))
    for tensor in model.graph.initializer
    if tensor.dims and _is_weight(onnx, tensor.data_type)
  }
  maps: list[Map] = []
  parts: set[str] = set()
  total = counted = 0
  for node in model.graph.node:
    # A weight that stands twice is one.
    total += sum(weights.pop(name, 0) for name in node.input)
    # Parts put together again, as in Swin's shifted windows, are a map moved.
    if node.op_type in _PARTS or (
      node.op_type == 'Concat' and parts.issuperset(node.input)
    ):
      parts.update(node.output)
      continue
    for name in _map_outputs(node, orders):
      order = orders[name]
      source = node.input[0]
      activates = node.op_type in _ACTIVATIONS and source in orders
      rows, columns, channels = (order.index(axis) for axis in 'HWC')
      maps.append(
        Map(
          name,
          (0, rows, columns, channels),
          total - counted,
          source if activates else '',
        )
      )
      counted = total
  names = {each.tensor for each in maps}
  # An activation of what is no map, such as of the image, has none before it.
  maps = [
    each if each.before in names else dataclasses.replace(each, before='')
    for each in maps
  ]
  return tuple(maps), total


def _map_outputs(node: Any, orders: dict[str, str]) -> Iterator[str]:
  """Yields the outputs of a node that are feature maps."""
  if node.op_type in _HARMLESS:
    return  # Their values are those of the map before them.
  for name in node.output:
    if orders.get(name, '').startswith('N'):
      yield name


def _is_weight(onnx: Any, kind: int) -> bool:
  name = _dtype(onnx, kind)
  return 'float' in name or name in ('int8', 'uint8')
