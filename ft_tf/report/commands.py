"""The commands that worked on a folder, as a shell takes them."""

import os
import shlex
from collections.abc import Sequence

_PROGRAM = 'ft-tf'
_PACKAGE = os.path.join('ft_tf', '__main__.py')


def to_shell(command: Sequence[str]) -> str:
  """Returns a command to paste into a shell.

  Args:
    command: The interpreter and `sys.argv`, as `environment.json` has them. The
      installed program and `python -m ft_tf` are shown as a user types them.
  """
  words = list(command)
  if len(words) > 1 and os.path.basename(words[1]) == _PROGRAM:
    words[:2] = [_PROGRAM]
  elif len(words) > 1 and words[1].endswith(_PACKAGE):
    words[1:2] = ['-m', 'ft_tf']
  return shlex.join(words)
