"""How much memory a model file takes while it runs.

Two figures, since none is right for every runtime:

- the tensor arena, which LiteRT's planner lays out for the activations of one
  image. It is the same on every machine, and what a microcontroller reserves;
- the resident memory by which a process grows on this machine when it loads
  the file and runs it: weights as XNNPACK or ONNX Runtime repack them, their
  working memory and what their libraries need for themselves.
"""

import signal
import subprocess
import sys

from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from ft_tf import errors

# The planner puts a tensor at most so many bytes behind the one before it.
_ALIGNMENT = 64


def arena_bytes(path: str) -> int:
  """Returns the size of the tensor arena for one image, in bytes.

  LiteRT's reference kernels stand for all: XNNPACK plans its own memory in the
  same way, out of sight. It includes the input, the output and, in a file with
  float16 weights, the weights in float32.

  Args:
    path: A .tflite file.
  """
  interpreter = litert.Interpreter(
    model_path=path,
    num_threads=1,
    experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
  )
  interpreter.allocate_tensors()
  constants = _constants(path)
  spans = []
  for details in interpreter.get_tensor_details():
    if details['index'] in constants:
      continue
    try:
      memory = interpreter.tensor(details['index'])()
    except ValueError:  # It has no memory, such as a variable's handle.
      continue
    start = memory.__array_interface__['data'][0]
    spans.append((start, start + memory.nbytes))
  return _covered(spans)


def _constants(path: str) -> set[int]:
  """Returns the indices of the tensors whose values stand in the file."""
  with open(path, 'rb') as file:
    model = schema.Model.GetRootAs(file.read(), 0)
  graph = model.Subgraphs(0)
  return {
    index
    for index in range(graph.TensorsLength())
    for buffer in [model.Buffers(graph.Tensors(index).Buffer())]
    # Files over 2 GB have offsets to what stands behind the flatbuffer.
    if buffer.DataLength() or buffer.Offset() > 1
  }


def _covered(spans: list[tuple[int, int]]) -> int:
  """Returns the bytes of the blocks of memory that addresses lie in."""
  total, block_start, block_end = 0, 0, 0
  for start, end in sorted(spans):
    if start > block_end + _ALIGNMENT:
      total += block_end - block_start
      block_start = start
    block_end = max(block_end, end)
  return total + block_end - block_start


def peak_bytes(path: str) -> int | None:
  """Returns by how much a process grows at most when it runs a file.

  A new process measures it, because memory that this one has freed before
  would hide what the file takes.

  Args:
    path: A .tflite or .onnx file.

  Returns:
    Resident bytes for one black image in one thread; None where the system does
    not tell.

  Raises:
    TrainingError: the process failed.
  """
  done = _run_once(path)
  if done.returncode:
    lines = done.stderr.strip().splitlines() or ['no message']
    raise errors.TrainingError(
      f'the memory of {path} could not be measured: its process ended with '
      f'code {done.returncode} ({lines[-1]})'
    )
  grown = done.stdout.split()[-1]
  return None if grown == 'unknown' else int(grown)


def check_survives(path: str) -> None:
  """Raises `UsageError` if the runtime of a file crashes on it.

  LiteRT checks the structure of a file, and not all that its operations read:
  a damaged byte can crash the process. Another one shows it first.

  Args:
    path: A .tflite file.
  """
  code = _run_once(path).returncode
  if code < 0:
    name = signal.Signals(-code).name
    raise errors.UsageError(
      f'{path} is damaged: LiteRT crashes on it ({name}); give a whole copy of '
      'the file'
    )


def _run_once(path: str) -> subprocess.CompletedProcess[str]:
  """Runs a file in a process of its own."""
  return subprocess.run(
    [sys.executable, '-m', 'ft_tf.export.memory_worker', path],
    capture_output=True,
    text=True,
    check=False,
  )
