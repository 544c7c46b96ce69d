"""`.keras` files of runs: the same model gives the same bytes.

A file that was lost is then written again from a checkpoint as it was, and the
runs that were made from it, which know its SHA-256, still belong to it.
"""

import json
import os
import shutil
import zipfile
from typing import Any

import keras

from ft_tf import paths, storage

_CONFIG, _METADATA = 'config.json', 'metadata.json'
_DATE = (1980, 1, 1, 0, 0, 0)
_SHARED = 'shared_object_id'
_COPIED = 2**22  # bytes at a time


def save(path: str, model: keras.Model) -> None:
  """Writes a `.keras` file, whole or not at all."""
  with storage.replacing(path) as temporary:
    dated = f'{temporary}.dated.keras'
    model.save(dated)
    _write_undated(dated, temporary)
    os.remove(dated)


def is_whole(path: str) -> bool:
  """Tells whether a file is an archive whose members have their checksums."""
  if not paths.is_regular(path):
    return False
  try:
    with zipfile.ZipFile(path) as archive:
      return archive.testzip() is None
  except Exception:  # Of damaged headers Python raises many kinds.
    return False


def _write_undated(source: str, target: str) -> None:
  """Copies an archive without what differs from process to process."""
  with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
    for entry in old.infolist():
      written = zipfile.ZipInfo(entry.filename, _DATE)
      written.file_size = entry.file_size
      if entry.filename in (_CONFIG, _METADATA):
        value = json.loads(old.read(entry))
        value.pop('date_saved', None)
        _number_shared(value, {})
        new.writestr(written, json.dumps(value))
      else:
        with old.open(entry) as member, new.open(written, 'w') as copy:
          shutil.copyfileobj(member, copy, _COPIED)


def _number_shared(value: Any, numbers: dict[Any, int]) -> None:
  """Numbers shared objects in their order; Keras takes their addresses.

  Args:
    value: The part of a configuration, changed in place.
    numbers: Those that were given, by the address.
  """
  if isinstance(value, dict):
    if _SHARED in value:
      value[_SHARED] = numbers.setdefault(value[_SHARED], len(numbers) + 1)
    value = list(value.values())
  if isinstance(value, list):
    for each in value:
      _number_shared(each, numbers)
