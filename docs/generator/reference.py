"""The reference pages that are made from the sources: flags, recipes, methods.

Every function returns Markdown. Importing this imports TensorFlow.
"""

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import keras

import ft_tf  # noqa: F401  Before TensorFlow: it sets how that computes.
from ft_tf import catalogue, definitions, recipe_flags, recipes, sizes
from ft_tf.methods import base
from ft_tf.models import applications, layer_choice, layers, zoo
from ft_tf.report import tables

_TYPES = {
  int: 'integer',
  float: 'number',
  bool: 'on or off',
  str: 'text',
  float | str: 'number or text',
  sizes.Size: 'integer, or height x width',
}
_GROUPS = {
  'data': 'Data and augmentation',
  'teacher': 'Teacher',
  'paraphraser': 'Paraphraser',
  'student': 'Student',
  'qat': 'Quantisation',
  '': 'The run as a whole',
}
# Networks of the table, for images of 32x32 and 10 classes, or of 224x224 and
# 1,000 classes.
_SMALL_NETWORKS = (
  'resnet8x0.5',
  'resnet8',
  'resnet20',
  'resnet32x4',
  'resnet56',
  'resnet56-parameter-free',
  'resnet110',
  'wrn-16-1',
  'wrn-16-2',
  'wrn-40-1',
  'wrn-40-2',
  'vgg13',
)
_LARGE_NETWORKS = (
  'resnet18',
  'resnet34',
  'mobilenetv2x0.35',
  'mobilenetv2',
  'mobilenetv3small',
  'mobilenetv3large',
  'efficientnetb0',
  'efficientnetv2b0',
)


def flags() -> str:
  """Returns the flags of a recipe's numbers, by the part they belong to."""
  lines = []
  owners = _owners()
  for group, title in _GROUPS.items():
    leaves = [leaf for leaf in recipe_flags.leaves() if leaf.group == group]
    own = [leaf for leaf in leaves if leaf.field.name not in owners]
    lines += [f'## {title}', '']
    for leaf in own:
      lines += [_flag(leaf), '']
    for method in dict.fromkeys(owners.values()) if group == 'student' else ():
      lines += [f'## Numbers of the method `{method}` {{ #{method} }}', '']
      for leaf in leaves:
        if owners.get(leaf.field.name) == method:
          lines += [_flag(leaf), '']
  return '\n'.join(lines)


def list_recipes() -> str:
  """Returns each recipe with its source and its numbers."""
  lines = [
    '| recipe | data set | teacher | student | epochs |',
    '|---|---|---|---|---|',
  ]
  for name, recipe in _recipes().items():
    row = (
      f'[`{name}`](#{name})',
      recipe.data.dataset or 'yours',
      recipe.teacher.model or 'yours',
      recipe.student.model,
      _epochs(recipe),
    )
    lines.append(f'| {" | ".join(row)} |')
  for name, recipe in _recipes().items():
    lines += ['', f'## `{name}` {{ #{name} }}', '', _recipe_text(name), '']
    values = [
      f'[`--{leaf.flag}`](flags.md#{leaf.flag}) {_value(leaf.value(recipe))}'
      for leaf in recipe_flags.leaves()
      if leaf.value(recipe) != leaf.field.default
    ]
    lines.append(f'Numbers: {", ".join(values)}.')
  return '\n'.join(lines)


def networks() -> str:
  """Returns the built-in networks with their sizes and feature maps."""
  lines = []
  for title, names, size, classes in (
    ('32x32 pixels, 10 classes', _SMALL_NETWORKS, 32, 10),
    ('224x224 pixels, 1,000 classes', _LARGE_NETWORKS, 224, 1000),
  ):
    rows = []
    for name in names:
      rows.append(_network(name, size, classes))
      keras.backend.clear_session()
    header = ['network', 'parameters', 'last map', 'the map before']
    lines += [f'### {title}', '', tables.to_markdown(header, rows), '']
  lower = {name.lower() for name in dir(keras.applications)}
  names = ', '.join(
    f'`{name}`' for name in sorted(filter(applications.is_name, lower))
  )
  lines += ['## Networks of `keras.applications`', '', names, '']
  return '\n'.join(lines)


