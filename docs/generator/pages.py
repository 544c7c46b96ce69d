"""Makes the Markdown pages of the site from docs/ and from the sources.

  python -m docs.generator.pages build/docs

Copies every page and picture of docs/ into the folder, and fills the lines

  <!-- generated: flags -->            what the function of that name returns
  <!-- messages: ft_tf/data/*.py -->   the error messages of some files
  <!-- include: CHANGELOG.md -->       a file of the root of the tree

so that none of this can be out of date.
"""

import os
import re
import shutil
import sys

from docs.generator import commands, messages, reference

_ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
_DIRECTIVE = re.compile(r'^<!-- (generated|messages|include): (.*) -->$', re.M)
_GENERATED = {
  'commands': commands.commands,
  'flags': reference.flags,
  'methods': reference.methods,
  'networks': reference.networks,
  'recipes': reference.list_recipes,
  'variants': reference.variants,
}
_COPIED = ('.md', '.svg', '.png', '.css')


def make(target: str) -> None:
  """Writes the pages into a folder, which is emptied before."""
  shutil.rmtree(target, ignore_errors=True)
  found = messages.collect(_ROOT)

  def fill(directive: re.Match) -> str:
    kind, argument = directive.groups()
    if kind == 'generated':
      return _GENERATED[argument]()
    if kind == 'include':
      return _included(argument)
    return _list(messages.matching(found, argument.split()))

  docs = os.path.join(_ROOT, 'docs')
  for folder, _, names in os.walk(docs):
    for name in names:
      if not name.endswith(_COPIED):
        continue
      source = os.path.join(folder, name)
      copy = os.path.join(target, os.path.relpath(source, docs))
      os.makedirs(os.path.dirname(copy), exist_ok=True)
      if not name.endswith('.md'):
        shutil.copy(source, copy)
        continue
      with open(source, encoding='utf-8') as file:
        text = _DIRECTIVE.sub(fill, file.read())
      with open(copy, 'w', encoding='utf-8') as file:
        file.write(text)


def _included(path: str) -> str:
  """Returns a file of the root, its links as pages of docs/ have them."""
  with open(os.path.join(_ROOT, path), encoding='utf-8') as file:
    return file.read().replace('](docs/', '](')


def _list(found: list[messages.Message]) -> str:
  """Returns messages as a list; the more severe kind is marked."""
  lines = []
  for text, kind in dict.fromkeys((each.text, each.kind) for each in found):
    shown = text.replace('`', '').replace('\n', ' ')
    lines.append(f'- `{shown}`{" (exit code 1)" * (kind == 1)}')
  return '\n'.join(lines)


if __name__ == '__main__':
  make(sys.argv[1])
