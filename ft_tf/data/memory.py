"""Free memory, and tensors of images without a second copy."""

import os

import numpy as np
import tensorflow as tf

# The share of the free memory for images; the rest is for networks.
_SHARE = 0.75
_ALIGNMENT = 64  # bytes; TensorFlow's buffers begin at multiples of it
# The memory limit of a container, for both versions of Linux control groups.
_CGROUPS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


def total_bytes() -> int:
  """Returns the memory of this machine, or of the container, in bytes."""
  pages = os.sysconf('SC_PHYS_PAGES')
  return min([os.sysconf('SC_PAGE_SIZE') * pages, *_container_limits()])


def available_bytes() -> int:
  """Returns the bytes that this process can still allocate without swapping."""
  page = os.sysconf('SC_PAGE_SIZE')
  free = [page * os.sysconf('SC_PHYS_PAGES')]
  for line in _lines('/proc/meminfo'):
    if line.startswith('MemAvailable:'):
      free.append(1024 * int(line.split()[1]))
  used = page * sum(int(line.split()[1]) for line in _lines('/proc/self/statm'))
  free += [limit - used for limit in _container_limits()]
  return max(min(free), 0)


def _container_limits() -> list[int]:
  """Returns the limits of the container in bytes; [] if there are none."""
  return [
    int(line)
    for path in _CGROUPS
    for line in _lines(path)
    if line.strip().isdecimal()
  ]


def is_short_for(wanted: int) -> bool:
  """Returns whether images need too much of the free memory.

  Args:
    wanted: Bytes of the images and of all their copies.
  """
  return wanted > _SHARE * available_bytes()


def to_tensor(images: np.ndarray) -> tf.Tensor:
  """Returns an array as a tensor on the CPU, by one copy.

  `tf.constant` makes two copies of an array whose address is not a multiple of
  64, which is the case for large arrays, and keeps both.
  """
  buffer = np.empty(images.nbytes + _ALIGNMENT, np.uint8)
  start = -buffer.ctypes.data % _ALIGNMENT
  copy = buffer[start : start + images.nbytes].view(images.dtype)
  copy = copy.reshape(images.shape)
  copy[:] = images
  return tf.experimental.dlpack.from_dlpack(copy.__dlpack__())


def _lines(path: str) -> list[str]:
  """Returns the lines of a file; [] if the system has no such file."""
  try:
    with open(path, encoding='utf-8') as file:
      return file.readlines()
  except OSError:
    return []
