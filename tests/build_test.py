"""Holds BUILD against the tree: the files, what they import, what is pinned.

Bazel sees neither a file that no target has, nor a package that `deps` lack
where the environment has it; so this reads the sources.
"""

import ast
import contextlib
import dataclasses
import functools
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator

from absl.testing import absltest
from packaging import requirements, utils

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = ('bin', 'ft_tf', 'tests')
_RULES = ('py_binary', 'py_library', 'py_test')

# Packages of PyPI whose name is not that of the import.
_PACKAGES = {
  'PIL': 'pillow',
  'absl': 'absl-py',
  'google': 'protobuf',
  'sklearn': 'scikit-learn',
}
# What a package of PyPI imports without asking for it.
_UNASKED = {
  # Its backend.
  'keras': ('tensorflow',),
  'tensorflow-datasets': ('importlib-resources', 'tensorflow'),
}
# What one part of the library imports where a user has installed it.
_OPTIONAL = ('torch',)


@dataclasses.dataclass(frozen=True)
class Target:
  """A target of BUILD: of one source, or `pypi/x` for a package of PyPI."""

  rule: str
  name: str
  srcs: tuple[str, ...] = ()
  main: str | None = None
  data: tuple[str, ...] = ()
  deps: tuple[str, ...] = ()


@functools.cache
def _targets() -> tuple[Target, ...]:
  """Returns the Python targets of BUILD."""
  return tuple(
    Target(
      node.func.id,
      **{
        keyword.arg: _value(keyword.value)
        for keyword in node.keywords
        if keyword.arg in ('name', 'srcs', 'main', 'data', 'deps')
      },
    )
    for node in ast.walk(_tree('BUILD'))
    if isinstance(node, ast.Call)
    and isinstance(node.func, ast.Name)
    and node.func.id in _RULES
  )


def _value(node):
  """Returns a string, the parts of a list, or anything else as written."""
  if isinstance(node, ast.List):
    return tuple(map(_value, node.elts))
  if isinstance(node, ast.Constant):
    return node.value
  return ast.unparse(node).replace("'", '"')


@functools.cache
def _tree(path: str) -> ast.Module:
  return ast.parse(_read(path), path)


def _read(path: str) -> str:
  with open(os.path.join(_ROOT, path), encoding='utf-8') as file:
    return file.read()


@functools.cache
def _files() -> tuple[str, ...]:
  """Returns the path of every file there is, but for what Python keeps."""
  return tuple(
    sorted(
      os.path.relpath(os.path.join(folder, name), _ROOT)
      for top in _FOLDERS
      for folder, _, names in os.walk(os.path.join(_ROOT, top))
      for name in names
      if not folder.endswith('__pycache__')
    )
  )


def _sources() -> list[str]:
  return [path for path in _files() if path.endswith('.py')]


def _name(path: str) -> str:
  """Returns the name of a source's target."""
  stem = path.removesuffix('.py')
  return stem.removeprefix('tests/' if _rule(path) == 'py_test' else 'ft_tf/')


def _rule(path: str) -> str:
  """Returns the rule that makes a source's target."""
  if path.endswith('_test.py'):
    return 'py_test'
  return 'py_binary' if _has_main(path) else 'py_library'


def _has_main(path: str) -> bool:
  return any(
    isinstance(node, ast.If)
    and ast.unparse(node.test) == "__name__ == '__main__'"
    for node in _tree(path).body
  )


def _deps(path: str) -> set[str]:
  """Returns the deps that a source calls for, as BUILD writes them."""
  sources = {*_package(path), *_programs(path)}
  packages = set()
  for module in _imports(path):
    top = module.partition('.')[0]
    if source := _source(module):
      sources.add(source)
    elif top in ('', *_FOLDERS):
      raise AssertionError(f'{path} imports {module}, which is not there')
    elif top not in (*sys.stdlib_module_names, *_OPTIONAL):
      packages.add(_PACKAGES.get(top, utils.canonicalize_name(top)))
  return {f':{_name(source)}' for source in sources - {path}} | {
    f':pypi/{package}' for package in packages
  }


