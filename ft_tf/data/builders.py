"""TFDS builders of data sets by name, and the preparation of their files."""

import glob
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from ft_tf import errors
from ft_tf.data import (
  digits,
  folder,
  folder_images,
  folder_index,
  messages,
  tfds_images,
  tfds_metadata,
)

# Registering the builder makes 'digits' a TFDS name like any other.
_EMBEDDED = (digits.Digits.name,)
_NAMED = 10  # configurations that a message lists
FILE_FORMATS = ('tfrecord', 'array_record')
StoredImages = folder_images.FolderImages | tfds_images.TfdsImages


def open_images(
  name: str,
  *,
  data_dir: str | None = None,
  max_bad_files: int = 0,
  channels: int = 0,
  labelled: StoredImages | None = None,
) -> StoredImages:
  """Returns the images of a data set.

  Digits and folders need not be prepared; see `prepare`.

  Args:
    name: TFDS name, `digits`, `folder:PATH` (a folder of images) or
      `unlabeled:PATH` (a folder of images without labels).
    data_dir: The TFDS folder; TFDS's default if None.
    max_bad_files: As of `folder_images.open_folder`.
    channels: As of `folder_images.open_folder`.
    labelled: The data set that unlabelled images add to.

  Raises:
    UsageError: there is no such data set, it is not prepared, or it is not one
      of labelled images.
  """
  for prefix, scan in (
    (folder.PREFIX, folder.scan),
    (folder.UNLABELLED, folder.scan_unlabelled),
  ):
    if name.startswith(prefix):
      if not isinstance(labelled, folder_images.FolderImages):
        labelled = None
      return folder_images.open_folder(
        scan(name.removeprefix(prefix)),
        data_dir=data_dir,
        max_bad_files=max_bad_files,
        channels=channels,
        labelled=labelled,
      )
  if name in _EMBEDDED:
    return tfds_images.TfdsImages(name, _find(name, data_dir))
  _check_name(name)
  if data_dir is not None and not os.path.isdir(data_dir):
    raise errors.UsageError(
      f'there is no folder {data_dir}: --data_dir is the TFDS folder with the '
      'prepared data sets'
    )
  builder = _find(name, data_dir)
  if not builder.is_prepared():
    where = data_dir or tfds.core.constants.DATA_DIR
    prepared = list_prepared(name, data_dir)
    if prepared:
      raise _other_version_error(
        f'{name} (version {builder.version})', where, prepared
      )
    raise errors.UsageError(
      f'{name} is not prepared in {where}: run `ft-tf prepare-data '
      f'--dataset={name} --data_dir={where}`, or give the --data_dir that has '
      'it'
    )
  return tfds_images.TfdsImages(name, builder)


def _check_name(name: str) -> None:
  """Raises `UsageError` if a name cannot be a TFDS name, or is a path."""
  if not name:
    raise errors.UsageError(
      'give --dataset: a TFDS name such as cifar10, digits, or folder:PATH; or '
      '--recipe, which has one'
    )
  shown = messages.printable(name)
  prefix, colon, path = name.partition(':')
  if colon and f'{prefix.lower()}:' == folder.PREFIX:
    raise errors.UsageError(
      f'--dataset={shown}: write {folder.PREFIX}{messages.printable(path)}'
    )
  if name.split('/', maxsplit=1)[0] == folder_index.NAME:
    raise errors.UsageError(
      f'--dataset={shown} has no path: a folder of images is '
      f'--dataset={folder.PREFIX}PATH'
    )
  if name.startswith(('/', '.', '~')):
    raise errors.UsageError(
      f'--dataset={shown} is a path: a folder of images is '
      f'--dataset={folder.PREFIX}{shown}'
    )


def list_prepared(name: str, data_dir: str | None = None) -> list[str]:
  """Returns the prepared configurations and versions of a data set.

  Args:
    name: TFDS name; its configuration and version are ignored.
    data_dir: The TFDS folder; TFDS's default if None.

  Returns:
    Names such as `cifar10:3.0.2` or `name/configuration:1.0.0`.
  """
  base = _base(name)
  root = os.path.join(data_dir or str(tfds.core.constants.DATA_DIR), base)
  names = []
  # TFDS reads a folder of another version only if it has this file.
  pattern = os.path.join(glob.escape(root), '**', 'features.json')
  for path in sorted(glob.glob(pattern, recursive=True)) if base else []:
    *config, version = os.path.relpath(os.path.dirname(path), root).split(
      os.sep
    )
    names.append(f'{"/".join([base, *config])}:{version}')
  return names


