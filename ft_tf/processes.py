"""Calls in other processes, of which one may die without the others."""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any, cast


@dataclasses.dataclass(frozen=True)
class Died:
  """Stands for the result of a call whose process ended before it returned.

  Attributes:
    exit_code: Of the process; -N if signal N ended it.
  """

  exit_code: int

  @property
  def killed(self) -> bool:
    """Whether it was killed from outside, as the system does for memory."""
    return self.exit_code == -signal.SIGKILL

  def __str__(self) -> str:
    if self.killed:
      return 'its process was killed, most likely because memory ran out'
    if self.exit_code < 0:
      return f'its process crashed ({signal.Signals(-self.exit_code).name})'
    return f'its process ended with exit code {self.exit_code}'


def each(
  function: Callable[..., Any],
  calls: Iterable[dict[str, Any]],
  *,
  workers: int,
  start: Callable[..., None],
  start_arguments: tuple[Any, ...] = (),
) -> Iterator[tuple[int, Any]]:
  """Yields each call's number and what it returned, in the order they end.

  A process does one call after another. One that dies takes the call with it
  that it is at, and no other; the next call gets a fresh process. The processes
  end with the iterator, and with this process, however that ends.

  Args:
    function: What is called. It, what it takes and what it returns can be
      pickled, and so can what it raises.
    calls: The keyword arguments of each call.
    workers: Number of processes at once.
    start: Called first of all in each process.
    start_arguments: What `start` takes.

  Yields:
    `(number, result)`; the result is a `Died` if the process died.

  Raises:
    Exception: what the function raises.
  """
  waiting = collections.deque(enumerate(calls))
  idle: list[_Worker] = []
  busy: dict[multiprocessing.connection.Connection, tuple[_Worker, int]] = {}
  try:
    while waiting or busy:
      while waiting and len(busy) < workers:
        worker = idle.pop() if idle else None
        if worker is None or not worker.process.is_alive():
          worker = _Worker(function, start, start_arguments)
        number, call = waiting.popleft()
        # A process that has died meanwhile says so when it is read.
        with contextlib.suppress(OSError):
          worker.connection.send(call)
        busy[worker.connection] = worker, number
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
  finally:
    for worker in [*idle, *(worker for worker, _ in busy.values())]:
      worker.process.terminate()
      worker.end()


class _Worker:
  """A process that makes calls, and the connection to it."""

  def __init__(self, function, start, start_arguments):
    # TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context('spawn')
    self.connection, theirs = context.Pipe()
    self.process = context.Process(
      target=_work,
      args=(theirs, function, start, start_arguments),
      daemon=True,
    )
    self.process.start()
    theirs.close()  # So that its end shows when the process dies.

  def end(self) -> int:
    """Waits for the process's end; returns its exit code."""
    self.process.join()
    self.connection.close()
    return cast(int, self.process.exitcode)  # None only before its end


def _work(
  connection: multiprocessing.connection.Connection,
  function: Callable[..., Any],
  start: Callable[..., None],
  start_arguments: Iterable[Any],
) -> None:
  """Makes the calls that come, in a process of its own."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's.
  threading.Thread(target=_end_with_parent, daemon=True).start()
  start(*start_arguments)
  while True:
    try:
      call = connection.recv()
    except EOFError:
      return
    try:
      answer = True, function(**call)
    except Exception as error:  # It is the parent's.
      answer = False, error
    connection.send(answer)


def _end_with_parent() -> None:
  """Ends this process when its parent has ended, killed or not."""
  # None only in a process that was not started by another.
  cast(BaseProcess, multiprocessing.parent_process()).join()
  os._exit(1)
