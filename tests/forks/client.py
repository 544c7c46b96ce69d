"""Asks a server of `server.py` to run a program.

  python -IS tests/forks/client.py SOCKET ARGUMENT ...

stands for `python ARGUMENT ...`: with the files, the folder and the environment
of this process, and its exit code. It takes some hundredths of a second.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence


def ask(
  path: str,
  arguments: Sequence[str],
  files: Sequence[int],
  *,
  folder: str,
  variables: dict[str, str],
  before: Sequence[object] = (),
) -> socket.socket:
  """Asks for a program; returns the connection by which the answer comes.

  Args:
    path: The server's socket.
    arguments: What stands after `python`.
    files: Its standard input, output and error.
    folder: Its working folder.
    variables: Its environment.
    before: The module, the function and the arguments of a call that the fork
      makes first; nothing: none.
  """
  connection = socket.socket(socket.AF_UNIX)
  connection.connect(path)
  job = {
    'arguments': list(arguments),
    'folder': folder,
    'variables': variables,
    'before': list(before),
  }
  line = json.dumps(job).encode() + b'\n'
  socket.send_fds(connection, [line[:1]], list(files))
  connection.sendall(line[1:])
  return connection


def main() -> None:
  path, *arguments = sys.argv[1:]
  connection = ask(
    path,
    arguments,
    (0, 1, 2),
    folder=os.getcwd(),
    variables=dict(os.environ),
  )
  with connection.makefile() as answers:
    code = [int(line) for line in answers][1]
  sys.exit(code if code >= 0 else 128 - code)


if __name__ == '__main__':
  main()
