"""Holds BUILD and the pins against the tree and what its sources import.

BUILD is Starlark, a part of Python: it is run here with rules that take notes.
"""

import ast
import functools
import glob as globs
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator

from absl.testing import absltest
from packaging import requirements, utils

from tests import sources

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Packages of PyPI whose name is not that of the import.
_PACKAGES = {
  'PIL': 'pillow',
  'absl': 'absl-py',
  'google': 'protobuf',
  'markdown_it': 'markdown-it-py',
  'sklearn': 'scikit-learn',
}
# What the library imports only where a user has installed it.
_OPTIONAL = (
  'litert_tunner',
  'nncf',
  'onnx',
  'onnxruntime',
  'openvino',
  'tf2onnx',
  'torch',
  'torchvision',
)


def _read(path: str) -> str:
  with open(os.path.join(_ROOT, path), encoding='utf-8') as file:
    return file.read()


def _glob(include, exclude=(), allow_empty=False) -> list[str]:
  """Returns the files of some patterns, as Bazel's `glob` does."""
  names, left_out = (
    {
      os.path.relpath(path, _ROOT)
      for pattern in patterns
      for path in globs.glob(os.path.join(_ROOT, pattern), recursive=True)
      if os.path.isfile(path)
    }
    for patterns in (include, exclude)
  )
  if not (names or allow_empty):
    raise AssertionError(f'glob({include}) finds nothing')
  return sorted(names - left_out)


@functools.cache
def _targets() -> dict[str, dict]:
  """Returns the attributes of each target of BUILD, by its name."""
  targets = {}

  def rule(name, **attributes):
    assert name not in targets, f'there are two targets {name}'
    targets[name] = attributes

  names = ('py_binary', 'py_library', 'py_test', 'filegroup')
  ignored = ('load', 'package', 'licenses', 'exports_files')
  scope = {
    **dict.fromkeys(names, rule),
    **dict.fromkeys(ignored, lambda *args, **attributes: None),
    'glob': _glob,
    'requirement': lambda package: f'@pypi//{package}',
  }
  exec(compile(_read('BUILD'), 'BUILD', 'exec'), scope)
  return targets


@functools.cache
def _closure(name: str) -> frozenset[str]:
  """Returns the sources and PyPI labels that a target can import."""
  attributes = _targets()[name]
  found = set(attributes.get('srcs', ()))
  for dep in attributes.get('deps', ()):
    found |= {dep} if dep.startswith('@') else _closure(dep.removeprefix(':'))
  return frozenset(found)


def _sources() -> list[str]:
  return _glob(
    [
      'bin/*.py',
      'docs/generator/*.py',
      'examples/*.py',
      'ft_tf/**/*.py',
      'tests/**/*.py',
    ]
  )


