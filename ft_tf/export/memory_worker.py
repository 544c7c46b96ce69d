"""The process that runs one file and prints the memory that it took for it.

It imports the file's runtime and nothing else of weight, above all not
TensorFlow.
"""

import os
import sys

import numpy as np

_STATUS = '/proc/self/status'
_REFERENCES = '/proc/self/clear_refs'
_RUNS = 3


def main() -> None:
  run_one = {'.tflite': _litert, '.onnx': _onnx}[
    os.path.splitext(sys.argv[1])[1]
  ]
  run = run_one(sys.argv[1])
  try:
    with open(_REFERENCES, 'w', encoding='utf-8') as file:
      file.write('5')  # The peak so far is forgotten.
    before = _kilobytes('VmRSS')
  except OSError:  # It is another system than Linux.
    print('unknown')
    return
  run()
  print(1024 * max(0, _kilobytes('VmHWM') - before))


def _litert(path):
  from ai_edge_litert import interpreter as litert  # noqa: PLC0415

  def run():
    interpreter = litert.Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    interpreter.set_tensor(
      image['index'], np.zeros(image['shape'], image['dtype'])
    )
    for _ in range(_RUNS):
      interpreter.invoke()

  return run


def _onnx(path):
  import onnxruntime  # noqa: PLC0415

  def run():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
      path, options, providers=['CPUExecutionProvider']
    )
    (image,) = session.get_inputs()
    dtype = {'tensor(uint8)': np.uint8}.get(image.type, np.float32)
    for _ in range(_RUNS):
      session.run(None, {image.name: np.zeros(image.shape, dtype)})

  return run


def _kilobytes(name: str) -> int:
  """Returns a figure of this process's memory, as Linux has it."""
  with open(_STATUS, encoding='utf-8') as file:
    for line in file:
      if line.startswith(f'{name}:'):
        return int(line.split()[1])
  raise OSError(f'{_STATUS} has no {name}')


if __name__ == '__main__':
  main()
