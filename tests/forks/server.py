"""Runs Python programs in forks of one process that has imported what is slow.

  python -P tests/forks/server.py DESCRIPTOR MODULE ...

imports the modules, then runs what `client.py` asks for by a socket, until its
standard input ends. To import TensorFlow takes longer than most of what
tests run. A fork is otherwise what a process of its own is, with the folder,
the environment and the files of whoever asks; it has traced nothing, and
signals end it anywhere. Forks come before TensorFlow makes its threads, which
would not live on in them: the modules must not compute when they are imported.

This file imports nothing but Python's own modules, so that the interpreter of
another environment can run it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback

_UNABLE = 70  # An exit code that no program of the tests has.
_FILES = 3  # standard input, output and error


def main() -> None:
  descriptor, *modules = sys.argv[1:]
  # Whoever has connected already waits until the modules are imported.
  with socket.socket(fileno=int(descriptor)) as listener:
    for module in modules:
      importlib.import_module(module)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()
    while True:
      with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
          pass
      ready, _, _ = select.select([listener, 0], [], [])
      if 0 in ready and not os.read(0, 1):
        return
      if listener in ready:
        connection, _ = listener.accept()
        if not os.fork():
          listener.close()
          _serve(connection)
        connection.close()


def _serve(connection: socket.socket) -> None:
  """Runs a program in a fork of this process, which ends with it.

  It answers with two lines: the number of the program's process, then its exit
  code, which is -N if signal N has ended it.
  """
  first, files, _, _ = socket.recv_fds(connection, 1, _FILES)
  with connection.makefile('rb') as file:
    job = json.loads(first + file.readline())
  program = os.fork()
  if not program:
    connection.close()
    _run(job, files)
  for each in files:
    os.close(each)
  connection.sendall(f'{program}\n'.encode())
  ended = os.pidfd_open(program)
  ready, _, _ = select.select([ended, connection], [], [])
  if ended not in ready:  # Whoever asked is gone.
    os.kill(program, signal.SIGKILL)
  _, status = os.waitpid(program, 0)
  if ended in ready:
    connection.sendall(f'{os.waitstatus_to_exitcode(status)}\n'.encode())
  os._exit(0)


def _run(job: dict, files: list[int]) -> None:
  """Runs a program in this process, and ends it."""
  code = _UNABLE
  try:
    for number, file in enumerate(files):
      os.dup2(file, number)
      os.close(file)
    os.chdir(job['folder'])
    os.environ.clear()
    os.environ.update(job['variables'])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    code = _exit_code(job)
    # As Python does at its end.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
  except BaseException:
    traceback.print_exc()
  finally:
    os._exit(code)


def _exit_code(job: dict) -> int:
  try:
    if job['before']:
      module, function, *arguments = job['before']
      getattr(importlib.import_module(module), function)(*arguments)
    _execute(job['arguments'])
  except SystemExit as end:
    if end.code is None or isinstance(end.code, int):
      return end.code or 0
    print(end.code, file=sys.stderr)
    return 1
  except BaseException:
    traceback.print_exc()
    return 1
  return 0


def _execute(arguments: list[str]) -> None:
  """Does what `python ARGUMENTS` does: with -m MODULE, -P FILE or FILE."""
  first, *rest = arguments
  if first == '-m':
    sys.argv = rest
    sys.path.insert(0, os.getcwd())
    runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    return
  if first == '-P':
    first, *rest = rest
  else:
    sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
  if first.startswith('-'):
    raise NotImplementedError(f'python {first}: forks know -m and -P alone')
  sys.argv = [first, *rest]
  runpy.run_path(first, run_name='__main__')


if __name__ == '__main__':
  main()
