"""The fields of a recipe by their flags: to list, replace and check them."""

import dataclasses
from typing import Any

from ft_tf import definitions, errors, fields, paths, recipes, student_recipe


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One field of a recipe, with its place and its flag.

  Attributes:
    group: 'data', 'teacher', 'paraphraser', 'student' or 'qat'; '' for a field
      of the recipe itself.
    field: As made by `fields.field`.
    flag: The flag's name, without dashes.
  """

  group: str
  field: dataclasses.Field
  flag: str

  @property
  def path(self) -> str:
    return f'{self.group}.{self.field.name}' if self.group else self.field.name

  def value(self, recipe: recipes.Recipe) -> Any:
    owner = getattr(recipe, self.group) if self.group else recipe
    return getattr(owner, self.field.name)

  def concerns(self, method: str) -> bool:
    """Tells whether the field can change what a method trains."""
    if self.group == 'paraphraser':
      return recipes.needs_paraphraser(method)
    readers = {
      name
      for name, definition in definitions.registered().items()
      if definition.reads(self.field.name)
    }
    return not readers or not readers.isdisjoint(recipes.terms(method))


def leaves() -> list[Leaf]:
  """Returns every field of a recipe, in order, with the name of its flag.

  A field that one group alone has is a plain flag (`--beta`); one that several
  have carries the group (`--student_epochs`); `model` is the group's own name
  (`--teacher`).
  """
  grouped = []
  for field in dataclasses.fields(recipes.Recipe):
    group_class = (
      student_recipe.made_class()
      if field.type is recipes.Student
      else field.type
    )
    if dataclasses.is_dataclass(group_class):
      grouped += [
        (field.name, each) for each in dataclasses.fields(group_class)
      ]
    else:
      grouped.append(('', field))
  names = [field.name for _, field in grouped]

  def flag(group, name):
    if name == 'model':
      return group
    return name if names.count(name) == 1 else f'{group}_{name}'

  return [
    Leaf(group, field, flag(group, field.name)) for group, field in grouped
  ]


def override(recipe: recipes.Recipe, values: dict[str, Any]) -> recipes.Recipe:
  """Returns the recipe with the values of some flags replaced, checked.

  Args:
    recipe: The recipe to start from.
    values: Flag name to value.

  Raises:
    UsageError: there is no such flag, or a value is out of its bounds.
  """
  groups: dict[str, dict[str, Any]] = {}
  unknown = values.keys() - {leaf.flag for leaf in leaves()}
  if unknown:
    raise errors.UsageError(
      f'a recipe has no {", ".join(sorted(unknown))}: see --help'
    )
  for leaf in leaves():
    if leaf.flag in values:
      value = fields.read(leaf.field, leaf.flag, values[leaf.flag])
      if isinstance(value, str):  # which may be a path
        value = paths.expand(value)
      groups.setdefault(leaf.group, {})[leaf.field.name] = value
  changed = groups.pop('', {})
  for group, changes in groups.items():
    changed[group] = dataclasses.replace(getattr(recipe, group), **changes)
  recipe = dataclasses.replace(recipe, **changed)
  check(recipe)
  return recipe


def check(recipe: recipes.Recipe) -> None:
  """Raises `UsageError` for the first value out of bounds, by its flag."""
  for leaf in leaves():
    fields.check(leaf.field, leaf.flag, leaf.value(recipe))
  recipes.terms(recipe.student.method)
  if recipe.qat.epochs and recipe.student.method in recipes.INCUMBENTS:
    raise errors.UsageError(
      f'--qat_epochs={recipe.qat.epochs}: --method={recipe.student.method} is '
      "Keras's own Distiller, which cannot train in int8; give another "
      '--method, or --qat_epochs=0'
    )
  if recipe.qat.epochs and recipe.student.method == recipes.LINEAR_HEAD:
    raise errors.UsageError(
      f'--qat_epochs={recipe.qat.epochs}: training in int8 moves all weights, '
      f'--method={recipes.LINEAR_HEAD} those of the last layer alone; give '
      '--qat_epochs=0, or another --method'
    )
  for flag, value, without in (
    ('class_weights', recipe.class_weights, recipes.NONE),
    ('label_smoothing', recipe.student.label_smoothing, 0),
  ):
    if value != without and recipe.student.method in recipes.INCUMBENTS:
      raise errors.UsageError(
        f"--{flag}={value}: --method={recipe.student.method} is Keras's own "
        'Distiller, with its own cross entropy; give another --method, or '
        f'--{flag}={without}'
      )
  for role in ('teacher', 'student'):
    settings = getattr(recipe, role)
    if settings.optimizer == recipes.ADAMW and settings.momentum >= 1:
      raise errors.UsageError(
        f'--{role}_momentum={settings.momentum}: it is beta_1 of '
        f'--{role}_optimizer=adamw; give less than 1'
      )
  mixed = recipe.data.mixup_alpha > 0 or recipe.data.cutmix_alpha > 0
  if mixed and recipe.student.method in recipes.INCUMBENTS:
    raise errors.UsageError(
      f'--mixup_alpha={recipe.data.mixup_alpha:g} and '
      f'--cutmix_alpha={recipe.data.cutmix_alpha:g}: '
      f"--method={recipe.student.method} is Keras's own Distiller, which takes "
      'one label for each image; give another --method, or 0 to both'
    )
  if recipe.data.resizing == 'crop' and recipe.data.pad:
    raise errors.UsageError(
      f'--pad={recipe.data.pad}: with --resizing=crop the crop is a part of '
      'the image, resized; give --pad=0'
    )
  if len(recipe.data.mean) != len(recipe.data.std):
    raise errors.UsageError(
      f'--mean has {len(recipe.data.mean)} channels and --std '
      f'{len(recipe.data.std)}; give one value per channel to both'
    )
