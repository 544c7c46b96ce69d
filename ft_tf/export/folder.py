"""An export folder that is there: what it was made of, and what is in it."""

import os
from collections.abc import Mapping
from typing import Any

from ft_tf import errors, json_files, run_dir, sizes

MADE_OF = '.made_of.json'
_MADE_OF_EARLIER = '.model_sha256'
# Of the files and of export.json; another one is not read.
_LAYOUT = 2


def describe_source(
  model: str,
  weight_scales: str,
  ranges: Mapping[str, tuple[float, float]] | None,
  tested_on: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns what decides the files of an export and its figures, as JSON.

  Args:
    model: The student's `.keras` file.
    weight_scales: As of `twin.build`.
    ranges: As of `formats.Source`.
    tested_on: As of `datasets.Dataset.describe_test`.
  """
  digest = None
  if ranges is not None:
    digest = json_files.digest(
      {name: list(pair) for name, pair in ranges.items()}
    )
  return {
    'layout': _LAYOUT,
    'model_sha256': run_dir.digest(model),
    'weight_scales': weight_scales,
    'ranges': digest,
    'tested_on_sha256': json_files.digest(tested_on),
  }


def is_of(folder: str, model: str) -> bool:
  """Tells whether a folder is the export of a model's file."""
  made_of = run_dir.RunDir(folder).read(MADE_OF) or {}
  return made_of.get('model_sha256') == run_dir.digest(model)


@json_files.explains
def formats_there(folder: str, made_of: dict[str, Any]) -> set[str]:
  """Returns the formats of an export that is made of the same.

  Raises:
    UsageError: it is the export of something else, or of an earlier layout.
  """
  known = run_dir.RunDir(folder).read(MADE_OF)
  if not isinstance(known, dict):
    what = 'no export' if known is None else 'an export of an earlier version'
    if os.path.exists(os.path.join(folder, _MADE_OF_EARLIER)):
      what = 'an export of an earlier version'
    raise errors.UsageError(
      f'{folder} holds {what}: delete it, or give another --workdir'
    )
  if known.get('layout') != _LAYOUT:
    raise errors.UsageError(
      f'{folder} holds an export of another version: delete it, or give '
      'another --workdir'
    )
  for key, what in (
    ('model_sha256', 'another model'),
    ('weight_scales', 'other --weight_scales'),
    ('ranges', 'other learned ranges'),
  ):
    if known.get(key) != made_of[key]:
      raise errors.UsageError(
        f'{folder} holds the export of {what}: give another --workdir'
      )
  # Earlier versions did not record it.
  tested_on = known.get('tested_on_sha256', made_of['tested_on_sha256'])
  if tested_on != made_of['tested_on_sha256']:
    raise errors.UsageError(
      f'{folder} holds the export for other test images, or other names of '
      'classes: give another --workdir'
    )
  return set(known.get('formats', ()))


@json_files.explains
def recorded_preprocessing(model: str) -> dict[str, Any]:
  """Returns how images were made for a model, as its folder has it.

  Args:
    model: A file or folder of an export folder, or the `model.keras` of a run.

  Returns:
    `resizing`, of images that were resized, and `image_size`, the first size
    that they were resized to; what is not known is left out.
  """
  folder, name = os.path.split(os.path.abspath(model))
  entries = run_dir.RunDir(folder).read('export.json')
  if isinstance(entries, dict) and name in entries:
    known = entries[name].get('preprocessing')
    if known is None:  # of an export before these were written
      return _of_recipe(os.path.dirname(folder))
    first, *_ = known.get('sizes') or [None]  # Records keep their own size.
    return _known(folder, known.get('resizing'), first)
  if os.path.join(folder, name) == run_dir.RunDir(folder).model:
    return _of_recipe(folder)
  return {}


def _of_recipe(folder: str) -> dict[str, Any]:
  """Returns what the recipe of a run says of images, if one is there."""
  recipe = run_dir.RunDir(folder).read('recipe.json')
  data = recipe.get('data') if isinstance(recipe, dict) else None
  if not isinstance(data, dict):
    return {}
  return _known(folder, data.get('resizing'), data.get('image_size'))


def _known(
  folder: str, resizing: str | None, image_size: Any
) -> dict[str, Any]:
  """Returns what is known, checked; a size is in any form of `sizes.read`."""
  try:
    size = sizes.read(image_size or 0)
  except ValueError as error:
    raise errors.UsageError(
      f'{folder} says that images were resized to {image_size!r}: put back a '
      'copy of its files, or give --model a copy of the file elsewhere'
    ) from error
  if not size:
    return {}
  return {'resizing': resizing, 'image_size': size}
