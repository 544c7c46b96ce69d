"""Programs in forks of one process, for tests, in place of `subprocess`."""

import atexit
import functools
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

from ft_tf.cli import dispatch
from tests.forks import client

_FOLDER = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(_FOLDER))
_SECONDS = 900  # for a program on a busy machine
# All of the library, and with it TensorFlow.
LIBRARY = (
  'ft_tf.cli.dispatch',
  *(f'ft_tf.cli.{module}' for module in dispatch.COMMANDS.values()),
)
# The same for the code that users read.
SHORT_LIBRARY = (*LIBRARY, 'short_digits')


class Server:
  """The process that forks.

  Attributes:
    command: The words that stand for `python`, in any other process too.
  """

  def __init__(
    self,
    modules: Sequence[str],
    *,
    path: Sequence[str] = (),
    python: str = sys.executable,
    variables: Mapping[str, str] = os.environ,
  ):
    """Starts it; what is asked of it waits until it has imported.

    Args:
      modules: What it imports.
      path: Where it finds them, beside its own packages and this folder.
      python: The interpreter.
      variables: Its environment.
    """
    self._folder = tempfile.mkdtemp()
    self._path = os.path.join(self._folder, 'socket')
    with socket.socket(socket.AF_UNIX) as listener:
      listener.bind(self._path)
      listener.listen(64)
      self._process = subprocess.Popen(
        [
          *(python, '-P', os.path.join(_FOLDER, 'server.py')),
          *(str(listener.fileno()), *modules),
        ],
        env={
          **variables,
          'PYTHONPATH': os.pathsep.join([_FOLDER, *path]),
          'TF_CPP_MIN_LOG_LEVEL': '2',
        },
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
      )
    self.command = (
      *(sys.executable, '-IS', client.__file__),
      self._path,
    )

  def start(
    self, *arguments: str, before: Sequence[object] = (), **variables: str
  ) -> 'Program':
    """Starts `python ARGUMENTS` in the root of the checkout.

    Args:
      *arguments: As of `client.ask`.
      before: As of `client.ask`.
      **variables: Of the environment, beside this process's.
    """
    return Program(self._path, arguments, before, {**os.environ, **variables})

  def close(self) -> None:
    self._process.communicate()  # It ends with its input.
    shutil.rmtree(self._folder)


@functools.cache
def server() -> Server:
  """Returns the server of the checkout for all tests of this process."""
  made = Server((*LIBRARY, 'tests.short_networks'), path=[ROOT])
  atexit.register(made.close)
  return made


class Program:
  """A program in a fork, with pipes for text as `subprocess.Popen` has them.

  Attributes:
    stdout: What it prints.
    stderr: What it says.
    returncode: Its exit code; -N if signal N ended it; None while it is not
      known to have ended.
  """

  def __init__(
    self,
    path: str,
    arguments: Sequence[str],
    before: Sequence[object],
    variables: dict[str, str],
  ):
    self.returncode: int | None = None
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    with open(os.devnull) as nothing:
      connection = client.ask(
        path,
        arguments,
        (nothing.fileno(), to_out, to_err),
        folder=ROOT,
        variables=variables,
        before=before,
      )
    os.close(to_out)
    os.close(to_err)
    self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
    self._connection = connection
    # Without a buffer, `poll` sees a line that has not been read.
    self._answers = connection.makefile('rb', buffering=0)
    self._pid = int(self._answers.readline())

  def poll(self) -> int | None:
    """Returns the exit code, or None while it runs."""
    if self.returncode is None:
      ready, _, _ = select.select([self._connection], [], [], 0)
      if ready:
        return self.wait()
    return self.returncode

  def wait(self) -> int:
    """Waits until it has ended; returns the exit code."""
    if self.returncode is None:
      self.returncode = int(self._answers.readline())
      self._answers.close()
      self._connection.close()
    return self.returncode

  def communicate(self, timeout: float = _SECONDS) -> tuple[str, str]:
    """Waits until it has ended; returns what it has printed, and said.

    Args:
      timeout: After so many seconds it is killed.
    """
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.append(self.stderr.read()))
    limit = threading.Timer(timeout, self.kill)
    reader.start()
    limit.start()
    with self.stdout, self.stderr:
      printed = self.stdout.read()
      reader.join()
    self.wait()
    limit.cancel()
    return printed, said[0]

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self._pid, number)

  def kill(self) -> None:
    self.send_signal(signal.SIGKILL)