def methods() -> str:
  """Returns each registered method with its docstring and its numbers."""
  lines = []
  by_module: dict[str, list[str]] = {}
  for name, definition in definitions.registered().items():
    by_module.setdefault(_module(definition.make), []).append(name)
  for module_name, names in by_module.items():
    module = sys.modules[module_name]
    title = (module.__doc__ or '').strip().splitlines()[0].rstrip('.')
    lines += [f'## {title.rpartition(":")[0] or title}', '']
    for name in names:
      about = definitions.registered()[name].about
      lines.append(f'- `{name}`: {about}.')
    lines.append('')
    for _, value in inspect.getmembers(module, inspect.isclass):
      if issubclass(value, base.Method) and value.__module__ == module_name:
        lines += [_summary(value), '']
    numbers = {
      field.name: None
      for name in names
      for field in definitions.registered()[name].number_fields()
    }
    if numbers:
      links = ', '.join(f'[`--{each}`](flags.md#{each})' for each in numbers)
      lines += [f'Numbers: {links}.', '']
    lines += [f'Source: `{module_name.replace(".", "/")}.py`.', '']
  return '\n'.join(lines)


def variants() -> str:
  """Returns factor transfer as other code bases have it, as flags."""
  lines = []
  for name, values in catalogue.VARIANTS.items():
    flags_text = ' '.join(
      f'`--{flag}`' if value is True else f'`--{flag}={value}`'
      for flag, value in values.items()
    )
    lines.append(f'| `{name}` | {flags_text} |')
  return '\n'.join(['| name | equals |', '|---|---|', *lines])


def _owners() -> dict[str, str]:
  """Returns the method whose file defines a number, by the number's name."""
  owners: dict[str, str] = {}
  known = definitions.registered()
  # Variants inherit the numbers of the method that they are a variant of.
  for name in sorted(known, key=lambda name: bool(known[name].variant_of)):
    for field in known[name].number_fields():
      owners.setdefault(field.name, name)
  return owners


def _flag(leaf: recipe_flags.Leaf) -> str:
  lines = [f'### `--{leaf.flag}` {{ #{leaf.flag} }}', '']
  # Names in angle brackets would be tags.
  text = leaf.field.metadata['help'].replace('<', '&lt;')
  lines += [f'{text[0].upper()}{text[1:]}.', '']
  lines += [f'*{_kind(leaf)}.* {_defaults(leaf)}.', '']
  source = _comment(leaf)
  if source:
    lines += [f'Source: {source}', '']
  return '\n'.join(lines)


def _kind(leaf: recipe_flags.Leaf) -> str:
  metadata = leaf.field.metadata
  kind = leaf.field.type
  several = kind not in _TYPES
  text = _TYPES[kind.__args__[0] if several else kind]
  parts = [f'{text}s separated by commas' if several else text]
  parts[0] = parts[0][0].upper() + parts[0][1:]
  if metadata['choices'] is not None:
    parts.append('one of ' + ', '.join(map(str, metadata['choices'])))
  if metadata['words']:
    parts.append('or ' + ' or '.join(metadata['words']))
  for bound, words in (
    ('least', '{} or more'),
    ('above', 'above {}'),
    ('most', '{} or less'),
  ):
    if metadata[bound] is not None:
      parts.append(words.format(metadata[bound]))
  return ', '.join(parts)


def _defaults(leaf: recipe_flags.Leaf) -> str:
  """Returns the default of `pictures`, and of the recipes that differ."""
  by_value: dict[str, list[str]] = {}
  for name, recipe in _recipes().items():
    by_value.setdefault(_value(leaf.value(recipe)), []).append(name)
  if len(by_value) == 1:
    return f'Default: {next(iter(by_value))}'
  # A value of more than half of the recipes is that of all the others.
  most = max(by_value, key=lambda value: len(by_value[value]))
  parts = [f'{value} in {_names(names)}' for value, names in by_value.items()]
  if 2 * len(by_value[most]) > len(_recipes()):
    del by_value[most]
    parts = [most] + [
      f'{value} in {_names(names)}' for value, names in by_value.items()
    ]
  return f'Default: {"; ".join(parts)}'


