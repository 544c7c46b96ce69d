"""An export folder as the page sees it: what to show, and the files to run."""

import dataclasses
import math
import os
from typing import Any

from ft_tf import errors, json_files, run_dir
from ft_tf.browser import user_files

# LiteRT.js knows these, and int32, which no image has.
_DTYPES = ('uint8', 'float32')
_AGAIN = 'export the student again with `ft-tf export`'


@dataclasses.dataclass(frozen=True)
class Export:
  """A student that the page can run.

  Attributes:
    about: What the page shows and computes with, as JSON values: `labels`,
      `preprocessing` (of `image_ops.Preprocessing.as_json`), `files` (of each
      `name`, `bytes`, `accuracy`, `examples`, `input` and `output`), and
      `teacher` (`bytes` and `accuracy` of its float32 file; None: not known).
    files: The content of the .tflite files by name.
  """

  about: dict[str, Any]
  files: dict[str, bytes]


@json_files.explains
def read(folder: str) -> Export:
  """Reads an export folder.

  Args:
    folder: As `ft_tf.export.student.export` leaves it.

  Raises:
    UsageError: it is none, is damaged, or no file of it runs in the page.
  """
  figures = _read_figures(folder)
  if not isinstance(figures, dict):
    raise errors.UsageError(
      f'{folder} has no export.json: give the folder export/ of a run'
    )
  labels = _read_labels(folder)
  described = [
    _describe(folder, name, entry, len(labels))
    for name, entry in figures.items()
    if name.endswith('.tflite') and _runs(folder, name, entry)
  ]
  if not described:
    raise errors.UsageError(
      f'{folder} has no .tflite file that LiteRT.js takes (uint8 or float32, '
      f'one image): {_AGAIN}'
    )
  about = {
    'labels': labels,
    'preprocessing': described[0].pop('preprocessing'),
    'files': described,
    'teacher': _read_teacher(folder),
  }
  for each in described[1:]:
    del each['preprocessing']
  files = {
    each['name']: user_files.read(os.path.join(folder, each['name']), _AGAIN)
    for each in described
  }
  for each in described:
    if len(files[each['name']]) != each['bytes']:
      raise errors.UsageError(
        f'{folder}/{each["name"]} is not the file that export.json describes: '
        f'{_AGAIN}'
      )
  return Export(about, files)


def _read_figures(folder: str) -> Any:
  try:
    return run_dir.RunDir(folder).read('export.json')
  except (OSError, ValueError) as error:
    raise errors.UsageError(
      f'cannot read {folder}/export.json ({error}): {_AGAIN}'
    ) from error


def _runs(folder: str, name: str, entry: Any) -> bool:
  """Tells whether LiteRT.js takes a file, by its entry of export.json."""
  try:
    dtypes = entry['input']['dtype'], entry['output']['dtype']
    batches = entry['input']['shape'][0], entry['output']['shape'][0]
  except (KeyError, TypeError, IndexError) as error:
    raise errors.UsageError(
      f'{folder}/export.json says too little of {name}, as older versions '
      f'wrote it: {_AGAIN}'
    ) from error
  return {*dtypes} <= {*_DTYPES} and batches == (1, 1)


def _describe(
  folder: str, name: str, entry: dict[str, Any], classes: int
) -> dict[str, Any]:
  """Returns what the page needs to know of a file."""
  try:
    known = {
      'name': name,
      **{
        key: entry[key]
        for key in ('bytes', 'accuracy', 'examples', 'preprocessing')
      },
      'input': {key: entry['input'][key] for key in ('dtype', 'shape')},
      'output': {key: entry['output'][key] for key in _of_output(entry)},
    }
    image = known['preprocessing']
    wanted = [1, image['height'], image['width'], image['channels']]
  except (KeyError, TypeError) as error:
    raise errors.UsageError(
      f'{folder}/export.json lacks {error} of {name}: {_AGAIN}'
    ) from error
  if known['input']['shape'] != wanted or image['channels'] not in (1, 3):
    raise errors.UsageError(
      f'{folder}/{name} takes images of shape {known["input"]["shape"]}, its '
      f'preprocessing makes {wanted}: {_AGAIN}'
    )
  if known['output']['shape'] != [1, classes]:
    raise errors.UsageError(
      f'{folder}/labels.txt has {classes} names, {name} gives '
      f'{known["output"]["shape"][1:]} logits: {_AGAIN}'
    )
  return known


def _of_output(entry: dict[str, Any]) -> tuple[str, ...]:
  integers = entry['output']['dtype'] == 'uint8'
  return ('dtype', 'shape', *(('scale', 'zero_point') if integers else ()))


def _read_labels(folder: str) -> list[str]:
  content = user_files.read(os.path.join(folder, 'labels.txt'), _AGAIN)
  return content.decode('utf-8', 'replace').removesuffix('\n').split('\n')


def _read_teacher(folder: str) -> dict[str, Any] | None:
  """Returns the figures of the teacher's float32 file beside an export."""
  above = os.path.dirname(os.path.abspath(folder))
  figures = _read_figures(os.path.join(above, 'teacher', 'export'))
  entry = figures.get(run_dir.FLOAT32) if isinstance(figures, dict) else None
  if not isinstance(entry, dict):
    return None
  known = {key: entry.get(key) for key in ('bytes', 'accuracy')}
  return known if all(map(_is_number, known.values())) else None


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and math.isfinite(value)
