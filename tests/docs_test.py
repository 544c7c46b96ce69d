"""Holds README, docs/ and examples/ to what they promise.

Their code runs, their flags exist, and every error message is explained.
"""

import fnmatch
import functools
import glob
import json
import os
import re

from absl import flags
from absl.testing import absltest, parameterized

import ft_tf
from docs.generator import commands, messages, reference
from ft_tf import catalogue, definitions, recipe_flags
from ft_tf.cli import dispatch, settings
from tests import code_blocks

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_README_LINES = 170
# Blocks that are not run; whoever adds one raises the number, with a reason in
# the page.
_NOT_RUN = 66
_FLAG = re.compile(r'--([a-z]\w*)')
# Those of every command, and --name=value, which stands for any.
_OTHER_FLAGS = {'help', 'helpfull', 'json', 'name', 'noname', 'version'}


def _pages() -> list[str]:
  found = glob.glob('docs/**/*.md', root_dir=_ROOT, recursive=True)
  return sorted(['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', *found])


def _notebooks() -> list[str]:
  return sorted(glob.glob('*.ipynb', root_dir=os.path.join(_ROOT, 'examples')))


def _read(path: str) -> str:
  with open(os.path.join(_ROOT, path), encoding='utf-8') as file:
    return file.read()


def _blocks(path: str) -> list[code_blocks.Block]:
  return code_blocks.read(os.path.join(_ROOT, path))


def _named(pages: list[str]) -> list[tuple[str, str]]:
  """Returns the pages with names that tests can have."""
  return [(re.sub(r'\W', '_', page), page) for page in pages]


@functools.cache
def _flags() -> frozenset[str]:
  """Returns the flags of all commands, the negative forms included."""
  names = set(_OTHER_FLAGS)
  for command in dispatch.COMMANDS:
    values = commands.flag_values(command)
    names |= set(values)
    names |= {f'no{name}' for name in values if values[name].boolean}
  return frozenset(names)


def _check_command(words: list[str]) -> None:
  """Raises if `ft-tf ...` has a flag, or a value, that is refused."""
  _, command, *arguments = words
  if command.startswith('-') or set(arguments) & {'--help', '--helpfull'}:
    return
  # The files of a recipe are not there.
  arguments = [x for x in arguments if '.keras' not in x and '.json' not in x]
  values = commands.flag_values(command)
  flags.DEFINE_bool('json', False, '', flag_values=values)
  values(['', *arguments])
  if 'recipe' in values:
    settings.read_recipe(values)


class PagesTest(parameterized.TestCase):
  def test_readme_is_short_and_has_the_two_commands(self):
    readme = _read('README.md')
    self.assertLessEqual(len(readme.splitlines()), _README_LINES)
    self.assertIn('bin/quickstart', readme)
    self.assertIn('bin/test', readme)

  def test_citation_has_the_version(self):
    self.assertIn(f'\nversion: {ft_tf.__version__}\n', _read('CITATION.cff'))

  @parameterized.named_parameters(_named(_pages()))
  def test_every_flag_exists(self, page):
    text = _read(page)
    for block in _blocks(page):
      if block.language in code_blocks.SHELL:
        # Their flags belong to other programs, or are checked below.
        text = text.replace(block.code, '')
    text = re.sub(r'^ *```(\w*)\n.*?^ *```$', '', text, flags=re.M | re.S)
    named = set(_FLAG.findall(' '.join(re.findall(r'`[^`]+`', text))))
    self.assertEmpty(named - _flags())

  @parameterized.named_parameters(_named(_pages()))
  def test_every_command_parses(self, page):
    for block in _blocks(page):
      if block.language in code_blocks.SHELL:
        for words in code_blocks.commands(block.code):
          if words[0] == 'ft-tf':
            with self.subTest(f'{page}:{block.line}'):
              _check_command(words)

  @parameterized.named_parameters(_named(_pages()))
  def test_every_python_block_compiles(self, page):
    for block in _blocks(page):
      if block.language in code_blocks.PYTHON:
        compile(block.code, f'{page}:{block.line}', 'exec')

  def test_notebooks_have_no_outputs(self):
    for name in _notebooks():
      for cell in json.loads(_read(f'examples/{name}'))['cells']:
        self.assertFalse(cell.get('outputs'), name)

  def test_few_blocks_are_not_run(self):
    not_run = [
      f'{page}:{block.line}: {block.not_run}'
      for page in _pages()
      for block in _blocks(page)
      if block.not_run
    ]
    self.assertLen(not_run, _NOT_RUN, '\n'.join(not_run))

  def test_command_with_an_unknown_flag_or_value_is_refused(self):
    for line in (
      'ft-tf compress --recipe=digits --epoch=3',
      'ft-tf compress --recipe=digit',
      'ft-tf compress --recipe=digits --student_epochs=0',
      'ft-tf evaluate --resizing=squeeze',
    ):
      ((words,),) = (code_blocks.commands(line),)
      with self.assertRaises((flags.Error, ValueError), msg=line):
        _check_command(words)

  def test_repository_links_of_readme_lead_to_files(self):
    for page in ('README.md', 'CONTRIBUTING.md'):
      for link in re.findall(r'\]\((?!http|#)([^)#]+)', _read(page)):
        self.assertTrue(os.path.exists(os.path.join(_ROOT, link)), link)


class ReferenceTest(absltest.TestCase):
  def test_every_number_of_a_recipe_has_a_place(self):
    page = reference.flags()
    for leaf in recipe_flags.leaves():
      self.assertIn(f'### `--{leaf.flag}` {{ #{leaf.flag} }}\n', page)

  def test_default_is_shown_with_its_source_and_exceptions(self):
    page = reference.flags()
    start = page.index('### `--beta` ')
    beta = page[start : page.index('\n### ', start)]
    self.assertIn('Default: `500.0`; `60.0` in [`digits`]', beta)
    self.assertIn('Source: Public code', beta)

  def test_every_recipe_method_and_command_has_a_place(self):
    listed = reference.list_recipes()
    for name in catalogue.RECIPES:
      self.assertIn(f'## `{name}` {{ #{name} }}', listed)
    methods = reference.methods()
    for name in definitions.registered():
      self.assertIn(f'- `{name}`: ', methods)
    manual = commands.commands()
    for name in dispatch.COMMANDS:
      self.assertIn(f'## `ft-tf {name}` {{ #{name} }}', manual)


class MessagesTest(absltest.TestCase):
  def test_every_message_is_on_the_page_once(self):
    page = _read('docs/guides/troubleshooting.md')
    patterns = [
      pattern
      for line in re.findall(r'^<!-- messages: (.*) -->$', page, re.M)
      for pattern in line.split()
    ]
    found = messages.collect(_ROOT)
    self.assertGreater(len(found), 200)
    for path in sorted({message.path for message in found}):
      groups = [p for p in patterns if fnmatch.fnmatch(path, p)]
      self.assertLen(
        groups, 1, f'{path}: put it into one group of troubleshooting.md'
      )

  def test_message_shows_what_is_filled_in(self):
    folder = self.create_tempdir()
    folder.create_file(
      'ft_tf/one.py',
      'def f(path, names):\n'
      "  raise errors.UsageError(f'{path} has {len(names)}: ' + 'give fewer')\n"
      "  raise errors.TrainingError('lost' if path else 'gone')\n",
    )
    self.assertEqual(
      [(m.kind, m.text) for m in messages.collect(folder.full_path)],
      [(2, 'PATH has NAMES: give fewer'), (1, 'lost | gone')],
    )


if __name__ == '__main__':
  absltest.main()
