"""Checks of what a call in Python is given, where a flag has a type."""

import sys
from collections.abc import Collection
from typing import Any

import numpy as np

from ft_tf import errors


def check_choice(name: str, value: Any, known: Collection[str]) -> None:
  """Raises `UsageError` if an argument is none of some names."""
  if not (isinstance(value, str) and value in known):
    raise errors.UsageError(
      f'{name}={errors.show(value)}: give one of {", ".join(known)}'
    )


def check_count(name: str, value: Any, most: int) -> None:
  """Raises `UsageError` if an argument is no integer from 1 to `most`."""
  if not (_is(value, int, np.integer) and 1 <= value <= most):
    raise errors.UsageError(
      f'{name}={errors.show(value)}: give an integer of 1 or more, at most '
      f'{most}'
    )


def check_switch(name: str, value: Any) -> None:
  """Raises `UsageError` if an argument is neither True nor False."""
  if not isinstance(value, (bool, np.bool_)):
    raise errors.UsageError(f'{name}={errors.show(value)}: give True or False')


def check_number(name: str, value: Any) -> None:
  """Raises `UsageError` if an argument is no finite number."""
  if not (
    _is(value, int, float, np.integer, np.floating)
    and abs(value) <= sys.float_info.max
  ):
    raise errors.UsageError(f'{name}={errors.show(value)}: give a number')


def read_names(name: str, value: Any) -> tuple[str, ...]:
  """Returns a list of names as a tuple.

  Raises:
    UsageError: it is something else, such as one name.
  """
  if not (
    isinstance(value, (list, tuple, set, frozenset))
    and all(isinstance(each, str) for each in value)
  ):
    raise errors.UsageError(
      f'{name}={errors.show(value)}: give a list of names'
    )
  return tuple(value)


def _is(value: Any, *types: type) -> bool:
  """Tells whether a value is of a type; True and False are no numbers."""
  return isinstance(value, types) and not isinstance(value, bool)
