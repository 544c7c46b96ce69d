"""Paths as users write them."""

import os

from ft_tf import errors

# The prefix of an image folder, as `data.folder.PREFIX`.
_PREFIX = 'folder:'


def expand(text: str) -> str:
  """Replaces `~` or `~user` at the start of a path by the home folder.

  A shell does not expand the `~` in `--flag=~/x` or `folder:~/x`.

  Args:
    text: A path, with or without 'folder:' in front of it. Any other text is
      returned unchanged.

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
