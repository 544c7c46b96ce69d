"""The fields of a recipe: help text, bounds, and the check of a value."""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from ft_tf import errors, sizes

# The values that a type of field accepts; NumPy scalars are numbers too.
_ACCEPTED: dict[object, type | tuple[type, ...]] = {
  int: numbers.Integral,
  float: numbers.Real,
  bool: bool,
  str: str,
  float | str: (numbers.Real, str),
  sizes.Size: (numbers.Integral, str),
}


def field(
  help_text: str,
  *,
  least: float | None = None,
  above: float | None = None,
  most: float | None = None,
  choices: tuple[Any, ...] | None = None,
  words: tuple[str, ...] = (),
  stored: bool = False,
  shared: bool = False,
  recent: bool = False,
  **default: Any,
) -> Any:
  """Returns a dataclass field with its help text and bounds as metadata.

  Args:
    help_text: One line for `--help`.
    least: Smallest value.
    above: Every value must be larger than this one.
    most: Largest value.
    choices: The only values; None: any within the bounds.
    words: Texts that a field of type `float | str` accepts.
    stored: Whether the field tells how images are read from their files.
    shared: Whether all students of a comparison have the same value.
    recent: Whether runs of earlier versions do not record the field: runs
      record it only where it has another value than its default.
    **default: `default=...`, as in `dataclasses.field`.
  """
  return dataclasses.field(
    **default,
    metadata={
      'help': help_text,
      'least': least,
      'above': above,
      'most': most,
      'choices': choices,
      'words': words,
      'stored': stored,
      'shared': shared,
      'recent': recent,
    },
  )


def read(spec: dataclasses.Field, flag: str, value: Any) -> Any:
  """Returns a given value in the form that recipes have it.

  Args:
    spec: A field made by `field`.
    flag: The flag that a message names.
    value: The value, of which that of a size has several forms.

  Raises:
    UsageError: it is not a size, where the field is one.
  """
  if spec.type != sizes.Size:
    return value
  try:
    return sizes.read(value)
  except ValueError as error:
    raise errors.UsageError(
      f'--{flag}={value}: {spec.metadata["help"]}; give {sizes.FORMS}'
    ) from error


def check(spec: dataclasses.Field, flag: str, value: Any) -> None:
  """Raises `UsageError` if a value is out of bounds.

  Args:
    spec: A field made by `field`.
    flag: The flag that the message names.
    value: The value, or a tuple whose elements are checked one by one.
  """
  kind: Any = spec.type
  for element in value if isinstance(value, tuple) else (value,):
    # The type of the elements of a tuple: int of tuple[int, ...].
    accepted = _ACCEPTED.get(kind) or _ACCEPTED[kind.__args__[0]]
    if not isinstance(element, accepted):
      raise errors.UsageError(
        f'--{flag}={element!r}: {spec.metadata["help"]}; it is not of the type '
        f'{getattr(kind, "__name__", kind)}'
      )
    expected = _expected(spec.metadata, element)
    if expected:
      raise errors.UsageError(
        f'--{flag}={element}: {spec.metadata["help"]}; give {expected}'
      )


def _expected(metadata: Mapping[str, Any], value: Any) -> str:
  """Returns what the value should have been; '' if it is in bounds."""
  if metadata['choices'] is not None and value not in metadata['choices']:
    return 'one of ' + ', '.join(map(str, metadata['choices']))
  if isinstance(value, str):
    if metadata['words'] and value not in metadata['words']:
      return f'a number, or {" or ".join(metadata["words"])}'
    return ''
  if isinstance(value, float) and not abs(value) < float('inf'):
    return 'a finite number'
  if metadata['least'] is not None and value < metadata['least']:
    return f'{metadata["least"]} or more'
  if metadata['above'] is not None and not value > metadata['above']:
    return f'a value above {metadata["above"]}'
  if metadata['most'] is not None and value > metadata['most']:
    return f'{metadata["most"]} or less'
  return ''
