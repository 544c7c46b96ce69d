"""Models of a call in Python, as the files that a run begins with.

A model in memory is written into the run's folder, once. The same model of a
later call is known again, and another is refused in its place.
"""

import os
import tempfile
from typing import Any

import keras
import numpy as np

from ft_tf import errors, paths, run_dir
from ft_tf.models import checks, graph, model_files
from ft_tf.training import stage


def folder_of(run: run_dir.RunDir) -> str:
  """Returns the folder in a run's for the models that were in memory."""
  return os.path.join(run.path, 'given')


def to_path(name: str, given: Any) -> str:
  """Returns a path as a text.

  Raises:
    UsageError: it is none; the message has the argument's name.
  """
  if not isinstance(given, (str, os.PathLike)):
    raise errors.UsageError(f'{name} is a {type(given).__name__}: give a path')
  return paths.expand(os.fsdecode(given))


def check(name: str, model: Any) -> None:
  """Raises `UsageError` if it is not a Keras model of images to logits."""
  if not isinstance(model, keras.Model):
    raise errors.UsageError(
      f'{name} is a {type(model).__name__}: give a keras.Model, the path of a '
      '.keras file, or the name of a network'
    )
  checks.check_classifier(model, f'the {name}')


def to_file(
  run: run_dir.RunDir, name: str, given: Any, images: np.ndarray
) -> str:
  """Returns a model's name or file; a model in memory is written once.

  A `.keras` file of the same model has other bytes each time it is written, and
  the run would be another.

  Args:
    run: Its folder `given/` keeps models in memory.
    name: 'teacher' or 'student'.
    given: A network's name, a file, or a model.
    images: Some of those that it is for, `[N, H, W, C]`.

  Raises:
    UsageError: it is none of these or not for the images, or a run of another
      model has begun in the folder.
  """
  if isinstance(given, (str, os.PathLike)):
    given = to_path(name, given)
    if name == 'student' or not model_files.is_teacher_file(given):
      model_files.check_name(given, f'{name}={given}')
    return given
  check(name, given)
  if given.input_shape[-1] not in (None, images.shape[-1]):
    raise errors.UsageError(
      f'the {name} takes images of {given.input_shape[-1]} channels, they have '
      f'{images.shape[-1]}: give a {name} for these'
    )
  with tempfile.TemporaryDirectory() as folder:
    # What cannot be read back is refused before anything is written.
    first = os.path.join(folder, f'{name}.keras')
    given.save(first)
    read = model_files.load(first)
    checks.check_classifier(read, f'the {name}')
  path = os.path.join(folder_of(run), f'{name}.keras')
  if os.path.exists(path):
    kept = model_files.load(path)
    different = _difference(kept, read, images[:1])
    if different is None and name == 'student':
      different = _difference_in_training(kept, read)
    if different is None:
      return path
    if run.begun():
      raise errors.UsageError(
        f'{run.path} holds a run of a {name} of other {different} '
        f'({name}_sha256 in its recipe.json): give another workdir, or '
        f'{name}={path!r} to continue that run'
      )
  os.makedirs(os.path.dirname(path), exist_ok=True)
  stage.save(path, given)
  return path


def _difference(
  one: keras.Model, other: keras.Model, images: np.ndarray
) -> str | None:
  """Returns in what two models differ that are used as they are; None: not."""
  weights, other_weights = one.get_weights(), other.get_weights()
  if not (
    one.input_shape == other.input_shape
    and len(weights) == len(other_weights)
    and all(map(np.array_equal, weights, other_weights))
  ):
    return 'weights'
  # A student may see smaller images.
  sizes = zip(one.input_shape[1:3], images.shape[1:3], strict=True)
  height, width = (taken or given for taken, given in sizes)
  images = images[:, :height, :width]
  if np.allclose(one(images), other(images), rtol=1e-3, atol=1e-3):
    return None
  return 'layers'


def _difference_in_training(one: keras.Model, other: keras.Model) -> str | None:
  """Returns in what two models differ that are trained; None: in nothing.

  Args:
    one: Read from a file, whose configurations are JSON values then.
    other: Likewise, of the same weights.
  """
  ours, theirs = (
    [
      (type(layer).__name__, _without_names(layer.get_config()))
      for layer in graph.flat_layers(model)
      # Those of models name their layers; what connects them shows in outputs.
      if not isinstance(layer, keras.Model)
    ]
    for model in (one, other)
  )
  return None if ours == theirs else 'layers, or layers frozen otherwise'


def _without_names(config: Any) -> Any:
  """Returns a layer's configuration without what each process counts or draws.

  A layer without a name gets a number, one without a seed a random one.
  """
  if isinstance(config, dict):
    return {
      key: _without_names(value)
      for key, value in config.items()
      if key not in ('name', 'seed')
    }
  if isinstance(config, (list, tuple)):
    return [_without_names(value) for value in config]
  return config
