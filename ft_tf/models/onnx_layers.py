"""The layers of a Keras model that ONNX Runtime computes; see `onnx_models`."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import onnx_files, onnx_interface, onnx_session, onnx_shapes

_FILE = 'teacher.onnx'  # within a .keras file
_SIZE = 224  # pixels of the images that a graph of any size is tried with


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

  @property
  def takes_bytes(self) -> bool:
    """Whether images are raw, uint8."""
    return self.interface.dtype == 'uint8'

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
    taken = [size or _SIZE for size in _taken(about, image_shape)]
    outputs = part._session(taken)(np.zeros([1, *taken], about.dtype))
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

  by_image: dict[tuple[int | None, ...], list[onnx_shapes.Shape]]


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
  shape: onnx_shapes.Shape,
) -> tf.Tensor:
  """Returns a tensor of the graph as `[B, H, W, C]`, of a known shape."""
  if axes != (0, 1, 2, 3):
    output = tf.transpose(output, axes)
  return tf.ensure_shape(output, (None, *shape))


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in config.items() if name != 'dtype'}
