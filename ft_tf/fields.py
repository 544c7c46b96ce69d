"""The fields of a recipe: help text, bounds, and the check of a value."""

import dataclasses
import sys
import typing
from collections.abc import Mapping
from typing import Any

from ft_tf import errors, sizes

# The values that a type of field accepts. A bool is an int for Python, and no
# number of a recipe; fractions could not be written to its file.
_ACCEPTED: dict[object, tuple[type, ...]] = {
  int: (int,),
  float: (int, float),
  bool: (bool,),
  str: (str,),
  float | str: (int, float, str),
  sizes.Size: (int, str),
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
    value: The value. NumPy's numbers become Python's; lists and arrays become
      tuples; the texts of a size become one.

  Raises:
    UsageError: it is not a size, where the field is one.
  """
  value = _plain(value)
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
    value: The value; the elements of a tuple are checked one by one.
  """
  kind: Any = spec.type
  # As of tuple[int, ...].
  several = typing.get_origin(kind) is tuple
  accepted = _ACCEPTED[typing.get_args(kind)[0] if several else kind]
  if isinstance(value, tuple) != several:
    raise errors.UsageError(
      f'--{flag}={errors.show(value)}: {spec.metadata["help"]}; give '
      f'{"several values, or one in a tuple" if several else "one value"}'
    )
  for element in value if several else (value,):
    if not isinstance(element, accepted) or (
      isinstance(element, bool) and bool not in accepted
    ):
      raise errors.UsageError(
        f'--{flag}={errors.show(element)}: {spec.metadata["help"]}; it is not '
        f'of the type {kind if several else getattr(kind, "__name__", kind)}'
      )
    expected = _expected(spec.metadata, element)
    if expected:
      raise errors.UsageError(
        f'--{flag}={element}: {spec.metadata["help"]}; give {expected}'
      )


def _plain(value: Any) -> Any:
  """Returns numbers and arrays of NumPy, and lists, as Python's and tuples."""
  if hasattr(value, 'tolist'):
    value = value.tolist()
  return (
    tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
  )


def _expected(metadata: Mapping[str, Any], value: Any) -> str:
  """Returns what the value should have been; '' if it is in bounds."""
  if metadata['choices'] is not None and value not in metadata['choices']:
    return 'one of ' + ', '.join(map(str, metadata['choices']))
  if isinstance(value, str):
    if metadata['words'] and value not in metadata['words']:
      return f'a number, or {" or ".join(metadata["words"])}'
    return ''
  # An int may be larger than any float.
  if not abs(value) <= sys.float_info.max:
    return 'a finite number'
  if metadata['least'] is not None and value < metadata['least']:
    return f'{metadata["least"]} or more'
  if metadata['above'] is not None and not value > metadata['above']:
    return f'a value above {metadata["above"]}'
  if metadata['most'] is not None and value > metadata['most']:
    return f'{metadata["most"]} or less'
  return ''
