"""How XNNPACK, LiteRT's library of CPU kernels, divides a graph.

An operation that it has no kernel for stays with LiteRT's own kernels, which
are slower, and cuts the graph: what lies between two of them is a part.
"""

import collections
import dataclasses
from typing import Any

from ft_tf.evaluation import device_files

_DELEGATE = 'DELEGATE'


@dataclasses.dataclass(frozen=True)
class Partitions:
  """The parts of a .tflite file's graph.

  Attributes:
    parts: How many parts XNNPACK runs. One that has no part in the image, but
      makes float32 of float16 weights, is not counted.
    outside: How many operations of each kind it does not run, such as
      `{'HARD_SWISH': 19}`. The `CAST` or `QUANTIZE` of uint8 images and
      logits always stands outside; at the ends of a graph it does not cut it.
  """

  parts: int
  outside: dict[str, int]


def partitions(path: str) -> Partitions:
  """Returns how XNNPACK divides the graph of a .tflite file on this machine.

  Raises:
    UsageError: the file does not load.
  """
  interpreter = device_files.LiteRTPredictor(path, threads=1).interpreter
  # No public function tells; LiteRT's own analyzer reads the same list. Where
  # a part was made of operations, these stay in it.
  operations = interpreter._get_ops_details()
  parts = [each for each in operations if each['op_name'] == _DELEGATE]
  own = [each for each in operations if each['op_name'] != _DELEGATE]
  made_by = {int(made): each for each in own for made in each['outputs']}
  inside: set[int] = set()
  for part in parts:
    inside |= _between(part, made_by)
  outside = collections.Counter(
    each['op_name'] for each in own if each['index'] not in inside
  )
  (image,) = interpreter.get_input_details()
  moving = {image['index'], *made_by}  # All others are weights.
  parts = [each for each in parts if moving & {int(i) for i in each['inputs']}]
  return Partitions(len(parts), dict(sorted(outside.items())))


def _between(part: dict[str, Any], made_by: dict[int, Any]) -> set[int]:
  """Returns the indices of the operations that a part runs."""
  given = {int(each) for each in part['inputs']}
  waiting = [int(each) for each in part['outputs']]
  operations: set[int] = set()
  while waiting:
    tensor = waiting.pop()
    operation = made_by.get(tensor)
    if tensor in given or operation is None:
      continue
    if operation['index'] not in operations:
      operations.add(operation['index'])
      waiting += [int(each) for each in operation['inputs']]
  return operations
