"""The index of a folder: what decoding each of its images has shown.

The images stay where they are. The index is one small file in the data
directory; with it only files that are new or have changed are looked at.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ft_tf import errors, paths, storage
from ft_tf.data import folder_tree, image_files, messages, progress

NAME = 'folder'  # of the folder with all indices, in the data directory
# A new number has all images looked at again.
_VERSION = 1
# A file may change twice within one tick of the file system's clock.
_SETTLED_NS = 2_000_000_000
# Images in one round of the threads, and seconds until a long inspection is
# saved for the first time, and again.
_ROUND = 512
_SAVE_SECONDS = 30.0
# What a process of an earlier version has not touched for so long is no longer
# being written.
_DEAD_SECONDS = 3600.0


class Entry(NamedTuple):
  """A file that has been looked at.

  Attributes:
    status: The file's, just before its bytes were read; None if the same bytes
      may not have the same status, so that the file has to be read again.
    inspection: What its bytes have shown.
  """

  status: image_files.Status | None
  inspection: image_files.Inspection


class Index:
  """What is known of the images of a folder.

  Attributes:
    entries: What is known of each image, by its path below the folder.
    path: The file of the index.
  """

  def __init__(self, listing: folder_tree.Listing, data_dir: str):
    """Reads the index of earlier runs; looks at no image.

    Args:
      listing: The files of the folder.
      data_dir: The folder that has the indices of all folders.
    """
    self._listing = listing
    root = os.path.realpath(listing.root)
    kind = 'labelled' if listing.labelled else 'unlabelled'
    name = hashlib.sha256(os.fsencode(f'{kind}\0{root}')).hexdigest()[:32]
    self.path = os.path.join(data_dir, NAME, f'{name}.jsonl')
    self._root = root
    self.entries: Mapping[str, Entry] = _read(self.path)
    self._saved = True

  def update(self) -> Mapping[str, Entry]:
    """Looks at files that are new or have changed; returns all by path.

    If that takes long, it is saved now and then, so that an inspection that is
    cut off, or that finds bad images, has not been in vain.

    Raises:
      UsageError: the index cannot be written.
    """
    statuses = self._listing.statuses
    kept = {
      path: self.entries[path]
      for path, status in statuses.items()
      if status and path in self.entries and self.entries[path].status == status
    }
    before, self.entries = self.entries, kept
    self._saved = kept.keys() == before.keys()
    new = [path for path in statuses if path not in kept]
    if not new:
      return kept
    # A file that was only moved or touched is not decoded again.
    known = {
      entry.inspection.sha256: entry.inspection
      for entry in before.values()
      if entry.inspection.sha256
    }
    root = messages.printable(self._listing.root)
    of_all = f' of {len(statuses):,}, new or changed' if kept else ''
    progress.log(
      f'{root}: decoding {messages.count(len(new), "image")}{of_all}'
    )
    decoded = progress.Progress(f'{root}: decoded', len(new))
    next_save = time.monotonic() + _SAVE_SECONDS
    for path, entry in self._look(new, known):
      kept[path] = entry
      self._saved = False
      decoded.step()
      if time.monotonic() > next_save:
        self.save()
        next_save = time.monotonic() + _SAVE_SECONDS
    return kept

  def _look(
    self,
    paths: list[str],
    known: Mapping[str, image_files.Inspection],
  ) -> Iterator[tuple[str, Entry]]:
    """Yields the entry of each path; several are looked at side by side."""
    started = time.time_ns()

    def look(path):
      return path, _look_at(
        os.path.join(self._listing.root, path), known, started
      )

    with (
      warnings.catch_warnings(action='ignore'),  # The inspections report them.
      concurrent.futures.ThreadPoolExecutor() as pool,
    ):
      for first in range(0, len(paths), _ROUND):
        yield from pool.map(look, paths[first : first + _ROUND])

  def save(self) -> None:
    """Writes the index, whole or not at all, if there is something new.

    Raises:
      UsageError: it cannot be written.
    """
    if self._saved:
      return
    try:
      os.makedirs(os.path.dirname(self.path), exist_ok=True)
      storage.sweep(os.path.dirname(self.path), older=_DEAD_SECONDS)
      with (
        storage.replacing(self.path) as path,
        open(path, 'w', encoding='utf-8') as file,
      ):
        rows = [json.dumps(row) for row in self._rows()]
        header = {
          'version': _VERSION,
          'folder': self._root,
          'sha256': _checksum(rows),
        }
        file.writelines(f'{row}\n' for row in (json.dumps(header), *rows))
    except OSError as error:
      if storage.is_full(error):
        raise storage.StorageError.about(self.path, error.errno or 0) from error
      raise errors.UsageError(
        f'cannot write the index of {messages.printable(self._listing.root)} '
        f'to {self.path} ({error.strerror}): give another --data_dir'
      ) from error
    self._saved = True

  def _rows(self) -> Iterable[Any]:
    for path, entry in self.entries.items():
      # What could not be read may be readable the next time.
      if entry.inspection.sha256 or entry.status:
        yield [path, entry.status, *dataclasses.astuple(entry.inspection)]


def _look_at(
  path: str, known: Mapping[str, image_files.Inspection], started: int
) -> Entry:
  """Returns the entry of a file.

  Args:
    path: Of the file.
    known: Inspections of earlier runs by SHA-256.
    started: The time before any file was read, in nanoseconds.
  """
  try:
    content, status = image_files.read(path)
  except OSError:
    return Entry(None, image_files.inspect(path))
  inspection = known.get(image_files.sha256(content))
  if inspection is None:
    inspection = image_files.inspect_bytes(content)
  settled = status.ctime_ns < started - _SETTLED_NS
  return Entry(status if settled else None, inspection)


def _checksum(rows: Iterable[str]) -> str:
  """Returns the SHA-256 of the rows of an index."""
  return hashlib.sha256('\n'.join(rows).encode()).hexdigest()


def _read(path: str) -> dict[str, Entry]:
  """Returns the entries in an index; none if it is missing or damaged."""
  entries: dict[str, Entry] = {}
  if not paths.is_regular(path):
    return entries
  try:
    with open(path, encoding='utf-8') as file:
      header, rows = json.loads(next(file, '{}')), file.read().splitlines()
      # Indices of earlier versions have no checksum.
      checksum = header.get('sha256', _checksum(rows))
      if header['version'] != _VERSION or checksum != _checksum(rows):
        return {}
      for line in rows:
        name, status, *values = json.loads(line)
        entries[name] = Entry(
          status and image_files.Status(*status),
          image_files.Inspection(*values),
        )
  except (
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    RecursionError,
  ):
    return {}  # An index can always be made again.
  return entries
