"""The errors that a program answers with one line instead of a traceback."""


class UsageError(ValueError):
  """Something the caller gave is wrong; the message names the fix.

  Programs print it on one line and leave with exit code 2. It is raised before
  anything is written.
  """


class TrainingError(RuntimeError):
  """A run cannot go on; the message says where it stands and what to do.

  Programs print it on one line and leave with exit code 1. What the run has
  written so far stays.
  """
