"""What a disk refuses, in one line, and writes that outlast a power cut."""

import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping

from ft_tf import errors

SCRATCH = '.writing-'  # the prefix of what is being written, beside its place
_FULL = (errno.ENOSPC, errno.EDQUOT)
# What users can change; each is refused with the path that it is about.
_REFUSED = (
  *_FULL,
  errno.EACCES,
  errno.EPERM,
  errno.EROFS,
  errno.EIO,
  errno.EISDIR,
  errno.ENOTDIR,
  errno.EEXIST,
  errno.ENOTEMPTY,
  errno.ESTALE,
  errno.ELOOP,
  errno.ENAMETOOLONG,
  errno.EFBIG,
  errno.EMFILE,
)
_FIXES = {
  errno.ENOSPC: 'free some space',
  errno.EDQUOT: 'free some space',
  errno.EROFS: 'make it writable',
  errno.EACCES: 'make it accessible',
  errno.EPERM: 'make it accessible',
  errno.ENAMETOOLONG: 'give a shorter path',
  errno.EFBIG: 'raise the limit of `ulimit -f`',
  errno.EMFILE: 'raise the limit of `ulimit -n`',
}
_OTHER_FIX = 'move it away'
_GIB = 2**30


class StorageError(errors.TrainingError):
  """A file cannot be written or read, by no fault of the run."""

  @classmethod
  def about(cls, path: str, code: int) -> 'StorageError':
    """Returns the line for a file or folder and the system's error number."""
    return cls(
      f'cannot write {path} ({os.strerror(code)}): '
      f'{_FIXES.get(code, _OTHER_FIX)}; the same command continues'
    )


def explain(
  error: BaseException, path: str, within: str = ''
) -> StorageError | None:
  """Returns the line for an error that a disk caused; None: it is another.

  TensorFlow and HDF5 raise classes of their own, with the system's reason in
  their text, and what fails while a full disk is left hides its cause.

  Args:
    error: Any error. The errors that it was raised over are looked at too.
    path: What was being written, of which errors without a path speak.
    within: The folder of what was being written; '': the path itself. Of a file
      elsewhere nothing is said unless a disk is full.
  """
  each: BaseException | None = error
  while each is not None:
    if isinstance(each, StorageError):
      return each
    code = _code(each)
    if code is not None:
      named = _named_path(each) or path
      if code in _FULL or _is_below(named, within or path):
        return StorageError.about(path if SCRATCH in named else named, code)
    each = each.__cause__ or each.__context__
  return None


def _code(error: BaseException) -> int | None:
  """Returns the system's number of what a disk refused; None: it did not."""
  if isinstance(error, OSError) and error.errno is not None:
    return error.errno if error.errno in _REFUSED else None
  if isinstance(error, (errors.UsageError, errors.TrainingError)):
    return None  # They say themselves what is wrong.
  text = str(error)
  return next((code for code in _REFUSED if os.strerror(code) in text), None)


def _named_path(error: BaseException) -> str:
  """Returns the path that an error names; '' if it names none."""
  if isinstance(error, OSError):
    name = error.filename2 or error.filename
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ''
  # TensorFlow's begin with it.
  path = str(error).partition(';')[0].strip()
  return path if os.path.isabs(path) and '\n' not in path else ''


def _is_below(name: str, folder: str) -> bool:
  name, folder = os.path.abspath(name), os.path.abspath(folder)
  return name == folder or name.startswith(os.path.join(folder, ''))


@contextlib.contextmanager
def explained(path: str, within: str = '') -> Iterator[None]:
  """Turns errors of the disk in a block into one line; see `explain`."""
  try:
    yield
  except Exception as error:
    known = explain(error, path, within)
    if known is None or known is error:
      raise
    raise known from error


def set_aside(path: str) -> str:
  """Renames what is damaged, so that it can be looked at; returns its name."""
  for number in itertools.count(1):
    aside = f'{path}.damaged' + (f'-{number}' if number > 1 else '')
    if not os.path.lexists(aside):
      os.rename(path, aside)
      return aside
  raise AssertionError


def say_damaged(path: str, consequence: str) -> None:
  """Sets a damaged file aside, and says so.

  Args:
    path: The file.
    consequence: What follows from it, as the end of the line.
  """
  aside = os.path.basename(set_aside(path))
  print(
    f'{path} is damaged and was renamed to {aside}: {consequence}',
    file=sys.stderr,
    flush=True,
  )


