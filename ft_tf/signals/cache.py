"""The teacher's signals of views, kept from epoch to epoch and run to run.

A view's signals are one array, a row for each training image. In a folder each
has its file: the array as numpy writes it, then the SHA-256 of that, so that a
file which was cut off or damaged is seen and computed again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import errors, storage

_FORMAT = 2  # part of every key; raise it when what is stored changes
# Half of float32's room; the loss of precision is below that of training in
# 16 bits, and a value that float16 does not hold is refused.
_DTYPE = np.dtype(np.float16)
# What a process of an earlier version has not touched for so long is no longer
# being written.
_DEAD_SECONDS = 3600.0
_DIGEST = hashlib.sha256().digest_size

_MOST_GIB = 2**20


class Store:
  """Where teacher signals are kept: nowhere, in memory or in a folder.

  One store serves all students of a process; one folder, all of a machine.
  """

  def __init__(self, where: str = 'off', *, budget_gib: float = 8.0):
    """Names the place; nothing is written yet.

    Args:
      where: 'off', 'memory' or a folder.
      budget_gib: What all that is kept there may take, in GiB.

    Raises:
      UsageError: there is no place of that name, or the budget is out of
        bounds.
    """
    if not where:
      raise errors.UsageError(
        '--signal_cache is empty: give off, memory or a folder'
      )
    if not 0 < budget_gib <= _MOST_GIB:
      raise errors.UsageError(
        f'--signal_cache_gib={budget_gib}: give a number of GiB above 0, at '
        f'most {_MOST_GIB}'
      )
    self.enabled = where != 'off'
    self._folder = None if where in ('off', 'memory') else where
    self._budget_gib = budget_gib
    self._entries: dict[str, Signals] = {}

  def open(
    self, key: dict[str, Any], *, examples: int, width: int
  ) -> 'Signals':
    """Returns the signals of a key, those that are there already included.

    Args:
      key: All that decides the signals, as JSON can write it.
      examples: Number of training images.
      width: Number of values for each.
    """
    key = {**key, 'examples': examples, 'width': width, 'format': _FORMAT}
    text = json.dumps(key, sort_keys=True, indent=2)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest not in self._entries:
      folder = self._folder and os.path.join(self._folder, digest[:32])
      self._entries[digest] = Signals(
        self, folder, text, examples=examples, width=width
      )
    return self._entries[digest]

  @property
  def folder(self) -> str | None:
    """The folder that the signals are kept in; None: in none."""
    return self._folder

  def used(self) -> int:
    """Returns the bytes that are kept, of every key."""
    if self._folder is None:
      return sum(entry.bytes for entry in self._entries.values())
    return sum(
      os.path.getsize(os.path.join(root, name))
      for root, _, names in os.walk(self._folder)
      for name in names
      if name.endswith('.npy')
    )

  def check(
    self, views: int, missing: int, view_bytes: int, used: int | None = None
  ) -> None:
    """Raises `UsageError` if the missing of some views are over the budget.

    Args:
      views: Number of views.
      missing: How many of them are still to be kept.
      view_bytes: Size of a view's signals.
      used: Bytes that are kept already; None: all that are.
    """
    budget = int(self._budget_gib * 2**30)
    used = self.used() if used is None else used
    if used + missing * view_bytes <= budget:
      return
    fit = views - missing + max(budget - used, 0) // view_bytes
    total = (used + missing * view_bytes) / 2**30
    fewer = f'--views={fit} to repeat that many, ' if fit else ''
    wanted, given = views * view_bytes / 2**30, f'{self._budget_gib:g}'
    raise errors.UsageError(
      f'the signals of {views} views take {wanted:.3g} GiB, over '
      f'--signal_cache_gib={given}: give {fewer}--signal_cache_gib={total:.3g} '
      'or more, or --signal_cache=off'
    )


class Signals:
  """The signals of one key, by view.

  Attributes:
    width: Number of values for each image.
  """

  def __init__(
    self,
    store: Store,
    folder: str | None,
    key: str,
    *,
    examples: int,
    width: int,
  ):
    """Names an entry of a store; use `Store.open`."""
    self.width = width
    self._store = store
    self._folder = folder
    self._key = key
    self._shape = (examples, width)
    self._views: dict[int, np.ndarray] = {}

  @property
  def bytes(self) -> int:
    return sum(array.nbytes for array in self._views.values())

  def fill(
    self,
    views: Iterable[int],
    compute: Callable[[int], Iterable[np.ndarray]],
    say: Callable[[str], None],
  ) -> None:
    """Makes sure that some views are there.

    Processes that fill one folder at once share the work: who finds a view
    being computed waits for it.

    Args:
      views: Numbers of the views.
      compute: From a view's number to `[B, width]` float arrays, in the order
        of the training images.
      say: Takes lines of progress.

    Raises:
      UsageError: they are more than the budget, or the folder cannot be
        written. Nothing has been computed.
      TrainingError: a value does not fit into float16.
    """
    views = list(views)
    with _explained():
      missing = [view for view in views if self._find(view, say) is None]
      # Before anything is computed: an hour's views must not end in a refusal.
      size = count_bytes(*self._shape)
      self._store.check(len(views), len(missing), size)
      if self._folder and missing:
        self._write_key(self._folder)
      for number, view in enumerate(missing, start=1):
        with self._locked(view):
          if self._folder:
            storage.sweep(self._folder, older=_DEAD_SECONDS)
          # Another process may have computed it while this one waited.
          if self._find(view, say) is not None:
            continue
          start = time.monotonic()
          self._keep(view, self._compute(compute(view)))
          speed = self._shape[0] / (time.monotonic() - start)
          say(
            f'signals: view {view}, {number} of {len(missing)}, '
            f'{speed:.0f} images/s'
          )
    if not missing:
      say(f'signals: all {len(views)} views were there')

  def read(self, views: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns rows, `[B, width]` float16.

    Args:
      views: `[B]`, the number of a filled view for each row.
      examples: `[B]`, the training image of each row.

    Raises:
      KeyError: a view has not been filled.
    """
    rows = np.empty((len(examples), self.width), _DTYPE)
    for view in np.unique(views):
      of_view = views == view
      rows[of_view] = self._views[int(view)][examples[of_view]]
    return rows

  def _compute(self, batches):
    """Returns the array of a view, its rows checked."""
    array = np.empty(self._shape, _DTYPE)
    end = 0
    for batch in batches:
      first, end = end, end + len(batch)
      if end > len(array) or batch.shape[1:] != array.shape[1:]:
        raise ValueError(
          f'rows {first}..{end} of {batch.shape} in {array.shape}'
        )
      # numpy takes 25 times as long where values are below 6e-5.
      array[first:end] = tf.cast(batch, _DTYPE).numpy()
      if not np.isfinite(array[first:end]).all():
        raise errors.TrainingError(
          "the teacher's signal does not fit into float16, its largest value "
          f'is {np.abs(batch).max():.4g}: give --signal_cache=off'
        )
    if end != len(array):
      raise ValueError(f'{end} rows for {len(array)} images')
    return array

  def _find(self, view, say):
    """Returns a view's array if it is there and whole."""
    if view not in self._views and self._folder:
      path = _path(self._folder, view)
      if os.path.exists(path):
        array = _read(path, self._shape)
        if array is None:
          say(f'signals: {path} is damaged and computed again')
          if os.path.isdir(path):
            storage.set_aside(path)
        else:
          self._views[view] = array
    return self._views.get(view)

  def _keep(self, view, array):
    if self._folder:
      path = _path(self._folder, view)
      with storage.replacing(path) as scratch:
        _write(scratch, array)
      # Mapped, so that processes of one machine share its pages, and memory
      # holds no more than what is read.
      array = np.load(path, mmap_mode='r')
    self._views[view] = array

  def _write_key(self, folder: str) -> None:
    """Writes the key into the folder, for who wonders what the views are of."""
    os.makedirs(folder, exist_ok=True)
    with (
      storage.replacing(os.path.join(folder, 'key.json')) as path,
      open(path, 'w', encoding='utf-8') as file,
    ):
      file.write(self._key)

  @contextlib.contextmanager
  def _locked(self, view: int) -> Iterator[None]:
    """Holds a view of a folder; it is freed by the process's end, too."""
    if not self._folder:
      yield
      return
    path = f'{_path(self._folder, view)}.lock'
    with open(path, 'w', encoding='utf-8') as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      yield


