"""What the metadata of a prepared TFDS data set would have Python import.

TFDS reads the classes of features from `features.json` and imports the modules
that the names begin with: a data set from someone else could name any module
of this machine. Its own modules alone are let through.
"""

import glob
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from ft_tf import errors, paths

_OWN = 'tensorflow_datasets.'
# Of protobuf's JSON, which has two spellings, and of TFDS's older format.
_KEYS = ('pythonClassName', 'python_class_name', 'type')


def check(name: str, data_dir: str) -> None:
  """Looks at the names in every version of a data set that is prepared.

  Args:
    name: TFDS name; every word of it may be the name of a folder.
    data_dir: The TFDS folder.

  Raises:
    UsageError: a module would be imported that is none of TFDS's.
  """
  for word in re.findall(r'\w+', name):
    paths.check_tree(os.path.join(data_dir, word))
    pattern = os.path.join(glob.escape(data_dir), word, '**', 'features.json')
    for path in glob.iglob(pattern, recursive=True):
      for found in _class_names(_read(path)):
        module, dot, _ = found.rpartition('.')
        if dot and not f'{module}.'.startswith(_OWN):
          raise errors.UsageError(
            f'{path} would import the Python module {module!r}, which is not '
            "one of TFDS's: give a data set whose features are TFDS's own"
          )


def _read(path: str) -> Any:
  try:
    with open(path, encoding='utf-8') as file:
      return _parse(file.read())
  except (OSError, ValueError, RecursionError):
    return None  # TFDS tells what is wrong with it.


def _parse(text: str) -> Any:
  # As pairs: a key that is there twice must not hide a name.
  return json.loads(text, object_pairs_hook=_Pairs)


class _Pairs(list):
  """The keys and values of a JSON object."""


def _class_names(value: Any) -> Iterator[str]:
  """Yields the names of classes, of features within features too."""
  if isinstance(value, _Pairs):
    for key, inner in value:
      if isinstance(inner, str):
        if key in _KEYS:
          yield inner
        elif inner.lstrip()[:1] in ('{', '['):  # JSON within a text
          try:
            yield from _class_names(_parse(inner))
          except (ValueError, RecursionError):
            continue
      yield from _class_names(inner)
  elif isinstance(value, list):
    for inner in value:
      yield from _class_names(inner)
