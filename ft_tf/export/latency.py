"""How long files of a model take for one image on this machine.

The speed of a machine drifts, with its temperature and with what else runs on
it. All files that are compared are therefore measured in turn, in short blocks,
so that a drift reaches all of them alike.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ft_tf.evaluation import device_files
from ft_tf.export import memory, partitions, processor

_PERCENTILES = (50, 90, 95, 99)
_WARM_UP = 20
_ROUNDS = 40  # blocks of every file
_BLOCK = 5  # timed runs of a block
# A file whose runs are longer has shorter blocks, of one run at least.
_BLOCK_SECONDS = 0.25


def measure(
  path: str, image: np.ndarray, *, threads: int = 1
) -> dict[str, float | int]:
  """Returns the latency of single images, in milliseconds.

  Args:
    path: A .tflite or .onnx file.
    image: One raw image, `[H, W, C]` uint8.
    threads: CPU threads of the runtime.

  Returns:
    `p50`, `p90`, `p95`, `p99` of `runs` warm runs, and `threads`.
  """
  (timing,) = _in_turn([path], image, threads)
  taken = timing.as_json()
  del taken['first_ms']
  return taken | {'threads': threads}


def measure_all(
  files: Mapping[str, str],
  image: np.ndarray,
  teacher: str | None = None,
  threads: Iterable[int] = (1, 2),
) -> dict[str, Any]:
  """Returns what files take for one image: time and memory.

  Args:
    files: Paths of .tflite and .onnx files, by the name that they are given.
    image: One raw image of their size, `[H, W, C]` uint8.
    teacher: The teacher's .tflite file, measured among them; it may take images
      of another size.
    threads: Numbers of CPU threads; those above the cores are left out.

  Returns:
    `processor`, as of `processor.describe`; `threads`, as measured; `files`,
    by name: for each number of threads, as text, `p50`, `p90`, `p95` and
    `p99` of `runs` warm runs and `first_ms`, the first run behind loading, in
    milliseconds; `peak_bytes`, as of `memory.peak_bytes`; and of .tflite files
    `arena_bytes`, as of `memory.arena_bytes`, `xnnpack_parts`, as of
    `partitions.partitions`, and `outside_xnnpack`, operations by kind.
    `teacher`, the same; None without one. `fastest`, the name of the file with
    the least `p50` in one thread.
  """
  machine = processor.describe()
  threads = [count for count in threads if count <= machine['cores']] or [1]
  paths = [*files.values(), *([teacher] if teacher else [])]
  measured: list[dict[str, Any]] = [{} for _ in paths]
  for count in threads:
    for entry, timing in zip(
      measured, _in_turn(paths, image, count), strict=True
    ):
      entry[str(count)] = timing.as_json()
  for entry, path in zip(measured, paths, strict=True):
    entry |= _memory(path)
  by_name = dict(zip(files, measured[: len(files)], strict=True))
  least = str(threads[0])
  return {
    'processor': machine,
    'threads': threads,
    'files': by_name,
    'teacher': measured[-1] if teacher else None,
    'fastest': min(by_name, key=lambda name: by_name[name][least]['p50']),
  }


def _memory(path: str) -> dict[str, Any]:
  figures: dict[str, Any] = {'peak_bytes': memory.peak_bytes(path)}
  if path.endswith('.tflite'):
    divided = partitions.partitions(path)
    figures |= {
      'arena_bytes': memory.arena_bytes(path),
      'xnnpack_parts': divided.parts,
      'outside_xnnpack': divided.outside,
    }
  return figures


@dataclasses.dataclass(frozen=True)
class _Timing:
  """Seconds of a file's runs: the first, and those after the warm-up."""

  first: float
  warm: list[float]

  def as_json(self) -> dict[str, float | int]:
    return {
      **{
        f'p{share}': round(1000 * float(np.percentile(self.warm, share)), 4)
        for share in _PERCENTILES
      },
      'runs': len(self.warm),
      'first_ms': round(1000 * self.first, 4),
    }


def _in_turn(
  paths: list[str], image: np.ndarray, threads: int
) -> list[_Timing]:
  """Times files in turn, their first runs and warm ones."""
  opened = [device_files.open_file(path, threads=threads) for path in paths]
  first = []
  for predict in opened:
    start = time.perf_counter()
    predict(_fitting(image, predict)[None])
    first.append(time.perf_counter() - start)
  warm = in_turn([predict.invoke for predict in opened])
  return [_Timing(*each) for each in zip(first, warm, strict=True)]


def in_turn(calls: Sequence[Callable[[], object]]) -> list[list[float]]:
  """Returns the seconds of each run of calls, warm, timed block by block."""
  sizes = []
  for call in calls:
    start = time.perf_counter()
    for _ in range(_WARM_UP):
      call()
    seconds = (time.perf_counter() - start) / _WARM_UP
    sizes.append(max(1, min(_BLOCK, int(_BLOCK_SECONDS / seconds))))
  taken: list[list[float]] = [[] for _ in calls]
  for _ in range(_ROUNDS):
    for call, size, seconds_of_call in zip(calls, sizes, taken, strict=True):
      call()  # Brings its weights back into the processor's caches.
      for _ in range(size):
        start = time.perf_counter()
        call()
        seconds_of_call.append(time.perf_counter() - start)
  return taken


def _fitting(
  image: np.ndarray, predict: device_files.FilePredictor
) -> np.ndarray:
  """Returns an image of the size and channels that a file takes.

  Time does not depend on what is in it.
  """
  shape = [
    own if wanted is None else wanted
    for own, wanted in zip(image.shape, predict.image_shape, strict=True)
  ]
  return np.resize(image, shape)
