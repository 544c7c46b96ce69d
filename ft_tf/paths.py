"""Paths as users write them."""

import os
import stat

from ft_tf import errors

# The prefix of an image folder, as `data.folder.PREFIX`.
_PREFIX = 'folder:'
# Bytes that Linux allows a path, less what is added to those of users.
_LONGEST = 3500
_LONGEST_NAME = 255  # bytes, of a file or folder


def expand(text: str) -> str:
  """Replaces `~` or `~user` at the start of a path by the home folder.

  A shell does not expand the `~` in `--flag=~/x` or `folder:~/x`.

  Args:
    text: A path, with or without 'folder:' in front of it. Any other text is
      returned unchanged.

  Raises:
    UsageError: there is no such user, or no path can have this text.
  """
  if '\0' in text:
    raise errors.UsageError(
      f'{errors.show(text)} has a null byte, which no path can have: give '
      'another'
    )
  if _count_bytes(text) > _LONGEST:
    raise errors.UsageError(
      f'{text[:40]}... has more than {_LONGEST:,} bytes: give a shorter path'
    )
  prefix = _PREFIX if text.startswith(_PREFIX) else ''
  path = os.path.expanduser(text.removeprefix(prefix))
  if path.startswith('~'):
    user = path.partition(os.sep)[0]
    raise errors.UsageError(
      f'{text}: {user} has no home folder; give the whole path, or ./{path} if '
      'the name begins with ~'
    )
  return prefix + path


def check_names(path: str, flag: str) -> None:
  """Raises `UsageError` for a path with a name that no file system takes.

  Args:
    path: The path.
    flag: What the message calls it, such as '--workdir='.
  """
  for name in path.split(os.sep):
    if _count_bytes(name) > _LONGEST_NAME:
      raise errors.UsageError(
        f'{flag}{path[:40]}... has a name of more than {_LONGEST_NAME} bytes: '
        'give a shorter one'
      )


def is_regular(path: str) -> bool:
  """Tells whether a path is that of a file, or of a link to one."""
  try:
    return stat.S_ISREG(os.stat(path).st_mode)
  except (OSError, ValueError):
    return False


def check_tree(folder: str) -> None:
  """Raises `UsageError` if something in a folder is no file and no folder.

  TensorFlow's readers, and whoever opens a lock, would wait for a pipe forever.

  Args:
    folder: The folder, which may be missing; folders within are looked into.
  """
  for within, _, names in os.walk(folder):
    for name in names:
      check_regular(os.path.join(within, name), fix='move it away')


def check_regular(
  path: str, flag: str = '', fix: str = 'give the path of a file'
) -> None:
  """Raises `UsageError` for what is no file and no folder.

  To open a FIFO waits until another process writes to it; devices and sockets
  have no end.

  Args:
    path: Of a file or folder; one that is missing is for who opens it.
    flag: What the message calls it, such as '--config='.
    fix: What to do.
  """
  try:
    mode = os.stat(path).st_mode
  except (OSError, ValueError):  # ValueError: a null byte is in it.
    return
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    kinds = {
      stat.S_IFIFO: 'a pipe (FIFO)',
      stat.S_IFSOCK: 'a socket',
      stat.S_IFCHR: 'a device',
      stat.S_IFBLK: 'a device',
    }
    raise errors.UsageError(
      f'{flag}{path} is {kinds.get(stat.S_IFMT(mode), "no file")}: {fix}'
    )


def _count_bytes(path: str) -> int:
  """Returns the bytes of a path, also of text that no path can be."""
  return len(path.encode('utf-8', 'surrogatepass'))
