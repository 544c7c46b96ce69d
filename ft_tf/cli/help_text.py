"""The help of a command: its manual, then its flags by group, wrapped."""

import re
import shutil
import textwrap
from typing import Any

from absl import flags

from ft_tf import catalogue, recipe_flags
from ft_tf.cli import flag_sets

_LEAST_WIDTH, _MOST_WIDTH = 60, 100
_NAMES = 28  # columns for the names of flags
_INDENT = 2
# By the types that absl gives flags.
_PLACEHOLDERS = {
  'comma separated list of strings': 'A,B',
  'float': 'X',
  'int': 'N',
  'string enum': 'CHOICE',
}


def render(
  values: flags.FlagValues,
  manual: str,
  *,
  recipe: str = '',
  full: bool = False,
  width: int = 0,
) -> str:
  """Returns a command's help.

  Args:
    values: The command's flags, each in one of `flag_sets.GROUPS`.
    manual: The docstring of the command's module.
    recipe: The name of the recipe whose defaults are shown; '': the default's.
    full: Whether the defaults of all recipes are shown.
    width: Columns; 0: those of the terminal, from 60 to 100.

  Raises:
    UsageError: there is no such recipe.
  """
  columns = width or min(
    max(shutil.get_terminal_size().columns, _LEAST_WIDTH), _MOST_WIDTH
  )
  blocks = [_wrap_manual(manual.strip(), columns)]
  by_group = values.flags_by_module_dict()
  for group in flag_sets.GROUPS:
    lines = [
      line
      for flag in by_group.get(group, [])
      for line in _flag_lines(
        flag,
        _describe(flag, group, recipe or catalogue.DEFAULT, full),
        columns,
      )
    ]
    if lines:
      blocks.append('\n'.join([f'{group.capitalize()}:', *lines]))
  if 'recipe' in values:
    blocks.append(
      _wrap(
        f'Defaults in brackets are those of the recipe '
        f'{recipe or catalogue.DEFAULT}; --recipe=NAME --help shows those of '
        'another, --helpfull those of all.',
        columns,
      )
    )
  return '\n\n'.join(blocks)


def recipe_rows() -> list[dict[str, Any]]:
  """Returns what tells the recipes apart, by name."""
  return [
    {
      'recipe': name,
      'dataset': recipe.data.dataset,
      'teacher': recipe.teacher.model,
      'student': recipe.student.model,
      'epochs': {
        stage: getattr(recipe, stage).epochs
        for stage in ('teacher', 'paraphraser', 'student')
      },
      'description': catalogue.describe(name),
    }
    for name, recipe in (
      (name, catalogue.get(name)) for name in sorted(catalogue.RECIPES)
    )
  ]


def _wrap(text: str, columns: int) -> str:
  return textwrap.fill(text, columns, break_on_hyphens=False)


def _wrap_manual(manual: str, columns: int) -> str:
  """Wraps the paragraphs of a manual; indented ones, commands, stay."""
  return '\n\n'.join(
    block if block.startswith(' ') else _wrap(' '.join(block.split()), columns)
    for block in re.split(r'\n\n', manual)
  )


def _flag_lines(flag: flags.Flag, text: str, columns: int) -> list[str]:
  """Returns a flag's name beside its help, or above it if it is long."""
  name = f'{" " * _INDENT}--{_name(flag)}'
  body = textwrap.wrap(text, columns - _NAMES, break_on_hyphens=False)
  if len(name) <= _NAMES - 2:
    return [
      f'{name:<{_NAMES}}{body[0]}',
      *(f'{"":<{_NAMES}}{line}' for line in body[1:]),
    ]
  return [name, *(f'{"":<{_NAMES}}{line}' for line in body)]


def _name(flag: flags.Flag) -> str:
  if flag.boolean:
    return f'[no]{flag.name}'
  return f'{flag.name}={_PLACEHOLDERS.get(flag.flag_type(), "TEXT")}'


def _describe(flag: flags.Flag, group: str, recipe: str, full: bool) -> str:
  """Returns a flag's help with its default, or that it is required."""
  # absl notes behind the text that a flag may be repeated.
  text = flag.help.splitlines()[0].removesuffix(';')
  leaf = next((x for x in recipe_flags.leaves() if x.flag == flag.name), None)
  if flag.default is None and leaf is not None:
    default = _text(leaf.value(catalogue.get(recipe)))
    others = {
      name: _text(leaf.value(catalogue.get(name)))
      for name in sorted(catalogue.RECIPES)
      if full
    }
    by_recipe = [f'{k} {v}' for k, v in others.items() if v != default]
    return f'{text} [{"; ".join([default, *by_recipe])}]'
  if '(default: ' in text:
    return text
  if group == flag_sets.REQUIRED and flag.default is None:
    return f'{text} (required)'
  return f'{text} [{_text(flag.default)}]'


def _text(value: Any) -> str:
  """Returns a value as one would give it to a flag."""
  if isinstance(value, (tuple, list)):
    value = ','.join(map(str, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  return 'none' if value in (None, '') else str(value)
