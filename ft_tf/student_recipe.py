"""The student's part of a recipe: `recipes.Student` with the methods' numbers.

Its class is made, since a method that stands outside of this library adds
fields to it by registering itself; see `definitions`.
"""

import dataclasses
import functools
from typing import Any

from ft_tf import definitions, fields, recipes


def make(**values: Any) -> recipes.Student:
  """Returns the student's part of a recipe.

  Args:
    **values: Values of the fields of `recipes.Student`, of `method`, and of the
      registered methods' numbers; the last two have defaults.
  """
  return made_class()(**values)


def made_class() -> type[recipes.Student]:
  """Returns the class of a recipe's student, with the methods' numbers."""
  return _make_class(tuple(definitions.registered().values()))


@functools.cache
def _make_class(
  methods: tuple[definitions.Definition, ...],
) -> type[recipes.Student]:
  """Returns `recipes.Student` with the fields of some methods."""
  names = ', '.join(method.name for method in methods)
  chosen = fields.field(
    f'distillation method: {recipes.SCRATCH} (none), {names}, a sum such as '
    f'ft+kd, {recipes.LINEAR_HEAD} (none; a pretrained student, of which the '
    'last layer alone is trained), or '
    f"{' or '.join(recipes.INCUMBENTS)} (Keras's own Distiller)",
    default='ft',
  )
  types = {
    name: kind
    for method in methods
    for name, kind in method.number_types().items()
  }
  numbers = [
    # A field belongs to one class, so that each class needs a copy.
    (
      field.name,
      types[field.name],
      dataclasses.field(default=field.default, metadata=field.metadata),
    )
    for field in _distinct_fields(methods)
  ]
  return dataclasses.make_dataclass(
    'Student',
    [('method', str, chosen), *numbers],
    bases=(recipes.Student,),
    namespace={'__reduce__': _reduce},
    frozen=True,
    kw_only=True,
  )


def _reduce(part: recipes.Student) -> tuple[Any, ...]:
  """How pickle makes it again: a made class has no name to be looked up by."""
  return functools.partial(make, **vars(part)), ()


def _distinct_fields(
  methods: tuple[definitions.Definition, ...],
) -> list[dataclasses.Field]:
  """Returns the fields of the methods' numbers, a shared one once.

  Raises:
    ValueError: the name of a method or of a field is taken.
  """
  groups = (
    recipes.Recipe,
    recipes.Data,
    recipes.Teacher,
    recipes.Paraphraser,
    recipes.Student,
    recipes.Quantisation,
  )
  taken = {f.name for group in groups for f in dataclasses.fields(group)}
  taken.add('method')
  distinct: dict[str, dataclasses.Field] = {}
  for method in methods:
    if method.name in (*recipes.WITHOUT_TEACHER, *recipes.INCUMBENTS):
      raise ValueError(f'{method.name} means another method: choose a new name')
    for field in method.number_fields():
      if (
        field.name in taken
        or distinct.setdefault(field.name, field) is not field
      ):
        raise ValueError(
          f'two fields of a recipe are named {field.name}, one of them of the '
          f'method {method.name}: rename the field of the new method'
        )
  return list(distinct.values())
