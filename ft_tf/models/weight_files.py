"""What is in a file of weights, before it is loaded into a network."""

import collections
import contextlib
import io
import json
import os
import zipfile
from collections.abc import Collection, Iterator

import h5py

from ft_tf import errors, paths
from ft_tf.models import applications, file_limits, model_files

# The members of a `.keras` file, as Keras's saving_lib names them.
_WEIGHTS, _CONFIG = 'model.weights.h5', 'config.json'
# What Keras's option `include_preprocessing` adds.
_PREPROCESSING = {'Rescaling', 'Normalization'}
# `layers.images` gives the networks of this library a layer of this name.
_OURS = 'normalize'


def check_file(path: str, role: str) -> None:
  """Raises `UsageError` if a path is not that of a file of weights.

  Args:
    path: The value of the flag.
    role: What the network is, 'teacher' or 'student', whose flag is named.
  """
  paths.check_regular(path, f'--{role}_weights=')
  is_weights = path.endswith('.h5') or model_files.is_file(path)
  if not is_weights or not os.path.isfile(path):
    raise errors.UsageError(
      f'--{role}_weights={path} is not a file of weights: give the path of a '
      '.weights.h5, .h5 or .keras file'
    )
  if model_files.is_file(path):
    file_limits.check_archive(path)
  else:
    file_limits.check_hdf5(path)


def check_plain(
  path: str, operations: Collection[str], name: str, role: str
) -> None:
  """Raises `UsageError` if a `.keras` file is of more than a network.

  Layers of its own before or after the network's would be lost without notice,
  its preprocessing above all.

  Args:
    path: A file; of one that is not `.keras` only its weights are known.
    operations: The names of the classes of the network's operations, as Keras
      builds it.
    name: The network's.
    role: As of `check_file`.
  """
  if not model_files.is_file(path):
    return
  with _explained(path, role, 'a .keras file', 'model.save'):
    config = json.loads(_member(path, _CONFIG))['config']
    layers = config.get('layers', ()) if isinstance(config, dict) else ()
    kinds = [
      (str(each['class_name']), each['config'].get('name')) for each in layers
    ]
  own = {*operations, 'InputLayer'}
  if applications.may_preprocess(name):
    own |= _PREPROCESSING
  others = {kind for kind, name in kinds if name == _OURS or kind not in own}
  if others or not kinds:
    raise errors.UsageError(
      f'--{role}_weights={path} is not of {name} alone'
      + (f', it has {", ".join(sorted(others))}' if others else '')
      + f': give it as --{role}={path}, with --new_head if its classes are not '
      "the data set's"
    )


def shape_counts(path: str, role: str) -> collections.Counter[tuple[int, ...]]:
  """Returns how often a file has weights of each shape.

  Args:
    path: The file.
    role: As of `check_file`.

  Raises:
    UsageError: it does not open.
  """
  shapes: collections.Counter[tuple[int, ...]] = collections.Counter()

  def count(name, entry):
    # Without an optimizer's state, counters and states of random generators.
    if (
      isinstance(entry, h5py.Dataset)
      and not name.startswith('optimizer')
      and entry.shape
      and entry.dtype.kind == 'f'
    ):
      shapes[entry.shape] += 1

  with _opened(path, role) as file:
    file.visititems(count)
  return shapes


@contextlib.contextmanager
def _opened(path: str, role: str) -> Iterator[h5py.File]:
  """Yields the weights of a file."""
  content: str | io.BytesIO = path
  if model_files.is_file(path):
    with _explained(path, role, 'a .keras file', 'model.save'):
      content = io.BytesIO(_member(path, _WEIGHTS))
  with (
    _explained(path, role, 'an HDF5 file', 'save_weights'),
    h5py.File(content) as file,
  ):
    yield file


def _member(path: str, name: str) -> bytes:
  """Returns a part of a `.keras` file."""
  with zipfile.ZipFile(path) as archive:
    return archive.read(name)


@contextlib.contextmanager
def _explained(path: str, role: str, kind: str, writer: str) -> Iterator[None]:
  """Turns what a damaged file raises in a block into one line.

  Args:
    path: The file.
    role: As of `check_file`.
    kind: What it should be.
    writer: What writes such files.
  """
  try:
    yield
  except errors.UsageError:
    raise
  except Exception as error:  # Of damaged files h5py raises many kinds.
    raise errors.UsageError(
      f'--{role}_weights={path} does not open as {kind} '
      f'({errors.first_line(error)}): give one that {writer} wrote'
    ) from error
