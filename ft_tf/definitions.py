"""The distillation methods by name, each as its own file defines it.

Every module of `methods/` registers its methods when it is imported, and
`registered` imports them all. A method that stands elsewhere is added by the
same call, before the first recipe is made:

    @dataclasses.dataclass(frozen=True)
    class Numbers:
      cosine_weight: float = fields.field(
        'weight of the cosine loss', least=0, default=1.0
      )

    definitions.register(
      definitions.Definition(name='cosine', numbers=Numbers, make=make)
    )

It then has the flag `--cosine_weight`, and is a term for `--method=ft+cosine`.
"""

import dataclasses
import functools
import importlib
import pkgutil
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_definitions: dict[str, 'Definition'] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
  """A distillation method.

  Attributes:
    name: The name for `--method`.
    make: `make(numbers, recipe, parts)` returns the method's loss terms, each a
      `methods.base.Method`, from an instance of `numbers`, a `recipes.Recipe`
      and the `methods.registry.Parts`. It raises `UsageError` if the parts do
      not fit each other.
    numbers: A frozen dataclass with a default for every field, made by
      `fields.field`. Its fields become fields of the recipe's student, and
      flags. Two classes share a field if they inherit it from one class.
    needs_paraphraser: Whether `make` takes trained paraphrasers.
    variant_of: The method that this one is a variant of. A sum of terms
      contains at most one of a method and its variants.
    recipe_fields: The fields of `recipes.Recipe` itself that only this method,
      or others that name them here, read.
    about: What the student learns, and the source, in one sentence; a
      comparison's page shows it.
  """

  name: str
  make: Callable[[Any, Any, Any], Sequence[Any]]
  numbers: type | None = None
  needs_paraphraser: bool = False
  variant_of: str = ''
  recipe_fields: tuple[str, ...] = ()
  about: str = ''

  def number_fields(self) -> tuple[dataclasses.Field, ...]:
    """Returns the fields of the method's numbers."""
    return dataclasses.fields(self.numbers) if self.numbers else ()

  def number_types(self) -> dict[str, Any]:
    """Returns the types of the numbers by name, also if they are quoted."""
    return typing.get_type_hints(self.numbers) if self.numbers else {}

  def reads(self, field: str) -> bool:
    """Tells whether a field of a recipe's own or of its student is read."""
    return field in self.recipe_fields or any(
      field == number.name for number in self.number_fields()
    )

  def select_numbers(self, student: Any) -> Any:
    """Returns the method's numbers from those of a recipe's student."""
    if self.numbers is None:
      return None
    names = [field.name for field in self.number_fields()]
    return self.numbers(**{name: getattr(student, name) for name in names})


def register(definition: Definition) -> None:
  """Adds a method.

  Raises:
    ValueError: the name is no identifier or is taken, or a field of the numbers
      has no default or was not made by `fields.field`.
  """
  name = definition.name
  if not name.isidentifier():
    raise ValueError(
      f'the method name {name!r} must consist of letters, digits and _: it is '
      'part of folder names and of sums such as ft+kd'
    )
  if name in _definitions:
    raise ValueError(
      f'a method {name!r} is registered already: choose another name, or call '
      f'unregister({name!r}) first'
    )
  for field in definition.number_fields():
    if 'help' not in field.metadata or field.default is dataclasses.MISSING:
      raise ValueError(
        f'{name}: the number {field.name} needs a help text and a default: '
        "make it with fields.field('help', default=...)"
      )
  _definitions[name] = definition


def unregister(name: str) -> None:
  """Removes a method; raises `KeyError` if there is none of that name."""
  del _definitions[name]


def registered() -> Mapping[str, Definition]:
  """Returns all methods by name, sorted, the order of imports aside."""
  _import_methods()
  return dict(sorted(_definitions.items()))


@functools.cache
def _import_methods() -> None:
  """Imports every module of `ft_tf.methods`.

  By name and not before it is needed, since these modules import TensorFlow and
  the modules above them, this one included.
  """
  package = importlib.import_module('ft_tf.methods')
  for module in pkgutil.iter_modules(package.__path__, 'ft_tf.methods.'):
    importlib.import_module(module.name)