class Joined:
  """Several signals of the same views, one behind the other in each row.

  Attributes:
    width: Number of values for each image, of all.
  """

  def __init__(self, parts: list[Signals]):
    """Joins signals that are filled."""
    self._parts = parts
    self.width = sum(part.width for part in parts)

  def read(self, views: np.ndarray, examples: np.ndarray) -> np.ndarray:
    """Returns rows, `[B, width]` float16; see `Signals.read`."""
    return np.concatenate(
      [part.read(views, examples) for part in self._parts], axis=1
    )


def count_bytes(examples: int, width: int) -> int:
  """Returns the bytes of a view's signals."""
  return examples * width * _DTYPE.itemsize


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  """Turns what the system says of a folder into a usage error."""
  try:
    yield
  except OSError as error:
    if storage.is_full(error):
      path = error.filename or 'the signal cache'
      raise storage.StorageError.about(path, error.errno or 0) from error
    raise errors.UsageError(
      f'--signal_cache: {error.filename or "the folder"}: {error.strerror}; '
      'give another folder, memory or off'
    ) from error


def _path(folder: str, view: int) -> str:
  return os.path.join(folder, f'view-{view:05d}.npy')


def _write(path, array):
  with open(path, 'wb') as file:
    np.lib.format.write_array_header_1_0(
      file, np.lib.format.header_data_from_array_1_0(array)
    )
    # numpy's own writing of rows does not say that a disk is full.
    file.write(array.data)
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').digest()
  with open(path, 'ab') as file:
    file.write(digest)


def _read(path: str, shape: tuple[int, int]) -> np.ndarray | None:
  """Returns a file's array, mapped, or None if it is not whole."""
  if not os.path.isfile(path):
    return None
  hashed = hashlib.sha256()
  # By parts: a view may be larger than the memory.
  with open(path, 'rb') as file:
    left = os.path.getsize(path) - _DIGEST
    while left > 0:
      chunk = file.read(min(left, 2**24))
      if not chunk:
        return None
      hashed.update(chunk)
      left -= len(chunk)
    if file.read() != hashed.digest():
      return None
  try:
    array = np.load(path, mmap_mode='r')
  except (ValueError, EOFError):
    return None
  return array if array.shape == shape and array.dtype == _DTYPE else None
