"""Trained models out of `.keras` files, and teachers out of `.onnx` files."""

import json
import os
import re
import weakref
import zipfile

import h5py
import keras

from ft_tf import errors, paths
from ft_tf.models import (
  archives,
  checks,
  file_limits,
  onnx_files,
  onnx_models,
  seeds,
)

_HDF5 = ('.h5', '.hdf5')
_OTHER_FILES = (
  *_HDF5,
  '.ckpt',
  '.onnx',
  '.pb',
  '.pt',
  '.pth',
  '.safetensors',
  '.tflite',
  '.th',
)
_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']*)'")

_unsafe_allowed = False
_seed_draws: weakref.WeakKeyDictionary[keras.Model, int] = (
  weakref.WeakKeyDictionary()
)


def is_file(name: str) -> bool:
  """Tells whether a model is named by its file rather than by its network."""
  return name.endswith('.keras')


def is_teacher_file(name: str) -> bool:
  """Tells whether a teacher is named by its file, of Keras or ONNX."""
  return is_file(name) or onnx_files.is_onnx(name)


def check_name(name: str, what: str) -> None:
  """Raises `UsageError` if a name is that of a file or folder of another kind.

  Args:
    name: A network's name or a file.
    what: How the message calls it, such as '--teacher=old.h5'.
  """
  is_saved_model = os.path.exists(os.path.join(name, 'saved_model.pb'))
  is_path = os.sep in name or name.endswith(_OTHER_FILES)
  if is_file(name) or not (is_saved_model or is_path):
    return
  if not os.path.exists(name):
    raise errors.UsageError(
      f'{what}: there is no such file or folder; give a .keras file'
    )
  if is_saved_model:
    raise errors.UsageError(
      f'{what} is a SavedModel, which does not have the layers of its model: '
      "give the .keras file that model.save('it.keras') writes where the model "
      'is built'
    )
  if os.path.isdir(name):
    raise errors.UsageError(f'{what} is a folder: give a .keras file')
  if onnx_files.is_onnx(name):
    raise errors.UsageError(
      f'{what} is an ONNX file, which can be a --teacher and not be trained: '
      'give a .keras file, or a network and its weights'
    )
  if not name.endswith(_HDF5):
    raise errors.UsageError(
      f'{what} is not a .keras file: give one that model.save wrote, or that '
      'ft-tf import-torch makes of a PyTorch checkpoint'
    )
  if not _has_model(name):
    raise errors.UsageError(
      f'{what} holds weights without a model: give the network of '
      'keras.applications that they belong to as --teacher or --student and '
      'this file as --teacher_weights or --student_weights, or load_weights it '
      'into your model and save that as .keras'
    )
  target = f'{os.path.splitext(name)[0]}.keras'
  raise errors.UsageError(
    f'{what} has an older format than .keras: convert it by python -c '
    f"\"import keras; keras.models.load_model('{name}', compile=False)"
    f".save('{target}')\" and give {target}; if Keras does not load it, build "
    'the model by its code, load_weights from the file, and model.save'
  )


def _has_model(path: str) -> bool:
  """Tells whether an HDF5 file holds a model as well as its weights."""
  try:
    with h5py.File(path) as file:
      return 'model_config' in file.attrs
  except Exception:  # Of damaged files h5py raises many kinds.
    return True  # The command in the message shows what is wrong with it.


def load(path: str) -> keras.Model:
  """Returns the trained model of a `.keras` file, or of an `.onnx` file.

  Raises:
    UsageError: there is no such file, it is not a model that Keras loads
      without running code from it, which `allow_unsafe` allows, it has weights
      that are not finite, or claims more than memory holds; or as of
      `onnx_models.load`.
  """
  paths.check_regular(path)
  if onnx_files.is_onnx(path):
    with seeds.counted_draws() as draws:
      model = onnx_models.load(path)
    _seed_draws[model] = draws.count
    return model
  if not os.path.isfile(path):
    raise errors.UsageError(
      f'there is no file {path}: give the path of a trained .keras model'
    )
  file_limits.check_archive(path)
  if zipfile.is_zipfile(path) and not archives.is_whole(path):
    raise errors.UsageError(
      f'{path} is damaged (a checksum differs): give a whole copy, or write it '
      'again'
    )
  try:
    with seeds.counted_draws() as draws:
      model = keras.models.load_model(path, compile=False)
  except errors.UsageError:
    raise  # An ONNX graph within the file cannot be read.
  except Exception as error:  # Keras raises many kinds, down to zipfile's.
    raise errors.UsageError(_why_not_loaded(path, error)) from error
  checks.check_finite(model, path)
  _seed_draws[model] = draws.count
  return model


def seed_draws(model: keras.Model) -> int:
  """Returns the seeds that Keras drew to load a model of `load`."""
  return _seed_draws[model]


def _why_not_loaded(path: str, error: Exception) -> str:
  """Returns what is wrong with a file that Keras does not load, and the fix."""
  if 'arbitrary code execution' in str(error):
    return (
      f'{path} holds the code of a Lambda layer, which would run here: give '
      '--allow_unsafe_model if you trust who made it, or a model of layers '
      'without code'
    )
  version = _keras_version(path)
  if version.startswith('2.'):
    return (
      f'{path} was written by Keras {version}, which Keras {keras.__version__} '
      "does not read: call model.save_weights('it.h5') there; here build the "
      "model anew by its code, load_weights('it.h5'), model.save"
    )
  unknown = _UNKNOWN.search(str(error))
  if unknown:
    return (
      f'{path} holds the {unknown[1]} {unknown[2]!r}, which is not one of '
      "Keras's: build the model of Keras's own, or register yours by "
      'keras.saving.register_keras_serializable before the library loads it'
    )
  reason = str(error).strip().splitlines() or [type(error).__name__]
  return (
    f'{path} does not load as a Keras model ({reason[0]}): give a .keras file '
    'written by model.save'
  )


def _keras_version(path: str) -> str:
  """Returns which Keras wrote a `.keras` file; '' if it does not say."""
  try:
    with zipfile.ZipFile(path) as file:
      return json.loads(file.read('metadata.json'))['keras_version']
  except (zipfile.BadZipFile, KeyError, ValueError, TypeError):
    return ''


def allow_unsafe() -> None:
  """Lets models run any code that they hold, for the rest of the process.

  That is the code in Lambda layers, and any operation of a SavedModel.
  """
  global _unsafe_allowed
  _unsafe_allowed = True
  keras.config.enable_unsafe_deserialization()


def is_unsafe_allowed() -> bool:
  return _unsafe_allowed
