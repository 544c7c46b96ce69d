"""An ONNX file as a Keras model: its tensors are layers, ONNX Runtime computes.

So whatever reads a teacher's graph, by the names of layers, reads an ONNX file
too, and a `.keras` file of such a model holds the ONNX file.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import graph, onnx_files, onnx_interface, onnx_session

_FILE = 'teacher.onnx'  # within a .keras file
_SIZE = 224  # pixels of the images that a graph of any size is tried with
_TAKEN = ('image', 'onnx', 'preprocessing', 'probabilities', 'raw_image')
# What the name of a layer may not have; *, ?, ! and [] are of patterns.
_FOREIGN = re.compile(r'[^A-Za-z0-9_.>*?!\[\]-]')


@keras.saving.register_keras_serializable('ft_tf')
class OnnxGraph(keras.layers.Layer):
  """The graph of a file: from images to its maps, and last its logits.

  Images and maps are `[B, H, W, C]`, whatever they are in the graph.
  """

  data_format = 'channels_last'

  def __init__(
    self,
    interface: dict[str, Any],
    known_shapes: Sequence[Any] = (),
    chosen: Sequence[int] | None = None,
    **kwargs: Any,
  ):
    """Takes the configuration; the graph itself comes by `graphs`.

    Args:
      interface: An `onnx_interface.Interface`, as a dict.
      known_shapes: Pairs of an image shape, and `onnx_interface.shapes` for it.
      chosen: The outputs that are computed, by their places among maps and
        logits; None: all.
      **kwargs: Keras's.
    """
    super().__init__(dtype='float32', **_without_dtype(kwargs))
    maps = [
      onnx_interface.Map(**{**each, 'axes': tuple(each['axes'])})
      for each in interface['maps']
    ]
    self.interface = onnx_interface.Interface(
      **{
        **interface,
        'maps': tuple(maps),
        'image_shape': tuple(interface['image_shape']),
      }
    )
    self._shapes = _Known(
      {
        tuple(image): [tuple(shape) for shape in shapes]
        for image, shapes in known_shapes
      }
    )
    count = len(maps) + 1
    self.chosen = tuple(range(count) if chosen is None else chosen)
    self.graphs: onnx_session.Graphs | None = None

  def computing(self, chosen: Sequence[int]) -> 'OnnxGraph':
    """Returns a layer of the same graph that computes fewer outputs."""
    layer = OnnxGraph(**{**self.get_config(), 'chosen': list(chosen)})
    layer.graphs = self.graphs
    return layer

  def call(self, images: tf.Tensor) -> list[tf.Tensor]:
    about = self.interface
    image_shape = tuple(images.shape[1:])
    x = tf.cast(images, about.dtype)
    if about.channels_first:
      x = tf.transpose(x, (0, 3, 1, 2))
    outputs = tf.numpy_function(
      self._session(x.shape[1:]), [x], [tf.float32] * len(self.chosen)
    )
    if len(self.chosen) == 1:
      outputs = [*tf.nest.flatten(outputs)]
    shapes = self._output_shapes(image_shape)
    return [
      _channels_last(output, about.maps[place].axes, shapes[place])
      if place < len(about.maps)
      else tf.ensure_shape(output, (None, *shapes[place]))
      for place, output in zip(self.chosen, outputs, strict=True)
    ]

  def compute_output_spec(
    self, images: keras.KerasTensor
  ) -> list[keras.KerasTensor]:
    shapes = self._output_shapes(tuple(images.shape[1:]))
    return [
      keras.KerasTensor((None, *shapes[place]), dtype='float32')
      for place in self.chosen
    ]

  def get_config(self) -> dict[str, Any]:
    interface = dataclasses.asdict(self.interface)
    interface['maps'] = [
      {**each, 'axes': list(each['axes'])} for each in interface['maps']
    ]
    interface['image_shape'] = list(interface['image_shape'])
    return {
      **super().get_config(),
      'interface': interface,
      'known_shapes': [
        [list(image), [list(shape) for shape in shapes]]
        for image, shapes in self._shapes.by_image.items()
      ],
      'chosen': list(self.chosen),
    }

  def save_assets(self, folder: str) -> None:
    """Writes the graph into a `.keras` file; Keras calls this."""
    with open(os.path.join(folder, _FILE), 'wb') as file:
      file.write(self._loaded().content)

  def load_assets(self, folder: str) -> None:
    """Reads what `save_assets` wrote; Keras calls this."""
    model = onnx_files.read(os.path.join(folder, _FILE))
    self.graphs = onnx_session.Graphs(model.SerializeToString())

  def _loaded(self) -> onnx_session.Graphs:
    assert self.graphs is not None
    return self.graphs

  def try_out(self) -> None:
    """Raises `UsageError` if ONNX Runtime cannot run the graph."""
    about = self.interface
    self.computing([len(about.maps)])._session(_taken(about, about.image_shape))

  def _session(self, shape):
    """Returns what runs the graph, for images of a shape as it takes them."""
    about = self.interface
    names = [*(each.tensor for each in about.maps), about.logits]
    return self._loaded().session(
      about.image,
      [names[place] for place in self.chosen],
      about.batch,
      [size or _SIZE for size in shape],
      about.dtype,
    )

  def _measured_shapes(self, image_shape, shapes):
    """Returns the shapes, those that the graph leaves open from a run."""
    about = self.interface
    if None in image_shape or not any(None in shape for shape in shapes):
      return shapes
    places = [n for n, shape in enumerate(shapes) if None in shape]
    part = self.computing(places)
    # Of its own, so that the session for these tensors is not kept.
    part.graphs = onnx_session.Graphs(self._loaded().content)
    taken = _taken(about, image_shape)
    image = np.zeros([1, *(length or 0 for length in taken)], about.dtype)
    outputs = part._session(taken)(image)
    shapes = list(shapes)
    for place, output in zip(places, outputs, strict=True):
      axes = about.maps[place].axes if place < len(about.maps) else (0, 1)
      shapes[place] = tuple(output.shape[axis] for axis in axes[1:])
    return shapes

  def _output_shapes(self, image_shape):
    """Returns the shapes of all outputs for images of a shape."""
    known = self._shapes.by_image
    if image_shape not in known:
      shapes = onnx_interface.shapes(
        self._loaded().model(), self.interface, image_shape
      )
      known[image_shape] = self._measured_shapes(image_shape, shapes)
    return known[image_shape]


@dataclasses.dataclass(frozen=True)
class _Known:
  """Shapes by that of the images; Keras wraps a dict that a layer has."""

  by_image: dict[tuple[int | None, ...], list[onnx_interface.Shape]]


@keras.saving.register_keras_serializable('ft_tf')
class OnnxMap(keras.layers.Layer):
  """A feature map of the graph, by a name that a layer can have.

  Attributes:
    tensor: Its name in the file.
    before: The name of the layer that an activation makes it of; '': it is not
      the output of an activation.
  """

  data_format = 'channels_last'

  def __init__(
    self, tensor: str, parameters: int = 0, before: str = '', **kwargs: Any
  ):
    """Names a map.

    Args:
      tensor: Its name in the file.
      parameters: As of `onnx_interface.Map`.
      before: The name of the layer before its activation.
      **kwargs: Keras's.
    """
    super().__init__(dtype='float32', **_without_dtype(kwargs))
    self.tensor = tensor
    self.before = before
    self._parameters = parameters

  def call(self, feature: tf.Tensor) -> tf.Tensor:
    return feature

  def compute_output_shape(self, shape: Any) -> Any:
    return shape

  def count_params(self) -> int:
    return self._parameters

  def get_config(self) -> dict[str, Any]:
    return {
      **super().get_config(),
      'tensor': self.tensor,
      'parameters': self._parameters,
      'before': self.before,
    }


@keras.saving.register_keras_serializable('ft_tf')
class OnnxLogits(keras.layers.Layer):
  """The logits; the maps are inputs, so that a model's graph has them."""

  def __init__(self, **kwargs: Any):
    super().__init__(dtype='float32', **_without_dtype(kwargs))

  def call(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    return tensors[0]

  def compute_output_shape(self, shapes: Any) -> Any:
    return shapes[0]


def load(path: str) -> keras.Model:
  """Returns the model of an ONNX file, from its images to its outputs.

  Raises:
    UsageError: the file is not one of a classifier of images, or cannot be
      read.
  """
  proto = onnx_files.read(path)
  about = onnx_interface.describe(proto, path)
  core = OnnxGraph(dataclasses.asdict(about), name='onnx')
  core.graphs = onnx_session.Graphs(proto.SerializeToString())
  # Now, since an error within a graph of TensorFlow has no clean message.
  core.try_out()
  image = keras.Input(
    about.image_shape,
    dtype='uint8' if about.dtype == 'uint8' else 'float32',
    name='image',
  )
  *maps, logits = core(image)
  names = _names([*(each.tensor for each in about.maps), about.logits])
  named = [
    OnnxMap(
      each.tensor, each.parameters, names.get(each.before, ''),
      name=names[each.tensor],
    )(feature)
    for each, feature in zip(about.maps, maps, strict=True)
  ]  # fmt: skip
  y = OnnxLogits(name=names[about.logits])([logits, *named])
  if about.activation:
    y = keras.layers.Activation(about.activation, name='probabilities')(y)
  stem = os.path.basename(path).removesuffix(onnx_files.SUFFIX)
  return keras.Model(image, y, name=re.sub(r'\W', '_', stem))


def holds(model: keras.Model) -> bool:
  """Tells whether ONNX Runtime computes a model, or a part of it."""
  return any(isinstance(layer, OnnxGraph) for layer in model.layers)


def describe(model: keras.Model) -> str:
  """Returns what an ONNX graph takes and gives, in words; '' without one."""
  for layer in model.layers:
    if isinstance(layer, OnnxGraph):
      about = layer.interface
      order = 'first' if about.channels_first else 'last'
      return (
        f'ONNX Runtime computes it; its input {about.image} is {about.dtype}, '
        f'channels {order}, its logits are {about.logits}'
      )
  return ''


def count_parameters(model: keras.Model) -> int:
  """Returns the number of weights in a model's ONNX graph; 0 without one."""
  return sum(
    layer.interface.parameters
    for layer in model.layers
    if isinstance(layer, OnnxGraph)
  )


def layer_name(tensor: str) -> str:
  """Returns the name of a tensor, or a pattern of names, as layers have it."""
  name = _FOREIGN.sub('.', tensor)
  return f'.{name}' if name[:1] in ('_', '-', '>') else name


def pruned(model: keras.Model) -> keras.Model:
  """Returns a model whose ONNX graph computes only what the outputs need.

  Args:
    model: Functional or Sequential; one without an ONNX graph is returned as it
      is.
  """
  if not holds(model):
    return model
  calls = graph.calls(model)
  (core,) = (call for call in calls if isinstance(call.operation, OnnxGraph))
  read = {id(tensor) for tensor in model.outputs}
  for call in calls:
    # The logits' layer has the maps for their names alone.
    count = 1 if isinstance(call.operation, OnnxLogits) else len(call.inputs)
    if not isinstance(call.operation, OnnxMap):
      read |= {id(tensor) for tensor in call.inputs[:count]}
  maps = {
    id(call.inputs[0]): call
    for call in calls
    if isinstance(call.operation, OnnxMap)
  }
  needed = [
    number
    for number, tensor in enumerate(core.outputs)
    if id(tensor) in read
    or (id(tensor) in maps and id(maps[id(tensor)].outputs[0]) in read)
  ]
  if len(needed) == len(core.outputs):
    return model
  smaller = core.operation.computing(
    [core.operation.chosen[number] for number in needed]
  )
  unread = {
    id(call.operation)
    for key, call in maps.items()
    if id(call.outputs[0]) not in read
  }

  def replace(operation):
    if operation is core.operation:
      return lambda image: _in_places(smaller(image), needed, core, image)
    if id(operation) in unread:
      return lambda nothing: nothing
    if isinstance(operation, OnnxLogits):
      return lambda tensors: operation(tensors[:1])
    return operation

  source = model.inputs[0]
  image = keras.Input(source.shape[1:], dtype=source.dtype, name=source.name)
  outputs = graph.run(model, [image], replace)
  return keras.Model(
    image,
    keras.tree.pack_sequence_as(graph.outputs(model), outputs),
    name=model.name,
  )


def _in_places(outputs, needed, core, image):
  """Returns outputs in their places; the image stands for what is not read."""
  by_place = dict(zip(needed, outputs, strict=True))
  return [by_place.get(n, image) for n in range(len(core.outputs))]


def _taken(
  about: onnx_interface.Interface, image_shape: Sequence[int | None]
) -> tuple[int | None, ...]:
  """Returns the shape of an image `(H, W, C)` as the graph takes it."""
  height, width, channels = image_shape
  if about.channels_first:
    return channels, height, width
  return height, width, channels


def _channels_last(
  output: tf.Tensor,
  axes: tuple[int, int, int, int],
  shape: onnx_interface.Shape,
) -> tf.Tensor:
  """Returns a tensor of the graph as `[B, H, W, C]`, of a known shape."""
  if axes != (0, 1, 2, 3):
    output = tf.transpose(output, axes)
  return tf.ensure_shape(output, (None, *shape))


def _names(tensors: Sequence[str]) -> dict[str, str]:
  """Returns a layer's name for each tensor, all different."""
  names: dict[str, str] = {}
  taken = set(_TAKEN)
  for tensor in tensors:
    name = layer_name(re.sub(r'[*?!\[\]]', '.', tensor)) or 'tensor'
    while name in taken:
      name += '_'
    taken.add(name)
    names[tensor] = name
  return names


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in config.items() if name != 'dtype'}
