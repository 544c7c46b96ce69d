"""ONNX files as users have them: read whole, or refused.

A file may name further files that hold its weights, and operations of
libraries that are not here. Neither may reach beyond the file's own folder.
"""

import importlib
import os
import types
from collections.abc import Iterator
from typing import Any

from ft_tf import errors, paths

SUFFIX = '.onnx'
_LARGEST = 2**31 - 1  # bytes of a message of protobuf
# The operations that ONNX Runtime has without further libraries.
_DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft')


def is_onnx(name: str) -> bool:
  """Tells whether a model is named by an ONNX file."""
  return name.endswith(SUFFIX)


def package(name: str, what: str) -> types.ModuleType:
  """Returns the optional package `onnx` or `onnxruntime`.

  Args:
    name: The package.
    what: What needs it, in the words of a message.

  Raises:
    UsageError: it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise errors.UsageError(
      f'{what} needs the packages onnx and onnxruntime ({error}): run `pip '
      'install onnx onnxruntime`'
    ) from error


def read(path: str) -> Any:
  """Returns the ModelProto of a file, its weights and functions inside.

  Raises:
    UsageError: there is no such file, it is not an ONNX file, it names weights
      outside its folder, or operations that ONNX Runtime does not have.
  """
  if not os.path.isfile(path):
    raise errors.UsageError(
      f'there is no file {path}: give the path of an .onnx model'
    )
  onnx = package('onnx', path)
  package('onnxruntime', path)
  with open(path, 'rb') as file:
    content = file.read()
  try:
    model = onnx.ModelProto.FromString(content)
  except Exception as error:  # The class differs between protobuf's kinds.
    raise errors.UsageError(_not_onnx(path)) from error
  is_whole = model.graph.node and model.graph.output and model.opset_import
  if not is_whole or not _has_only_text(model):
    raise errors.UsageError(_not_onnx(path))
  if model.functions:
    inliner = importlib.import_module('onnx.inliner')
    model = inliner.inline_local_functions(model)
  model.ClearField('training_info')
  model.ClearField('metadata_props')
  _check_operations(model, path)
  _check_names(model.graph, path)
  _include_weights(model, onnx.TensorProto, path)
  return model


def _not_onnx(path: str) -> str:
  return (
    f'{path} is not an ONNX file: give one that torch.onnx.export or another '
    'exporter wrote'
  )


def _has_only_text(message: Any) -> bool:
  """Tells whether all text in a message is text.

  Protobuf's format has it in UTF-8, which its reader does not check: it gives
  bytes in place of what is none.
  """
  for field, value in message.ListFields():
    if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
      continue
    is_one = isinstance(value, str | bytes) or hasattr(value, 'ListFields')
    for each in [value] if is_one else value:
      if isinstance(each, bytes):
        return False
      if not isinstance(each, str) and not _has_only_text(each):
        return False
  return True


def subgraphs(node: Any) -> Iterator[Any]:
  """Yields the graphs within a node, such as the branches of an `If`."""
  for attribute in node.attribute:
    if attribute.HasField('g'):
      yield attribute.g
    yield from attribute.graphs


def _nodes(graph: Any) -> Iterator[Any]:
  """Yields every node of a graph and of the graphs within."""
  for node in graph.node:
    yield node
    for inner in subgraphs(node):
      yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
  """Yields every stored tensor of a graph and of the graphs within."""
  yield from graph.initializer
  for sparse in graph.sparse_initializer:
    yield from (sparse.values, sparse.indices)
  for node in graph.node:
    for attribute in node.attribute:
      if attribute.HasField('t'):
        yield attribute.t
      yield from attribute.tensors
    for inner in subgraphs(node):
      yield from _tensors(inner)


def _check_operations(model: Any, path: str) -> None:
  foreign = {
    f'{node.domain}.{node.op_type}'
    for node in _nodes(model.graph)
    if node.domain not in _DOMAINS
  }
  if foreign:
    raise errors.UsageError(
      f'{path} has operations that ONNX Runtime does not have '
      f'({", ".join(sorted(foreign))}): export the model again with the '
      'operations of ONNX alone'
    )


def _check_names(graph: Any, path: str) -> None:
  """Raises `UsageError` if two nodes make a tensor of the same name."""
  made: set[str] = set()
  for name in (name for node in graph.node for name in node.output if name):
    if name in made:
      raise errors.UsageError(
        f'{path} makes its tensor {name} twice, which is no graph of ONNX: '
        'export it again'
      )
    made.add(name)


def _include_weights(model: Any, tensor_proto: Any, path: str) -> None:
  """Puts the weights that are in other files into a model.

  Raises:
    UsageError: such a file is outside the model's folder or cannot be read, or
      all is more than one ONNX model can hold.
  """
  external = [
    tensor
    for tensor in _tensors(model.graph)
    if tensor.data_location == tensor_proto.EXTERNAL
  ]
  total = model.ByteSize()
  for tensor in external:
    content = _external_bytes(tensor, path)
    total += len(content)
    if total > _LARGEST:
      raise errors.UsageError(
        f'{path} has more than 2 GiB of weights: give a smaller teacher, or '
        'one exported in float16'
      )
    tensor.raw_data = content
    tensor.data_location = tensor_proto.DEFAULT
    del tensor.external_data[:]


def _external_bytes(tensor: Any, path: str) -> bytes:
  """Returns the bytes of a tensor that is in a file beside the model.

  Raises:
    UsageError: the file is not in the model's folder, or cannot be read.
  """
  entries = {entry.key: entry.value for entry in tensor.external_data}
  location = entries.get('location', '')
  folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
  # A link may lead out of the folder, too. No path has a null byte.
  where = os.path.realpath(os.path.join(folder, location.replace('\0', '')))
  if (
    '\0' in location
    or os.path.isabs(location)
    or not where.startswith(folder + os.sep)
  ):
    raise errors.UsageError(
      f'{path} names the file {location} for its weights, which is not in its '
      'folder: give a model whose weights are inside it or beside it'
    )
  paths.check_regular(where)
  try:
    offset, length = int(entries.get('offset', 0)), entries.get('length')
    with open(where, 'rb') as file:
      file.seek(offset)
      content = file.read(int(length) if length else -1)
  except (OSError, ValueError) as error:
    raise errors.UsageError(
      f'{path}: its weights in {location} cannot be read ({error}): put the '
      'files of the model into one folder'
    ) from error
  if length and len(content) != int(length):
    raise errors.UsageError(
      f'{path}: its weights in {location} are cut off: copy the file again'
    )
  return content
