"""Random access to TFRecord files, which have no index of their own."""

import os
from collections.abc import Iterable

# In front of a record: its length and a checksum; behind it: another checksum.
_LENGTH, _CHECKSUM = 8, 4
_HEADER = _LENGTH + _CHECKSUM


class TfRecordFiles:
  """The records of parts of some files, in order."""

  def __init__(self, parts: Iterable[tuple[str, int, int]]):
    """Reads where each record begins, but no record.

    Args:
      parts: Of each file its path, how many records of it are skipped, and how
        many are taken then; -1: all.
    """
    self._places = [
      (path, *place)
      for path, skip, take in parts
      for place in _find_records(path)[skip:][: take if take >= 0 else None]
    ]

  def __len__(self) -> int:
    return len(self._places)

  def read(self, positions: list[int]) -> list[bytes]:
    """Returns the records at positions."""
    return [self._read(*self._places[position]) for position in positions]

  def _read(self, path, offset, length):
    with open(path, 'rb', buffering=0) as file:
      return os.pread(file.fileno(), length, offset)


def _find_records(path: str) -> list[tuple[int, int]]:
  """Returns offset and length of each record of a file."""
  places, end = [], os.stat(path).st_size
  with open(path, 'rb', buffering=0) as file:
    position = 0
    while position < end:
      header = os.pread(file.fileno(), _LENGTH, position)
      length = int.from_bytes(header, 'little')
      places.append((position + _HEADER, length))
      position += _HEADER + length + _CHECKSUM
  return places
