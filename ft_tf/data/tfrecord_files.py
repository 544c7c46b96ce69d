"""Random access to TFRecord files, which have no index of their own."""

import os
from collections.abc import Iterable

from tensorflow_datasets.core.utils import shard_utils

from ft_tf import errors

# In front of a record: its length and a checksum; behind it: another checksum.
_LENGTH, _CHECKSUM = 8, 4
_HEADER = _LENGTH + _CHECKSUM


class TfRecordFiles:
  """The records of parts of some files, in order."""

  def __init__(self, parts: Iterable[shard_utils.FileInstruction]):
    """Reads where each record begins, but no record.

    Args:
      parts: Of each file its path, how many records it has, how many of them
        are skipped, and how many are taken then; -1: all.

    Raises:
      OSError: a file cannot be read.
      ValueError: a file is not whole, or has another number of records.
    """
    self._places = []
    for part in parts:
      path = os.fspath(part.filename)
      places = _find_records(path)
      if len(places) != part.examples_in_shard:
        raise ValueError(
          f'{path} has {len(places):,} records, not {part.examples_in_shard:,}'
        )
      end = part.skip + part.take if part.take >= 0 else None
      self._places += [(path, *place) for place in places[part.skip : end]]

  def __len__(self) -> int:
    return len(self._places)

  def read(self, positions: list[int]) -> list[bytes]:
    """Returns the records at positions.

    Raises:
      TrainingError: their files are gone, or shorter than they were.
    """
    return [self._read(*self._places[position]) for position in positions]

  def _read(self, path, offset, length):
    try:
      with open(path, 'rb', buffering=0) as file:
        record = os.pread(file.fileno(), length, offset)
    except OSError as error:
      raise _changed_error(path, error.strerror) from error
    if len(record) != length:
      raise _changed_error(path, 'it is shorter')
    return record


def _changed_error(path, reason):
  return errors.TrainingError(
    f'{path} has changed since the command began ({reason}): put back a copy '
    'of it and give the same command again'
  )


def _find_records(path: str) -> list[tuple[int, int]]:
  """Returns offset and length of each record of a file.

  Raises:
    ValueError: the file does not end where a record ends.
  """
  places, end = [], os.stat(path).st_size
  with open(path, 'rb', buffering=0) as file:
    position = 0
    while position < end:
      header = os.pread(file.fileno(), _LENGTH, position)
      length = int.from_bytes(header, 'little')
      places.append((position + _HEADER, length))
      position += _HEADER + length + _CHECKSUM
  if position != end:
    raise ValueError(f'the records of {path} do not end where it ends')
  return places
