"""How long a .tflite file takes for one image on this machine."""

import time

import numpy as np

from ft_tf.evaluation import device_files

_WARM_UP = 20
_RUNS = 200


def measure(
  path: str, image: np.ndarray, *, threads: int = 1
) -> dict[str, float | int]:
  """Returns the latency of single images, in milliseconds.

  Args:
    path: A .tflite file.
    image: One raw image, `[H, W, C]` uint8.
    threads: CPU threads of the interpreter.

  Returns:
    `p50`, `p90`, `p99` of `runs` invocations after a warm-up, and `threads`.
  """
  predict = device_files.LiteRTPredictor(path, threads=threads)
  batch = image[None]
  for _ in range(_WARM_UP):
    predict(batch)
  seconds = []
  for _ in range(_RUNS):
    start = time.perf_counter()
    predict.interpreter.invoke()
    seconds.append(time.perf_counter() - start)
  p50, p90, p99 = np.percentile(seconds, [50, 90, 99]) * 1000
  return {
    'p50': round(float(p50), 4),
    'p90': round(float(p90), 4),
    'p99': round(float(p99), 4),
    'threads': threads,
    'runs': _RUNS,
  }