def _package_deps(package: str) -> set[str]:
  """Returns the deps of the target of a package, as BUILD writes them."""
  unasked = _UNASKED.get(package, ())
  return {f'requirement("{package}")', *(f':pypi/{name}' for name in unasked)}


def _needed(paths: Iterable[str]) -> dict[str, str]:
  """Returns, for each package that some sources need, one that needs it."""
  found = {}
  for path in paths:
    for dep in _deps(path):
      if dep.startswith(':pypi/'):
        package = dep.removeprefix(':pypi/')
        for name in (package, *_UNASKED.get(package, ())):
          found[name] = path
  return found


def _imports(path: str) -> Iterator[str]:
  """Yields the full name of each module that a source imports, anywhere."""
  for node in ast.walk(_tree(path)):
    yield from _imported(node)
    # What a test runs in another process.
    if path.startswith('tests/') and 'import ' in _text(node):
      with contextlib.suppress(SyntaxError):
        for inner in ast.walk(ast.parse(textwrap.dedent(_text(node)))):
          yield from _imported(inner)


def _imported(node: ast.AST) -> Iterator[str]:
  if isinstance(node, ast.Import):
    for alias in node.names:
      yield alias.name
  elif isinstance(node, ast.ImportFrom):
    module = '.' * node.level + (node.module or '')
    for alias in node.names:
      inner = f'{module}.{alias.name}'
      yield inner if _source(inner) else module


