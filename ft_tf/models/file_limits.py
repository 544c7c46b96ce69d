"""What the headers of a file claim that it holds, before it is read.

A file of kilobytes can claim arrays of terabytes: by a compressed member of a
zip archive, by the shape in the header of a .npy, or by an HDF5 data set of
which nothing is stored. Whoever reads it would first allocate them. Refused is
what memory cannot hold, and what is stored outside of the file.
"""

import os
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import h5py
import numpy as np

from ft_tf import errors

_WEIGHTS = 'model.weights.h5'  # of a .keras file, as Keras's saving_lib has it
_MOST_MEMBERS = 100_000


def memory_bytes() -> int:
  """Returns the memory of this machine in bytes."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def check_archive(path: str) -> None:
  """Looks at the headers of a zip archive, and of the HDF5 file in `.keras`.

  What is no archive, or a damaged one, is for who opens it.

  Raises:
    UsageError: it claims to hold more than memory, or stores data elsewhere.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      entries = archive.infolist()
      if len(entries) > _MOST_MEMBERS:
        raise errors.UsageError(
          f'{path} has {len(entries):,} members: give a file of a model or of '
          'arrays'
        )
      _check_bytes(path, sum(entry.file_size for entry in entries))
      if _WEIGHTS in archive.namelist():
        with archive.open(_WEIGHTS) as file:
          check_hdf5(path, file)
      for entry in entries:
        if entry.filename.endswith('.npy'):
          with archive.open(entry) as file:
            _check_npy(path, file, entry.file_size)
  except errors.UsageError:
    raise
  except Exception:  # Of damaged headers Python raises many kinds.
    return


def check_hdf5(path: str, file: IO[bytes] | None = None) -> None:
  """Looks at the headers of an HDF5 file.

  Args:
    path: What messages name, and what is opened if there is no file.
    file: A part of an archive.

  Raises:
    UsageError: it claims to hold more than memory, or stores data elsewhere.
  """
  try:
    with h5py.File(file or path, 'r') as opened:
      claimed = 0
      for dataset in _datasets(path, opened):
        if dataset.external or dataset.is_virtual:
          raise errors.UsageError(
            f'{path} refers to data in other files: give a file that has all '
            'of its weights'
          )
        claimed += dataset.size * dataset.dtype.itemsize
      _check_bytes(path, claimed)
  except errors.UsageError:
    raise
  except Exception:  # Of damaged files h5py raises many kinds.
    return


def _datasets(path: str, group: Any) -> Iterator[h5py.Dataset]:
  """Yields the data sets of a group and of the groups within."""
  for name in group:
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
      raise errors.UsageError(
        f'{path} refers to data in other files: give a file that has all of '
        'its weights'
      )
    if isinstance(link, h5py.SoftLink):
      continue  # What it leads to is a data set of its own.
    entry = group[name]
    if isinstance(entry, h5py.Dataset) and entry.shape is not None:
      yield entry
    elif isinstance(entry, h5py.Group):
      yield from _datasets(path, entry)


def _check_npy(path: str, file: IO[bytes], size: int) -> None:
  """Raises `UsageError` if an array claims more bytes than its member has."""
  version = np.lib.format.read_magic(file)
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if read is None:
    return
  shape, _, dtype = read(file)
  claimed = dtype.itemsize
  for length in shape:
    claimed *= length
  if not dtype.hasobject and claimed > size:
    raise errors.UsageError(
      f'{path} has an array that claims {_in_gib(claimed)} in a member of '
      f'{_in_gib(size)}: save the state dict with numpy.savez'
    )


def _check_bytes(path: str, claimed: int) -> None:
  if claimed > memory_bytes():
    raise errors.UsageError(
      f'{path} claims to hold {_in_gib(claimed)}, more than the '
      f'{_in_gib(memory_bytes())} of memory here: give another file'
    )


def _in_gib(count: int) -> str:
  return f'{count / 2**30:,.2f} GiB'
