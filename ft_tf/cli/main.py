"""The entry of `ft-tf`, of `python -m ft_tf` and of the programs in bin/."""

import importlib

import ft_tf  # noqa: F401  Before TensorFlow: it sets how that computes.
from ft_tf.cli import lazy


def main(command: str | None = None) -> None:
  """Runs a command and leaves Python with its exit code.

  Args:
    command: A name of `dispatch.COMMANDS`; None: the first argument of the
      command line.
  """
  lazy.start()
  # Not at the top: its imports are to be deferred.
  importlib.import_module('ft_tf.cli.dispatch').main(command)