def _names(names: list[str]) -> str:
  """Returns names of recipes, `_short` ones only where they differ."""
  short = [name for name in _recipes() if name.endswith('_short')]
  if set(short) <= set(names):
    names = [name for name in names if name not in short]
    rest = ['every recipe that ends in `_short`']
  else:
    names = [
      name
      for name in names
      if name.removesuffix('_short') == name
      or name.removesuffix('_short') not in names
    ]
    rest = []
  return ', '.join([f'[`{name}`](recipes.md#{name})' for name in names] + rest)


def _value(value: Any) -> str:
  if isinstance(value, tuple):
    value = ','.join(f'{each:.6g}' for each in value)
  if isinstance(value, bool):
    return 'on' if value else 'off'
  return f'`{value}`' if str(value) else 'none'


def _comment(leaf: recipe_flags.Leaf) -> str:
  """Returns the comment above a field in the source: where it comes from."""
  owner = _field_class(leaf)
  if owner is None:
    return ''
  source, _ = inspect.getsourcelines(owner)
  tree = ast.parse(textwrap.dedent(''.join(source)))
  for node in ast.walk(tree):
    if (
      isinstance(node, ast.AnnAssign)
      and ast.unparse(node.target) == leaf.field.name
    ):
      comments: list[str] = []
      above = node.lineno - 2
      while above >= 0 and source[above].strip().startswith('#'):
        comments.insert(0, source[above].strip().lstrip('# '))
        above -= 1
      return ' '.join(comments)
  return ''


def _field_class(leaf: recipe_flags.Leaf) -> type | None:
  """Returns the class whose source defines a number of a method."""
  for definition in definitions.registered().values():
    if definition.numbers and definition.reads(leaf.field.name):
      for owner in definition.numbers.__mro__:
        if leaf.field.name in vars(owner).get('__annotations__', {}):
          return owner
  return None


@functools.cache
def _recipes() -> dict[str, recipes.Recipe]:
  """Returns the recipes by name, the default first, short ones last."""
  names = sorted(
    catalogue.RECIPES,
    key=lambda name: (
      name != catalogue.DEFAULT,
      name != 'digits',
      name.endswith('_short'),
    ),
  )
  return {name: catalogue.get(name) for name in names}


def _recipe_text(name: str) -> str:
  """Returns what a recipe's docstring says of its source."""
  if name.endswith('_short'):
    long = name.removesuffix('_short')
    text = inspect.cleandoc(catalogue.short.__doc__ or '')
    text = text.partition('\n\n')[2]
    return f'[`{long}`](#{long}) for small machines. {text}'
  return inspect.cleandoc(catalogue.RECIPES[name].__doc__ or '')


def _epochs(recipe: recipes.Recipe) -> str:
  parts = (recipe.teacher, recipe.paraphraser, recipe.student)
  return ', '.join(str(part.epochs) for part in parts)


def _network(name: str, size: int, classes: int) -> list[str]:
  spec = layers.Spec((size, size, 3), classes, (0.5,) * 3, (0.5,) * 3)
  model = zoo.build(name, spec)
  weights = sum(keras.ops.size(v) for v in model.trainable_variables)
  maps = {
    call: each
    for each in layer_choice.candidates(model)
    for call in each.called
  }
  shapes = [
    'x'.join(map(str, maps[call].shape)) if call in maps else '-'
    for call in ('-1', '-2')
  ]
  return [name, f'{int(weights):,}', *shapes]


def _module(make: Callable[..., Any]) -> str:
  while isinstance(make, functools.partial):
    make = make.func
  return make.__module__


def _summary(method: type[base.Method]) -> str:
  """Returns a class's docstring without its list of attributes."""
  text = inspect.cleandoc(method.__doc__ or '').partition('\n\nAttributes:')[0]
  first, _, rest = text.partition('\n')
  return f'**{first}**\n{rest}'
