"""What claims of run folders compare, and how one is undone."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import Any


class Made:
  """What a claim finds, so that what it made can be removed again.

  Nothing else is removed, whatever lies in the folder.
  """

  # The files and folders of a run that has trained nothing.
  _NAMES = (
    '.lock',
    'recipe.json',
    'environment.json',
    'refused.json',
    'candidates.json',
    'beta.json',
    'metrics.jsonl',
    'methods.json',
    'plan.json',
    'checkpoints',
    'maps',
    'tensorboard',
  )

  def __init__(self, path: str):
    self._path = path
    self._names = os.listdir(path) if os.path.isdir(path) else []
    self._folders = []
    while not os.path.exists(path):
      self._folders.append(path)
      path = os.path.dirname(path)

  def remove(self) -> None:
    """Removes what a run made since; folders only if they are empty then."""
    for name in self._NAMES:
      path = os.path.join(self._path, name)
      if name in self._names:
        continue
      if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
      else:
        with contextlib.suppress(FileNotFoundError):
          os.remove(path)
    for folder in self._folders:
      with contextlib.suppress(OSError):
        os.rmdir(folder)


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ''
) -> list[str]:
  """Returns 'field: old saved, new given' for each leaf that differs."""
  lines = []
  for key in sorted(old.keys() | new.keys()):
    was, now = old.get(key), new.get(key)
    if isinstance(was, dict) and isinstance(now, dict):
      lines += differences(was, now, f'{prefix}{key}.')
    elif was != now:
      lines.append(f'{prefix}{key}: {was} saved, {now} given')
  return lines


def as_json(
  recipe: dict[str, Any], written: dict[str, Any], addable: Iterable[str]
) -> dict[str, Any]:
  """Returns a recipe to be compared with one that was read from JSON.

  Args:
    recipe: As of `RunDir.claim`; its tuples become lists.
    written: What was read.
    addable: Names that are left out where `written` lacks them.
  """
  left_out = set(addable) - written.keys()
  given = json.loads(json.dumps(recipe))
  return {name: given[name] for name in given if name not in left_out}
