"""Paths as users write them."""

import os

from ft_tf import errors

_PREFIX = 'folder:'  # may stand before a path


def expand(text: str) -> str:
  """Returns a path whose `~` or `~user` at its start is the home folder.

  A shell leaves the one in `--flag=~/x` or `folder:~/x` as it is.

  Args:
    text: A path, which 'folder:' may stand before, or any other text, which
      stays as it is.

  Raises:
    UsageError: there is no such user.
  """
  prefix = _PREFIX if text.startswith(_PREFIX) else ''
  path = os.path.expanduser(text.removeprefix(prefix))
  if path.startswith('~'):
    user = path.partition(os.sep)[0]
    raise errors.UsageError(
      f'{text}: {user} has no home folder; give the whole path, or ./{path} if '
      'the name begins with ~'
    )
  return prefix + path
