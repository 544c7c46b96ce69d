"""Which layers of a network start from a file, and which are fresh."""

import weakref
from collections.abc import Iterable

import keras

from ft_tf import errors

# The names of the fresh layers of each model that starts from a file.
_fresh_layers: weakref.WeakKeyDictionary[keras.Model, frozenset[str]] = (
  weakref.WeakKeyDictionary()
)


def note(model: keras.Model, fresh: Iterable[str] = ()) -> None:
  """Notes that a model starts from a file.

  Args:
    model: The model.
    fresh: The names of the layers that do not, such as a new head.
  """
  _fresh_layers[model] = frozenset(fresh)


def backbone(model: keras.Model) -> list[keras.Variable]:
  """Returns what training moves of a model that a file has set.

  That is all of it but for fresh layers; nothing of a network by name alone.
  """
  if model not in _fresh_layers:
    return []
  return [
    variable
    for layer in model.layers
    if layer.name not in _fresh_layers[model]
    for variable in layer.trainable_variables
  ]


def check_rate(model: keras.Model, rate: float, role: str) -> None:
  """Raises `UsageError` if a model has no layers that a rate is for.

  Args:
    model: The network, before it is trained.
    rate: The factor of the rate of its backbone; 1: one rate for all.
    role: What the network is, 'teacher' or 'student', whose flags the message
      names.
  """
  if rate != 1 and not backbone(model):
    raise errors.UsageError(
      f'--{role}_backbone_rate={rate:g} is for layers that start from a file, '
      f'and the {role} has none to train: give --{role}_weights, a .keras file '
      f'as --{role}, or --{role}_backbone_rate=1'
    )
