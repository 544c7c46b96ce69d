"""Runs a program of bin/ with several command lines in one process.

To start Python and TensorFlow takes longer than most of what is tested here:

  python tests/in_one_process.py PROGRAM

reads a JSON list of argument lists from standard input and prints one of
`{'code', 'out', 'err'}`, what each command line ended with.
"""

import contextlib
import io
import json
import os
import sys

from absl import flags

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _call(function) -> dict:
  """Returns the exit code and what was printed meanwhile."""
  out, err = io.StringIO(), io.StringIO()
  code = 0
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      function()
    except SystemExit as stop:
      code = stop.code or 0
  return {'code': code, 'out': out.getvalue(), 'err': err.getvalue()}


def main():
  path = os.path.join(_ROOT, 'bin', f'{sys.argv[1]}.py')
  lines = json.load(sys.stdin)
  # The program as Python would run it, but that it may be run again.
  sys.argv = [path, '--help']
  with open(path, encoding='utf-8') as file:
    code = compile(file.read(), path, 'exec')
  space = {'__name__': '__main__', '__file__': path}
  _call(lambda: exec(code, space))
  sys.modules['__main__'].__doc__ = space['__doc__']
  found = []
  for arguments in lines:
    sys.argv = [path, *arguments]
    found.append(_call(lambda: space['program'].run(space['main'])))
    # Flags that a program's imports have defined meanwhile stay defined.
    for name in flags.FLAGS:
      flags.FLAGS[name].unparse()
    flags.FLAGS.unparse_flags()
  json.dump(found, sys.stdout)


if __name__ == '__main__':
  main()
