"""Memory for images: how much there is, and one copy for TensorFlow."""

import os

import numpy as np
import tensorflow as tf

_ALIGNMENT = 64  # bytes, of TensorFlow's buffers
# Limits of a container, by version of Linux's control groups.
_CGROUPS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


def available() -> int:
  """Returns the bytes that this process may still take without swapping."""
  page = os.sysconf('SC_PAGE_SIZE')
  free = [page * os.sysconf('SC_PHYS_PAGES')]
  for line in _lines('/proc/meminfo'):
    if line.startswith('MemAvailable:'):
      free.append(1024 * int(line.split()[1]))
  used = page * sum(int(line.split()[1]) for line in _lines('/proc/self/statm'))
  for path in _CGROUPS:
    free += [int(x) - used for x in _lines(path) if x.strip().isdecimal()]
  return max(min(free), 0)


def tensor(images: np.ndarray) -> tf.Tensor:
  """Returns an array as a tensor on the CPU, by one copy.

  `tf.constant` makes two copies of an array whose address is not a multiple of
  64, as are those of large arrays, and keeps both.
  """
  buffer = np.empty(images.nbytes + _ALIGNMENT, np.uint8)
  start = -buffer.ctypes.data % _ALIGNMENT
  copy = buffer[start : start + images.nbytes].view(images.dtype)
  copy = copy.reshape(images.shape)
  copy[:] = images
  return tf.experimental.dlpack.from_dlpack(copy.__dlpack__())


def _lines(path: str) -> list[str]:
  """Returns a file's lines; none where the system has no such file."""
  try:
    with open(path, encoding='utf-8') as file:
      return file.readlines()
  except OSError:
    return []
