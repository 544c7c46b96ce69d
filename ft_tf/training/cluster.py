"""Training on several machines, which the variable TF_CONFIG names.

Every machine, a worker, runs the same command on the same images. Each trains
on its own part of every batch and does all else like the others, so that they
stay equal. The first one, the chief, alone writes to the work folder. The
others work in temporary folders, which begin as copies of the chief's: all of
them continue from its checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import errors, interrupts
from ft_tf.training import tf_config

# Of an error of TensorFlow's, which worker it is about.
_TASK = re.compile(r'/job:(\w+)(?:/replica:\d+)?/task:(\d+)')
# Bytes that the chief sends at a time; of integers of 8 bytes.
_CHUNK = 2**24
# In a work folder, what nothing is continued from.
_NOT_SENT = ('tensorboard', 'maps', '.lock')


class _Joined:
  """The workers that this process has joined; a process joins but once."""

  def __init__(
    self, workers: tf_config.Workers, strategy: tf.distribute.Strategy
  ):
    self.workers = workers
    self.strategy = strategy
    self.folder: tempfile.TemporaryDirectory[str] | None = None
    replicas = strategy.num_replicas_in_sync // len(workers.addresses)

    @tf.function(reduce_retracing=True, autograph=False)
    def add(values):
      of_replicas = strategy.run(tf.identity, args=(values,))
      added = strategy.reduce(
        tf.distribute.ReduceOp.SUM, of_replicas, axis=None
      )
      return added // replicas

    self.add = add


_joined: _Joined | None = None


def join(workers: tf_config.Workers) -> tf.distribute.Strategy:
  """Waits for all workers, and returns the strategy of their devices.

  Raises:
    UsageError: TensorFlow is in use already, or the port is.
  """
  global _joined
  if _joined is not None:
    return _joined.strategy
  tf_config.meet(workers)
  try:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
  except RuntimeError as error:
    raise errors.UsageError(
      f'{tf_config.VARIABLE} is set: make the strategy before anything else '
      f'uses TensorFlow ({error})'
    ) from error
  except tf.errors.OpError as error:
    raise errors.UsageError(
      f'{workers.name} cannot listen at {workers.addresses[workers.index]} or '
      f'reach the others '
      f'({errors.first_line(error)}): give free ports that the '
      'machines reach each other at'
    ) from error
  # TensorFlow has taken the signal for its own notice of preemption.
  interrupts.take_again()
  _joined = _Joined(workers, strategy)
  if workers.index:
    _say(
      f'{workers.name} trains along; the chief, {workers.addresses[0]}, shows '
      'progress and writes the work folder'
    )
  return strategy


def is_chief() -> bool:
  """Tells whether this process writes; so it is of one that works alone."""
  return _joined is None or not _joined.workers.index


def work_folder(path: str) -> str:
  """Returns the folder that this process works in.

  That is the given one, and for a worker that is not the chief a temporary one,
  which begins as the chief's. All workers must call this, and after `join`.

  Raises:
    WorkerError: a worker is gone.
  """
  if _joined is None:
    return path
  packed = from_chief(_pack(path) if is_chief() else b'')
  if is_chief():
    return path
  _joined.folder = tempfile.TemporaryDirectory(prefix='ft_tf-worker-')
  # Of a name that every command takes, and not there if the chief's is not.
  folder = os.path.join(_joined.folder.name, 'work')
  if packed:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
      archive.extractall(folder, filter='data')
  return folder


def least(value: int) -> int:
  """Returns the least of all workers' values; all must call it."""
  if _joined is None:
    return value
  values = np.zeros(len(_joined.workers.addresses), np.int64)
  values[_joined.workers.index] = value
  return int(_joined.add(tf.constant(values)).numpy().min())


def any_of(flag: bool) -> bool:
  """Tells whether any worker's flag is set; all must call it."""
  return not least(not flag)


def finish() -> None:
  """Waits until all workers have come as far, at the end of a command.

  Raises:
    WorkerError: a worker is gone.
  """
  if _joined is not None:
    with explained():
      least(0)


def leave_if_failed(code: int) -> None:
  """Ends a process that one of several workers failed in, at once.

  Otherwise TensorFlow waits at the end for workers that are gone, and reports
  them after the message.

  Args:
    code: The exit code; 0: the process goes on.
  """
  if _joined is None or not code:
    return
  if _joined.folder is not None:
    _joined.folder.cleanup()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def describe_end() -> str:
  """Returns what a worker that is not the chief says at the end."""
  assert _joined is not None
  workers = _joined.workers
  return (
    f'{workers.name} is done; the chief, {workers.addresses[0]}, has the result'
  )


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Says in a block which worker is gone, where TensorFlow's error is of that.

  Raises:
    WorkerError: one is gone.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if _joined is None or error.error_code not in _codes_of_lost():
      raise
    raise errors.WorkerError(
      f'{_describe_lost(_joined.workers, str(error))}: see what it says, then '
      'give the same command on all workers again; it continues from the last '
      'checkpoint'
    ) from error


def _codes_of_lost() -> tuple[int, ...]:
  """Returns what collective operations raise in the workers that are left."""
  return (
    tf.errors.UNAVAILABLE,
    tf.errors.ABORTED,
    tf.errors.CANCELLED,
    tf.errors.DEADLINE_EXCEEDED,
    tf.errors.FAILED_PRECONDITION,
    tf.errors.INTERNAL,
  )


def _describe_lost(workers: tf_config.Workers, message: str) -> str:
  """Returns which worker an error of TensorFlow's says to be gone."""
  for kind, number in _TASK.findall(message):
    task = (kind, int(number))
    if task in workers.tasks and workers.tasks.index(task) != workers.index:
      index = workers.tasks.index(task)
      return f'worker {index} ({workers.addresses[index]}) is gone'
  return 'another worker is gone'


def from_chief(data: bytes) -> bytes:
  """Returns the chief's bytes, in every worker; all must call it.

  Raises:
    WorkerError: a worker is gone.
  """
  if _joined is None:
    return data
  received = bytearray()
  with explained():
    # A variable of a strategy begins with the chief's value.
    size = int(_shared(np.array([len(data)]))[0])
    for begin in range(0, size, _CHUNK):
      length = min(_CHUNK, size - begin)
      padded = np.zeros(-(-length // 8), np.int64)
      own = data[begin : begin + length]
      padded.view(np.uint8)[: len(own)] = np.frombuffer(own, np.uint8)
      received += _shared(padded).tobytes()[:length]
  return bytes(received)


def _shared(values: np.ndarray) -> np.ndarray:
  """Returns the chief's integers, of a shape that all workers have."""
  assert _joined is not None
  with _joined.strategy.scope():
    variable: Any = tf.Variable(values.astype(np.int64), trainable=False)
  return variable.numpy()


def _pack(path: str) -> bytes:
  """Returns what a command is continued from; b'' if there is nothing."""
  if not os.path.isdir(path):
    return b''
  packed = io.BytesIO()

  def sent(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(info.name)
    if name in _NOT_SENT or not (info.isfile() or info.isdir()):
      return None
    return info

  with tarfile.open(fileobj=packed, mode='w') as archive:
    archive.add(path, arcname='.', filter=sent)
  return packed.getvalue()


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
