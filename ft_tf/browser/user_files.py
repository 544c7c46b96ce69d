"""Files of the user: read, or refused with what to do."""

from ft_tf import errors, paths


def read(path: str, fix: str) -> bytes:
  """Returns the content of a file.

  Args:
    path: The file.
    fix: What the user can do if it cannot be read.

  Raises:
    UsageError: it cannot be read.
  """
  paths.check_regular(path, fix=fix)
  try:
    with open(path, 'rb') as file:
      return file.read()
  except OSError as error:
    raise errors.UsageError(
      f'cannot read {path} ({error.strerror}): {fix}'
    ) from error
