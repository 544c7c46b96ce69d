"""The runs in a folder, as a table: `ft-tf runs`."""

import datetime
import os
import sys
from collections.abc import Iterator
from typing import Any

from ft_tf import errors, json_files, run_dir

HEADER = ['run', 'method', 'seed', 'state', 'accuracy %', 'time']


def find(path: str) -> list[dict[str, Any]]:
  """Returns the runs in a folder and below it, by path.

  A compression's or a comparison's folder is not a row of its own: its runs
  are.

  Returns:
    For each run: `run`, its path relative to the folder; `method`, that of a
    student, otherwise the stage; `seed`; `state`, 'complete', 'running' or
    'interrupted'; `step`, the last that is logged; `accuracy`, of the test
    split, or of the last validation, or None; `seconds` so far. A run whose
    files are damaged is said, and left out.

  Raises:
    UsageError: there is no such folder.
  """
  if not os.path.isdir(path):
    raise errors.UsageError(f'there is no folder {path}: give that of a run')
  rows = []
  for folder in _run_folders(path):
    try:
      with json_files.explained(folder):
        row = _describe(run_dir.RunDir(folder), os.path.relpath(folder, path))
        format_cells(row)  # What cannot be shown is damaged, too.
    except errors.UsageError as error:
      print(error, file=sys.stderr, flush=True)
    else:
      rows.append(row)
  return rows


def format_cells(row: dict[str, Any]) -> list[str]:
  """Returns a run's cells under `HEADER`."""
  state, accuracy = row['state'], row['accuracy']
  if state != 'complete':
    state += f', step {row["step"]:,}'
  return [
    row['run'],
    row['method'],
    '-' if row['seed'] is None else str(row['seed']),
    state,
    '-' if accuracy is None else f'{100 * accuracy:.2f}',
    str(datetime.timedelta(seconds=round(row['seconds']))),
  ]


def _run_folders(path: str) -> Iterator[str]:
  """Yields the folders of stages, in the order of their names."""
  for folder, folders, files in os.walk(path):
    folders.sort()
    if 'recipe.json' in files and 'stage' in _read_recipe(folder):
      # The parts of a run are in its folders: checkpoints, exports. Only what
      # continues a student is a run of its own.
      folders[:] = [name for name in folders if name == run_dir.QAT]
      yield folder


def _read_recipe(folder: str) -> dict[str, Any]:
  """Returns the recipe of a run; a damaged one is said, and lists nothing."""
  try:
    return run_dir.RunDir(folder).read('recipe.json') or {}
  except errors.UsageError as error:
    print(error, file=sys.stderr, flush=True)
    return {}


def _describe(run: run_dir.RunDir, name: str) -> dict[str, Any]:
  recipe = run.read('recipe.json')
  result = run.read('result.json')
  rows = run.metrics()
  last = rows[-1] if rows else {}
  stage = recipe['stage']
  accuracies = [
    row['validation_accuracy'] for row in rows if 'validation_accuracy' in row
  ]
  accuracy = accuracies[-1] if accuracies else None
  if result is not None:
    state, accuracy = 'complete', result.get('accuracy')
  else:
    state = 'running' if run.in_use() else 'interrupted'
  return {
    'run': name,
    'method': recipe.get('student', {}).get('method', stage),
    'seed': recipe.get('seed'),
    'state': state,
    'step': last.get('step', 0),
    'accuracy': accuracy,
    'seconds': (result or {}).get('wall_seconds', last.get('wall_seconds', 0)),
  }
