"""What a run takes of a disk, estimated before it begins."""

from collections.abc import Mapping, Sequence

import keras

from ft_tf import recipes, storage

# Two are kept while a third is written.
_CHECKPOINTS = 2
# `model.keras`, and `best.keras` or what it replaces.
_MODELS = 2
# The files of an export, in sizes of the network in float32: .keras and
# SavedModel, and float32, float16 and int8 for TFLite.
_EXPORT = 5
_BYTES = 4  # of a weight


def weigh(*models: keras.Model) -> int:
  """Returns the bytes of the weights of some models."""
  return _BYTES * sum(model.count_params() for model in models)


def of_training(
  weights: int, settings: recipes.Optimization | recipes.Quantisation
) -> dict[str, int]:
  """Returns the bytes that the run of a stage takes, by what they are.

  Args:
    weights: Bytes of the weights that are trained.
    settings: Those of the stage, whose optimizer and average have a value for
      each weight as well.
  """
  by_adamw = getattr(settings, 'optimizer', recipes.SGD) == recipes.ADAMW
  values = 1 + (2 if by_adamw else 1) + bool(getattr(settings, 'ema', 0))
  return {
    'checkpoints': _CHECKPOINTS * values * weights,
    'models': _MODELS * weights,
  }


def of_copy(weights: int) -> dict[str, int]:
  """Returns the bytes of the copy of a model that is given."""
  return {'models': weights}


def of_export(weights: int) -> dict[str, int]:
  """Returns the bytes that the export of a network takes."""
  return {'exports': _EXPORT * weights}


def total(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
  """Returns the sum of some estimates, of runs that come one after another."""
  names = {name: None for part in parts for name in part}
  added = {name: sum(part.get(name, 0) for part in parts) for name in names}
  # The one that is being written.
  most = max(part.get('checkpoints', 0) for part in parts)
  return added | {'checkpoints': added['checkpoints'] + most // _CHECKPOINTS}


def check(needed: Mapping[str, Mapping[str, int]]) -> None:
  """Raises `UsageError` if the folders' disks have less space than that."""
  storage.check_free(needed, 'give a --workdir on a larger disk')
