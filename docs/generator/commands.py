"""The reference page of the commands: manuals and flags, from the sources."""

import importlib
import re

from absl import flags

from ft_tf import recipe_flags
from ft_tf.cli import dispatch

_PARTS = {
  'data': '[data](flags.md#data-and-augmentation)',
  'teacher': '[teacher](flags.md#teacher)',
  'paraphraser': '[paraphraser](flags.md#paraphraser)',
  'student': '[student](flags.md#student)',
}


def commands() -> str:
  """Returns the manual of each command, and its flags as Markdown."""
  lines = []
  for name, module_name in dispatch.COMMANDS.items():
    module = importlib.import_module(f'ft_tf.cli.{module_name}')
    summary, _, manual = (module.__doc__ or '').strip().partition('\n')
    lines += [f'## `ft-tf {name}` {{ #{name} }}', '', summary, '']
    lines += [_as_markdown(manual.strip('\n')), '']
    lines += [_flags(name), '']
  return '\n'.join(lines)


def flag_values(command: str) -> flags.FlagValues:
  """Returns the flags of a command, not parsed."""
  values = flags.FlagValues()
  module = importlib.import_module(f'ft_tf.cli.{dispatch.COMMANDS[command]}')
  module.define_flags(values)
  return values


def _as_markdown(manual: str) -> str:
  """Returns a manual whose indented paragraphs, commands, are code blocks."""
  return '\n\n'.join(
    f'```sh\n{re.sub("^  ", "", block, flags=re.M)}\n```'
    if block.startswith('  ')
    else block
    for block in manual.split('\n\n')
  )


def _flags(command: str) -> str:
  values = flag_values(command)
  leaves = {leaf.flag: leaf for leaf in recipe_flags.leaves()}
  rows, parts = [], []
  for flag in [
    flag for group in values.flags_by_module_dict().values() for flag in group
  ]:
    leaf = leaves.get(flag.name)
    if leaf is not None and flag.default is None and 'recipe' in values:
      parts.append(leaf.group)
      continue
    text = _described(flag)
    rows.append(f'| `--{flag.name}` | {text} |')
  lines = ['| flag | meaning |', '|---|---|', *rows]
  named = [link for part, link in _PARTS.items() if part in parts]
  if named:
    lines += ['', f'And the numbers of a recipe: {", ".join(named)}.']
  return '\n'.join(lines)


def _described(flag: flags.Flag) -> str:
  """Returns a flag's help with its default."""
  # absl notes behind the text that a flag may be repeated.
  text = flag.help.splitlines()[0].removesuffix(';')
  if '(default: ' not in text and flag.default not in (None, '', []):
    text += f' (default: {_value(flag.default)})'
  # Names in angle brackets would be tags, and a bar ends a cell.
  return text.replace('<', '&lt;').replace('|', '\\|')


def _value(value: object) -> str:
  if isinstance(value, bool):
    return 'on' if value else 'off'
  if isinstance(value, (list, tuple)):
    return ','.join(map(str, value))
  return str(value)