def prepare(
  name: str, *, data_dir: str | None = None, file_format: str = 'tfrecord'
) -> dict[str, Any]:
  """Downloads a data set and writes its files, unless it is prepared.

  Of a folder of images it writes the index, whatever it finds.

  Args:
    name: TFDS name, `digits` or `folder:PATH`.
    data_dir: The TFDS folder; TFDS's default if None.
    file_format: One of `FILE_FORMATS`; a folder stays as it is.

  Returns:
    `folder`, the folder of the files, and `examples`, their number by split;
    for a folder of images also `index`, the file that was written.

  Raises:
    UsageError: there is no such data set, it cannot be downloaded, or it is
      prepared in another format.
  """
  if name.startswith(folder.PREFIX):
    images = folder_images.open_folder(
      folder.scan(name.removeprefix(folder.PREFIX)),
      data_dir=data_dir,
      max_bad_files=sys.maxsize,
    )
    return {
      'folder': images.root,
      'index': images.prepare(),
      'examples': {split: images.count(split) for split in images.split_names},
    }
  _check_name(name)
  # TFDS refuses another format for a data set that is prepared.
  builder = _find(name, data_dir)
  if not builder.is_prepared():
    builder = _find(name, data_dir, file_format=file_format)
  try:
    tfds_images.prepare(builder)
  except Exception as error:  # TFDS raises many kinds, asserts among them.
    raise errors.UsageError(
      f'cannot prepare {name} in {builder.data_dir}: {error}; give another '
      '--data_dir, or run the same command again once this is fixed'
    ) from error
  formats = {file.value for file in builder.info.available_file_formats()}
  if file_format not in formats:
    raise errors.UsageError(
      f'{builder.data_dir} holds {name} as {", ".join(formats)}: give another '
      '--data_dir, or remove that folder'
    )
  return {
    'folder': str(builder.data_dir),
    'examples': {
      split: info.num_examples for split, info in builder.info.splits.items()
    },
  }


def _find(
  name: str, data_dir: str | None, **values: Any
) -> tfds.core.DatasetBuilder:
  """Returns the TFDS builder of a name."""
  if name in _EMBEDDED:
    return digits.Digits(data_dir=data_dir, **values)
  tfds_metadata.check(name, data_dir or str(tfds.core.constants.DATA_DIR))
  try:
    return tfds.builder(name, data_dir=data_dir, **values)
  except Exception as error:  # TFDS raises many kinds over damaged metadata.
    prepared = list_prepared(name, data_dir)
    no_such = (tfds.core.DatasetNotFoundError, ValueError, AssertionError)
    damaged = (json.JSONDecodeError, UnicodeDecodeError)
    if isinstance(error, damaged) or not isinstance(error, no_such):
      raise tfds_images.damaged_error(
        name, data_dir or str(tfds.core.constants.DATA_DIR), error
      ) from error
    if prepared:
      where = data_dir or tfds.core.constants.DATA_DIR
      raise _other_version_error(name, where, prepared) from error
    known = _list_known_to_tfds(_base(name))
    if known:
      raise errors.UsageError(
        f'TFDS has no {name}: --dataset takes {", ".join(known)}'
      ) from error
    raise errors.UsageError(
      f'TFDS knows no data set {name!r}: '
      + (
        f'for the images in this folder give --dataset={folder.PREFIX}{name}'
        if os.path.isdir(name)
        else '--dataset takes digits, which needs no download, a name from '
        f'TFDS such as cifar10, or {folder.PREFIX}PATH'
      )
    ) from error


def _base(name: str) -> str:
  """Returns a TFDS name without its configuration and version."""
  return re.split(r'\W', name, maxsplit=1)[0]


def _list_known_to_tfds(base: str) -> list[str]:
  """Returns the configurations and version of a data set; [] if unknown."""
  try:
    code = tfds.builder_cls(base)
  except (tfds.core.DatasetNotFoundError, ValueError):
    return []
  configs = list(code.builder_configs)
  names = [f'{base}/{config}' for config in configs[:_NAMED]] or [base]
  more = ['...'] if len(configs) > _NAMED else []
  version = f':{code.VERSION}' if code.VERSION else ''
  return [name + version for name in names] + more


def _other_version_error(
  name: str, where: str, prepared: Sequence[str]
) -> errors.UsageError:
  """Returns the error for a data set that is prepared in other versions."""
  return errors.UsageError(
    f'{name} is not prepared in {where}, which has {", ".join(prepared)}: give '
    f'--dataset={prepared[-1]}, or the --data_dir that has it'
  )
