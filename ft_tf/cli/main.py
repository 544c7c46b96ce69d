"""The entry of `ft-tf`, of `python -m ft_tf` and of the programs in bin/."""

import importlib
import os
import sys

# With ft_tf comes how TensorFlow computes.
from ft_tf import interrupts, lazy_imports, standard_streams


def main(command: str | None = None) -> None:
  """Runs a command and leaves Python with its exit code.

  Args:
    command: A name of `dispatch.COMMANDS`; None: the first argument of the
      command line.
  """
  standard_streams.secure()
  interrupts.install(_name(command))
  lazy_imports.start()
  # Not at the top: its imports are to be deferred.
  importlib.import_module('ft_tf.cli.dispatch').main(command)


def _name(command: str | None) -> str:
  """Returns what messages call the program, as `dispatch` does."""
  if command is None:
    return ' '.join(['ft-tf', *sys.argv[1:2]])
  return os.path.basename(sys.argv[0])