def _imports(path: str) -> Iterator[str]:
  """Yields the full name of what a source imports, anywhere in it."""
  for node in sources.walk(ast.parse(_read(path), path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _package(module: str) -> str:
  """Returns the PyPI package of a module; '' of the tree's and Python's own."""
  top = module.partition('.')[0]
  own = ('bin', 'docs', 'ft_tf', 'tests', *sys.stdlib_module_names, *_OPTIONAL)
  return '' if top in own else _PACKAGES.get(top, utils.canonicalize_name(top))


def _file(module: str) -> str:
  """Returns the tree's file that a module, or a name in it, is of; or ''."""
  while module:
    stem = module.replace('.', '/')
    for path in (f'{stem}.py', f'{stem}/__init__.py'):
      if os.path.isfile(os.path.join(_ROOT, path)):
        return path
    module = module.rpartition('.')[0]
  return ''


def _requirements(lines: Iterable[str]) -> dict[str, requirements.Requirement]:
  """Returns the requirements of some lines by the packages' plain names."""
  return {utils.canonicalize_name(each.name): each for each, _ in _pins(lines)}


def _pins(
  lines: Iterable[str],
) -> list[tuple[requirements.Requirement, list[str]]]:
  """Returns the requirements of some lines, each with its hashes."""
  joined = '\n'.join(line.partition('#')[0].rstrip() for line in lines)
  pins = []
  for line in joined.replace('\\\n', ' ').splitlines():
    text, *hashes = re.split(r'\s+--hash=', line.strip())
    if text:
      pins.append((requirements.Requirement(text), hashes))
  return pins


class BuildTest(absltest.TestCase):
  def test_every_source_has_one_target(self):
    having = [
      path
      for name, attributes in _targets().items()
      if name != 'sources'
      for path in attributes.get('srcs', ())
    ]
    self.assertCountEqual(having, _sources())

  def test_every_source_can_import_what_it_imports(self):
    problems = []
    for name, attributes in _targets().items():
      for path in attributes.get('srcs', ()):
        if name == 'sources' or not path.endswith('.py'):
          continue
        for module in _imports(path):
          package = _package(module)
          wanted = f'@pypi//{package}' if package else _file(module)
          if wanted and wanted not in _closure(name):
            problems.append(f'{path} imports {module}, not in //:{name}')
    self.assertEmpty(problems, '\n'.join(problems))

  def test_every_test_runs_when_its_file_does(self):
    # Bazel takes a file that runs nothing for a test that passes.
    for path in _glob(['tests/**/*_test.py']):
      self.assertEndsWith(_read(path), '  absltest.main()\n', path)

  def test_build_stays_short(self):
    self.assertLess(len(_read('BUILD').splitlines()), 250)


class PinsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.pins = _requirements(_read('requirements.txt').splitlines())
    self.project = tomllib.loads(_read('pyproject.toml'))['project']

  def test_everything_is_pinned_to_one_version(self):
    for name in ('', '-benchmark', '-docs'):
      for pin, _ in _pins(_read(f'requirements{name}.txt').splitlines()):
        operators = [clause.operator for clause in pin.specifier]
        self.assertEqual((operators, '*' in str(pin)), (['=='], False), pin)

  def test_everything_that_programs_install_has_its_hashes(self):
    for name in ('', '-docs'):
      pins = _pins(_read(f'requirements{name}.txt').splitlines())
      self.assertGreater(len(pins), 30)
      for pin, hashes in pins:
        self.assertNotEmpty(hashes, pin)
        for each in hashes:
          self.assertRegex(each, r'^sha256:[0-9a-f]{64}$')
    installed = re.findall(
      r'(\S*install\S*) .*--requirement',
      _read('bin/venv.sh') + _read('bin/docs'),
    )
    self.assertEqual({*installed}, {'install_locked'})
    self.assertIn('--require-hashes', _read('bin/venv.sh'))

  def test_lock_has_files_for_every_machine_that_is_supported(self):
    # What has an own wheel for each system and Python has that many hashes.
    pins = _pins(_read('requirements.txt').splitlines())
    count = {pin.name: len(hashes) for pin, hashes in pins}
    for name in ('numpy', 'scikit-learn', 'h5py'):
      self.assertGreaterEqual(count[name], 9, name)

  def test_locks_are_those_of_what_is_asked_for(self):
    for name in ('', '-docs'):
      asked = _requirements(_read(f'requirements{name}.in').splitlines())
      text = _read(f'requirements{name}.txt')
      locked = re.findall(
        rf'(?m)^(\S+?)==(?:.*\n)(?:    --hash=.*\n)+    # via'
        rf'(?:\n    #  )*? -r requirements{name}\.in',
        text,
      )
      self.assertCountEqual({*locked}, asked)

  def test_documentation_has_the_same_pins_as_the_library(self):
    for pin, _ in _pins(_read('requirements-docs.txt').splitlines()):
      own = self.pins.get(utils.canonicalize_name(pin.name))
      if own is not None:
        self.assertEqual(pin.specifier, own.specifier, pin)

  def test_pins_satisfy_what_is_asked_for(self):
    for asked in (
      _requirements(self.project['dependencies']),
      _requirements(_read('requirements.in').splitlines()),
    ):
      for name, requirement in asked.items():
        self.assertIn(name, self.pins)
        for clause in self.pins[name].specifier:
          self.assertTrue(
            requirement.specifier.contains(clause.version, True), requirement
          )

  def test_library_asks_for_what_it_imports(self):
    asked = _requirements(self.project['dependencies'])
    for path in _glob(['bin/*.py', 'ft_tf/**/*.py']):
      for module in _imports(path):
        self.assertIn(_package(module), {'', *asked}, path)

  def test_packages_of_build_are_pinned(self):
    for name in _targets():
      if name.startswith('pypi/'):
        self.assertIn(name.removeprefix('pypi/'), self.pins)

  def test_optional_packages_are_pinned_in_a_file_of_their_own(self):
    pins = _requirements(_read('requirements-benchmark.txt').splitlines())
    extra = _requirements(self.project['optional-dependencies']['benchmark'])
    for package in _OPTIONAL:
      package = utils.canonicalize_name(package)
      self.assertIn(package, pins)
      self.assertIn(package, extra)


if __name__ == '__main__':
  absltest.main()
