"""An ONNX file as a Keras model: its tensors are layers, ONNX Runtime computes.

So whatever reads a teacher's graph, by the names of layers, reads an ONNX file
too, and a `.keras` file of such a model holds the ONNX file.
"""

import dataclasses
import os
import re
from collections.abc import Sequence

import keras

from ft_tf.models import (
  graph,
  onnx_files,
  onnx_interface,
  onnx_layers,
  onnx_session,
)

_TAKEN = ('image', 'onnx', 'preprocessing', 'probabilities', 'raw_image')
# What the name of a layer may not have; *, ?, ! and [] are of patterns.
_FOREIGN = re.compile(r'[^A-Za-z0-9_.>*?!\[\]-]')


def load(path: str) -> keras.Model:
  """Returns the model of an ONNX file, from its images to its outputs.

  Raises:
    UsageError: the file is not one of a classifier of images, or cannot be
      read.
  """
  proto = onnx_files.read(path)
  about = onnx_interface.describe(proto, path)
  core = onnx_layers.OnnxGraph(dataclasses.asdict(about), name='onnx')
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
    onnx_layers.OnnxMap(
      each.tensor, each.parameters, names.get(each.before, ''),
      name=names[each.tensor],
    )(feature)
    for each, feature in zip(about.maps, maps, strict=True)
  ]  # fmt: skip
  y = onnx_layers.OnnxLogits(name=names[about.logits])([logits, *named])
  if about.activation:
    y = keras.layers.Activation(about.activation, name='probabilities')(y)
  stem = os.path.basename(path).removesuffix(onnx_files.SUFFIX)
  return keras.Model(image, y, name=re.sub(r'\W', '_', stem))


def holds(model: keras.Model) -> bool:
  """Tells whether ONNX Runtime computes a model, or a part of it."""
  return any(isinstance(layer, onnx_layers.OnnxGraph) for layer in model.layers)


def describe(model: keras.Model) -> str:
  """Returns what an ONNX graph takes and gives, in words; '' without one."""
  for layer in model.layers:
    if isinstance(layer, onnx_layers.OnnxGraph):
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
    if isinstance(layer, onnx_layers.OnnxGraph)
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
  (core,) = (
    call for call in calls if isinstance(call.operation, onnx_layers.OnnxGraph)
  )
  read = {id(tensor) for tensor in model.outputs}
  for call in calls:
    # The logits' layer has the maps for their names alone.
    count = (
      1
      if isinstance(call.operation, onnx_layers.OnnxLogits)
      else len(call.inputs)
    )
    if not isinstance(call.operation, onnx_layers.OnnxMap):
      read |= {id(tensor) for tensor in call.inputs[:count]}
  maps = {
    id(call.inputs[0]): call
    for call in calls
    if isinstance(call.operation, onnx_layers.OnnxMap)
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
    if isinstance(operation, onnx_layers.OnnxLogits):
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
