"""Calls in worker processes; one that dies does not stop the others."""

import collections
import contextlib
import ctypes
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any, cast

from ft_tf import interrupts, native_output, standard_streams

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


@dataclasses.dataclass(frozen=True)
class Died:
  """The result of a call whose process ended before the call returned.

  Attributes:
    exit_code: The exit code of the process; -N if signal N ended it.
  """

  exit_code: int

  @property
  def killed(self) -> bool:
    """Whether SIGKILL ended it, as Linux does when memory runs out."""
    return self.exit_code == -signal.SIGKILL

  def __str__(self) -> str:
    if self.killed:
      return 'its process was killed, most likely because memory ran out'
    if self.exit_code < 0:
      return f'its process crashed ({signal.Signals(-self.exit_code).name})'
    return f'its process ended with exit code {self.exit_code}'


def run_each(
  function: Callable[..., Any],
  calls: Iterable[dict[str, Any]],
  *,
  workers: int,
  start: Callable[..., None],
  start_arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[int, Any]]:
  """Runs calls in worker processes; yields results as the calls end.

  A worker process runs one call after another. If it dies, only the call that
  it was running is lost, and the next call gets a new process. All processes
  end when the iterator is closed, and when this process ends, even if it is
  killed. A signal to this process is sent on to them, and they may write a
  checkpoint before they end.

  Args:
    function: The function to call. The function, its arguments, its results and
      its exceptions must be picklable.
    calls: The keyword arguments of each call.
    workers: Maximum number of processes at a time.
    start: Function that each process calls first.
    start_arguments: The positional arguments of `start`.

  Yields:
    `(number, result)`, where `number` is the position in `calls`; the result is
    a `Died` if the process died.

  Raises:
    Exception: the exception that the function raised.
    Stopped: by a signal; it names where each call stands.
  """
  waiting = collections.deque(enumerate(calls))
  idle: list[_Worker] = []
  busy: dict[multiprocessing.connection.Connection, tuple[_Worker, int]] = {}
  with interrupts.deferred():
    try:
      while waiting or busy:
        while waiting and len(busy) < workers:
          number, call = waiting.popleft()
          worker = idle.pop() if idle else None
          if worker is None or not worker.process.is_alive():
            try:
              worker = _Worker(function, start, start_arguments)
            except BrokenPipeError:  # It died before it had read what to do.
              yield number, Died(-signal.SIGKILL)
              continue
          # If the process has died in the meantime, `recv` below reports it.
          with contextlib.suppress(OSError):
            worker.connection.send(call)
          busy[worker.connection] = worker, number
        with interrupts.deferred(False):
          ready = multiprocessing.connection.wait(list(busy))
        for connection in [each for each in busy if each in ready]:
          worker, number = busy.pop(connection)
          try:
            returned, value = connection.recv()
          except (EOFError, OSError):
            yield number, Died(worker.end())
            continue
          idle.append(worker)
          if not returned:
            raise value
          yield number, value
    except interrupts.Stopped:
      places = _stop([worker for worker, _ in busy.values()])
      raise interrupts.stopped(', '.join(places)) from None
    finally:
      for worker in [*idle, *(worker for worker, _ in busy.values())]:
        worker.process.terminate()
        worker.end()


def _stop(workers: 'list[_Worker]') -> list[str]:
  """Stops processes at work; returns where their calls stand, where known."""
  for worker in workers:
    worker.process.terminate()
  places = []
  for worker in workers:
    with contextlib.suppress(EOFError, OSError):
      _, value = worker.connection.recv()
      if isinstance(value, interrupts.Stopped) and value.place:
        places.append(value.place)
  return places


class _Worker:
  """A worker process, and the connection to it."""

  def __init__(self, function, start, start_arguments):
    # TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context('spawn')
    self.connection, worker_end = context.Pipe()
    # As bytes, so that the process imports what they are of inside `_work`.
    job = pickle.dumps((function, start, start_arguments))
    self.process = context.Process(
      target=_work, args=(worker_end, job), daemon=True
    )
    self.process.start()
    # The process has its own copy of the pipe's end. While this copy is open,
    # `recv` would wait for ever after the process has died; with it closed,
    # `recv` raises EOFError.
    worker_end.close()

  def end(self) -> int:
    """Waits until the process has ended; returns its exit code."""
    self.process.join()
    self.connection.close()
    return cast(int, self.process.exitcode)  # None only before its end


def _work(
  connection: multiprocessing.connection.Connection, job: bytes
) -> None:
  """Runs the calls that the parent sends; the main function of a worker.

  Args:
    connection: To the parent.
    job: The function, the function to call first and the latter's positional
      arguments, pickled.
  """
  standard_streams.secure()
  interrupts.install_in_worker()
  _die_with_parent()
  # TensorFlow prints notes while it is imported and while it looks for devices.
  with native_output.held():
    function, start, start_arguments = pickle.loads(job)
    start(*start_arguments)
  interrupts.raise_from_here()
  with contextlib.suppress(interrupts.Stopped, EOFError):
    while True:
      call = connection.recv()
      try:
        answer = True, function(**call)
      except (Exception, interrupts.Stopped) as error:  # The parent raises it.
        answer = False, error
      with interrupts.deferred():
        connection.send(answer)


def _die_with_parent() -> None:
  """Has the kernel end this process with its parent.

  It does so even while C++ code keeps Python's threads from running.
  """
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends this process when its parent has ended.

  A killed parent cannot stop its children, so that each waits for its end.
  """
  # None only in a process that no other one has started.
  cast(BaseProcess, multiprocessing.parent_process()).join()
  os._exit(1)