def _text(node: ast.AST) -> str:
  """Returns a string that stands in a source, '' for anything else."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return node.value
  return ''


def _source(module: str) -> str | None:
  """Returns the file of a module of this tree, if there is one."""
  stem = module.replace('.', '/')
  for path in (f'{stem}.py', f'{stem}/__init__.py'):
    if path in _files():
      return path
  return None


def _package(path: str) -> Iterator[str]:
  """Yields the file that Python runs before a module of its package."""
  folder, base = os.path.split(path)
  if base == '__init__.py':
    folder = os.path.dirname(folder)
  if f'{folder}/__init__.py' in _files():
    yield f'{folder}/__init__.py'


def _programs(path: str) -> Iterator[str]:
  """Yields the programs that a test runs.

  They are those that it names, if it starts processes and knows bin/, or has
  that from another module of tests/.
  """
  if not path.startswith('tests/'):
    return
  near = {path, *filter(None, map(_source, _imports(path)))}
  near = [other for other in near if other.startswith('tests/')]
  modules = {module for other in near for module in _imports(other)}
  texts = [_text(node) for other in near for node in ast.walk(_tree(other))]
  if 'subprocess' in modules and any(re.search(r'\bbin\b', t) for t in texts):
    for text in map(_text, ast.walk(_tree(path))):
      for program in re.findall(r'^(\w+)$|\b(\w+)\.py\b', text):
        source = f'bin/{"".join(program)}.py'
        if source in _files() and _rule(source) == 'py_binary':
          yield source


def _pins() -> list[requirements.Requirement]:
  return list(_requirements(_read('requirements.txt').splitlines()))


def _requirements(lines: Iterable[str]) -> Iterator[requirements.Requirement]:
  for line in lines:
    text = line.partition('#')[0].strip()
    if text:
      yield requirements.Requirement(text)


def _pyproject() -> list[requirements.Requirement]:
  project = tomllib.loads(_read('pyproject.toml'))['project']
  return list(_requirements(project['dependencies']))


def _key(requirement: requirements.Requirement) -> str:
  return utils.canonicalize_name(requirement.name)


class BuildTest(absltest.TestCase):
  def _check(self, problems: Iterable[str]) -> None:
    """Fails with a line for each problem, if there are any."""
    lines = list(problems)
    if lines:
      self.fail('\n'.join(['', *lines]))

  def test_every_source_has_one_target(self):
    having = [path for target in _targets() for path in target.srcs]
    self._check(
      f'{path}: {having.count(path)} targets have it in srcs, not one'
      for path in _sources()
      if having.count(path) != 1
    )

  def test_every_target_has_one_source_or_package(self):
    needed = {f'pypi/{package}' for package in _needed(_sources())}
    names = [target.name for target in _targets()]
    self._check(
      f'//:{name}: there is no such target' for name in needed - {*names}
    )
    self._check(
      f'//:{target.name}: is neither of one file, nor of a package in use'
      for target in _targets()
      if (len(target.srcs) != 1 or target.srcs[0] not in _sources())
      if (target.srcs or target.name not in needed)
    )

  def test_targets_are_what_their_sources_ask_for(self):
    problems = []
    for target in _targets():
      for path in {*target.srcs} & {*_sources()}:
        wanted = {
          'rule': _rule(path),
          'name': _name(path),
          'main': None if _rule(path) == 'py_library' else path,
        }
        problems += [
          f'//:{target.name}: {field} is {getattr(target, field)}, not {value}'
          for field, value in wanted.items()
          if getattr(target, field) != value
        ]
    self._check(problems)

  def test_every_test_runs_when_its_file_does(self):
    # Bazel takes a file that runs nothing for a test that passes.
    self._check(
      f'{path}: does not end in a call of absltest.main()'
      for path in _sources()
      if path.endswith('_test.py') and not _has_main(path)
    )

  def test_deps_are_the_imports(self):
    problems = []
    for target in _targets():
      if target.srcs:
        wanted = set()
        for path in {*target.srcs} & {*_sources()}:
          wanted |= _deps(path)
      else:
        wanted = _package_deps(target.name.removeprefix('pypi/'))
      problems += [
        f'//:{target.name}: deps lack {dep}'
        for dep in sorted(wanted - {*target.deps})
      ]
      problems += [
        f'//:{target.name}: deps have {dep}, which it does not import'
        for dep in sorted({*target.deps} - wanted)
      ]
    self._check(problems)

  def test_other_files_of_the_library_are_data(self):
    having = [path for target in _targets() for path in target.data]
    self._check(
      f'{path}: {having.count(path)} targets have it in data, not one'
      for path in _files()
      if path.startswith('ft_tf/') and not path.endswith('.py')
      if having.count(path) != 1
    )

  def test_every_requirement_is_pinned(self):
    pinned = {f'requirement("{_key(pin)}")' for pin in _pins()}
    self._check(
      f'//:{target.name}: requirements.txt does not pin {dep}'
      for target in _targets()
      for dep in target.deps
      if not dep.startswith(':') and dep not in pinned
    )

  def test_everything_is_pinned(self):
    self._check(
      f'requirements.txt: {pin} is not one version after =='
      for pin in _pins()
      if [clause.operator for clause in pin.specifier] != ['==']
      or '*' in str(pin.specifier)
    )

  def test_pins_satisfy_what_is_asked_for(self):
    asked = {
      'pyproject.toml': _pyproject(),
      'requirements.in': _requirements(_read('requirements.in').splitlines()),
    }
    problems = []
    for file, wanted in asked.items():
      for requirement in wanted:
        pins = [pin for pin in _pins() if _key(pin) == _key(requirement)]
        if not pins:
          problems.append(
            f'{file}: requirements.txt does not pin {requirement}'
          )
        problems += [
          f'{file}: {pin} in requirements.txt does not satisfy {requirement}'
          for pin in pins
          for clause in pin.specifier
          if not requirement.specifier.contains(clause.version, True)
        ]
    self._check(problems)

  def test_library_asks_for_what_it_imports(self):
    asked = {_key(requirement) for requirement in _pyproject()}
    own = [path for path in _sources() if not path.startswith('tests/')]
    self._check(
      f'pyproject.toml: dependencies lack {package}, which {path} needs'
      for package, path in _needed(own).items()
      if package not in asked
    )

  def test_optional_packages_are_pinned_in_a_file_of_their_own(self):
    pinned = _read('requirements-benchmark.txt')
    extra = tomllib.loads(_read('pyproject.toml'))['project'][
      'optional-dependencies'
    ]
    for package in _OPTIONAL:
      self.assertRegex(pinned, rf'(?m)^{package}==[\d.]+$')
      self.assertTrue(any(package in each for each in extra['benchmark']))


if __name__ == '__main__':
  absltest.main()