@contextlib.contextmanager
def scratch(folder: str) -> Iterator[str]:
  """Yields a new folder inside another; it is removed afterwards.

  While its lock is held, `sweep` of any process leaves it alone.
  """
  path, lock = next(_locked_folders(folder))
  try:
    yield path
  finally:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
  """Yields a path to write a file or folder at, then moves it to `path`.

  If the block fails, the new file or folder is removed and `path` stays as it
  was. Its content is on the disk before its name is, so that a power cut leaves
  the old or the new. The temporary name keeps the extension, because some
  writers choose their format by it.

  Raises:
    StorageError: the disk is full, or does not take the file.
  """
  folder, name = os.path.split(os.path.abspath(path))
  with explained(path, folder), scratch(folder) as beside:
    temporary = os.path.join(beside, name)
    yield temporary
    sync(temporary)
    if os.path.isdir(temporary) and os.path.isdir(path):
      os.replace(path, f'{temporary}.replaced')
    os.replace(temporary, path)
    sync_names(folder)


def _locked_folders(folder: str) -> Iterator[tuple[str, int]]:
  """Yields new folders inside another, each with its open lock."""
  for number in itertools.count():
    path = os.path.join(folder, f'{SCRATCH}{os.getpid()}-{number}')
    try:
      os.mkdir(path, 0o700)
    except FileExistsError:
      continue
    # A sweep that came in between took it for a dead one's.
    with contextlib.suppress(FileNotFoundError):
      lock = os.open(path, os.O_RDONLY)
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        os.close(lock)
        continue
      except OSError:
        pass  # Some file systems lock no folders, and nothing is swept there.
      yield path, lock


def sweep(folder: str, *, older: float = 0.0) -> None:
  """Removes what interrupted writes have left in a folder.

  A scratch folder whose process is alive is locked, and stays.

  Args:
    folder: The folder; what lies deeper is not looked at.
    older: Seconds since its last change, for what earlier versions write in a
      folder that several processes share: theirs have no locks.
  """
  try:
    names = os.listdir(folder)
  except OSError:
    return
  for name in names:
    if name.startswith(SCRATCH):
      with contextlib.suppress(OSError):
        _remove_dead(os.path.join(folder, name), older)


def _remove_dead(path: str, older: float) -> None:
  """Removes a scratch folder; raises `OSError` if its process is alive."""
  if time.time() - os.stat(path).st_mtime < older:
    return
  lock = os.open(path, os.O_RDONLY)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(path)
  finally:
    os.close(lock)


def is_full(error: OSError) -> bool:
  """Tells whether a disk has no space, or a user no share of it, left."""
  return error.errno in _FULL


def sync_names(folder: str) -> None:
  """Has the disk hold the names in a folder."""
  _sync(folder)


def sync(path: str) -> None:
  """Has the disk hold a file, or a folder with all that is in it."""
  if os.path.isdir(path):
    for folder, _, names in os.walk(path):
      for name in names:
        _sync(os.path.join(folder, name))
      _sync(folder)
  else:
    _sync(path)


def _sync(path: str) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  except OSError as error:
    # Some file systems have no such call for folders.
    if error.errno not in (errno.EINVAL, errno.ENOTSUP):
      raise
  finally:
    os.close(handle)


def size(path: str) -> int:
  """Returns the bytes of the files in a folder; 0 if there is none."""
  total = 0
  for folder, _, names in os.walk(path):
    for name in names:
      with contextlib.suppress(OSError):
        total += os.lstat(os.path.join(folder, name)).st_size
  return total


def check_free(needed: Mapping[str, Mapping[str, int]], fix: str) -> None:
  """Raises `UsageError` if disks have less space than folders will take.

  Args:
    needed: Bytes by what they are for, by folder. A folder need not be there;
      what it holds already counts as written.
    fix: What to do besides freeing space.
  """
  missing: dict[int, int] = {}
  for path, kinds in needed.items():
    existing = os.path.abspath(path)
    while not os.path.exists(existing):
      existing = os.path.dirname(existing)
    total = sum(kinds.values())
    device = os.stat(existing).st_dev
    left = max(total - size(path), 0)
    missing[device] = missing.get(device, 0) + left
    free = shutil.disk_usage(existing).free
    if missing[device] > free:
      parts = ', '.join(
        f'{what} {format_bytes(count)}'
        for what, count in kinds.items()
        if count
      )
      raise errors.UsageError(
        f'{path} will take about {format_bytes(total)} ({parts}), of which '
        f'{format_bytes(left)} are not written yet, and {format_bytes(free)} '
        f'are free on its disk: free some space, or {fix}'
      )


def format_bytes(count: int) -> str:
  """Returns a number of bytes for a person."""
  if count < _GIB:
    return f'{count / 2**20:.1f} MiB'
  return f'{count / _GIB:.2f} GiB'
