"""Whether a SavedModel computes only: its operations, before one of them runs.

A SavedModel is a program. Its operations can read and write files, and some run
while it is loaded. Looked at are those of all functions that loading or its
signatures can reach; what saves and restores its variables is reached by
neither, since TensorFlow restores them itself.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from ft_tf import errors, paths

_FILE = 'saved_model.pb'
# What TensorFlow would read in place of that file.
_OTHER_FORMS = ('saved_model.cpb', 'saved_model.pbtxt')
# Operations with state that reach nothing but the memory of their model.
_STATEFUL = re.compile(
  r'(Read|Assign|AssignAdd|AssignSub)VariableOp|VarHandleOp|VariableV2|Variable'
  r'|Assign|VarIsInitializedOp|DestroyResourceOp|ResourceGather(Nd)?'
  r'|Stateful(PartitionedCall|RandomBinomial|StandardNormal(V2)?|UniformInt'
  r'|Uniform(FullInt)?|TruncatedNormal)|If|While|Case|Assert|RngReadAndSkip'
  r'|Random(Uniform(Int)?|StandardNormal|Gamma|Shuffle|PoissonV2)'
  r'|TruncatedNormal|Multinomial|(Mutable)?HashTable(V2)?|MutexV2'
  r'|LookupTable(Find|Import|Insert|Size)(V2)?|DisableCopyOnRead'
)
# Operations, with or without state, that reach beyond it.
_BEYOND = re.compile(
  r'File|Dataset|Iterator|Reader|Save|Restore|Checkpoint|PyFunc|Print|Logger'
  r'|Summary|Send|Recv|Collective|Rpc|Worker|Library|Dump|Debug|Snapshot|TRT'
  r'|Tpu|TPU|Remote|Socket|Proto|Database|Bigtable|Cache|Record|Barrier|Queue'
)


def check(path: str) -> None:
  """Looks at the operations of a SavedModel.

  Args:
    path: The folder, which has a `saved_model.pb`.

  Raises:
    UsageError: it cannot be read, or has operations that reach beyond the
      memory of their model; they are named.
  """
  for name in _OTHER_FORMS:
    if os.path.lexists(os.path.join(path, name)):
      raise errors.UsageError(
        f'{path} has a {name} as well as a {_FILE}, which cannot be checked: '
        'give a folder without it, or --allow_unsafe_model if you trust who '
        'made it'
      )
  paths.check_tree(path)
  saved = saved_model_pb2.SavedModel()
  try:
    with open(os.path.join(path, _FILE), 'rb') as file:
      saved.ParseFromString(file.read())
  except Exception as error:  # protobuf raises its own kinds.
    raise errors.UsageError(
      f'{path} does not load as a SavedModel ('
      f'{errors.first_line(error)}): give another model'
    ) from error
  unsafe = sorted(
    {name for graph in saved.meta_graphs for name in _unsafe(graph)}
  )
  if unsafe:
    raise errors.UsageError(
      f'{path} has operations that may reach files or other programs '
      f'({", ".join(unsafe)}): give --allow_unsafe_model if you trust who made '
      'it, or a .keras or .tflite file'
    )


def _unsafe(meta_graph: Any) -> Iterable[str]:
  """Yields the names of operations that are not known to compute only."""
  graph = meta_graph.graph_def
  functions = {each.signature.name: each for each in graph.library.function}
  saver = meta_graph.saver_def
  of_saver = set()
  # Of TensorFlow 1 the whole graph is run, its saver's operations too.
  if meta_graph.object_graph_def.nodes:
    for name in (saver.save_tensor_name, saver.restore_op_name):
      of_saver.add(name.partition(':')[0])
  waiting = [node for node in graph.node if node.name not in of_saver]
  seen: set[str] = set()

  def add(names: Iterable[str]) -> None:
    for name in names:
      if name in functions and name not in seen:
        seen.add(name)
        waiting.extend(functions[name].node_def)

  add(meta_graph.object_graph_def.concrete_functions)
  while waiting:
    node = waiting.pop()
    add(_called(node.attr))
    if node.op in functions:
      add([node.op])
    elif not _only_computes(node.op):
      yield node.op


def _called(attributes: Mapping[str, Any]) -> Iterable[str]:
  """Yields the functions that the attributes of a node name."""
  for value in attributes.values():
    if value.HasField('func'):
      yield value.func.name
    for each in value.list.func:
      yield each.name


def _only_computes(name: str) -> bool:
  """Tells whether an operation reaches no more than its model's memory."""
  if _BEYOND.search(name):
    return False
  definition = op_def_registry.get(name)
  if definition is None:
    return False
  return not definition.is_stateful or bool(_STATEFUL.fullmatch(name))
