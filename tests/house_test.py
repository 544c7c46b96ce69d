"""Holds the imports of the sources against the plan of the house.

Data flows one way: a room imports only from itself and from rooms above it.
"""

import ast
import functools
import glob
import os
from collections.abc import Iterable, Iterator

from absl.testing import absltest

from tests import sources

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# From top to bottom.
_ROOMS = (
  'errors',
  'paths',
  'standard_streams',
  'native_output',
  'interrupts',
  'lazy_imports',
  'processes',
  'sizes',
  'fields',
  'definitions',
  'python_arguments',
  'recipes',
  'student_recipe',
  'recipe_flags',
  'catalogue',
  'claims',
  'environment',
  'json_files',
  'storage',
  'run_dir',
  'progress',
  'data',
  'models',
  'specs',
  'factors',
  'losses',
  'methods',
  'signals',
  'evaluation',
  'teachers',
  'quantisation',
  'training',
  'export',
  'report',
  'browser',
  'findings',
  'exporting',
  'recipe_fit',
  'run_space',
  'compression',
  'python_terms',
  'results',
  'given_models',
  'api',
  'distiller_parts',
  'distiller_steps',
  'distiller',
  'knowledge',
  'arms',
  'workshop',
  'comparison',
  'rehearsal',
  'durations',
  'teacher_check',
  'layer_check',
  'doctor',
  'benchmark',
  'cli',
  '__main__',
  'bin',
)
# `definitions` imports the methods by name when they are first asked for: their
# numbers are fields of a recipe, and their files need TensorFlow. So to make a
# recipe needs it, to import `recipes` does not.
_WITHOUT_TENSORFLOW = (
  'errors',
  'paths',
  'standard_streams',
  'native_output',
  'lazy_imports',
  'processes',
  'sizes',
  'fields',
  'definitions',
  'python_arguments',
  'recipes',
  'student_recipe',
  'recipe_flags',
  'catalogue',
  'claims',
  'environment',
  'json_files',
  'storage',
  'run_dir',
  'progress',
  'report',
  'browser',
)
# These are TensorFlow, or import it.
_TENSORFLOW = ('keras', 'tensorboard', 'tensorflow', 'tensorflow_datasets')
_FLAGS = ('absl.app', 'absl.flags')
# Compiled functions with loops of Python, which AutoGraph makes TensorFlow's.
# In the others it only takes time: a tenth of that of a short command.
_LOOPS = ('ft_tf/training/step.py', 'ft_tf/benchmark/parts.py')


@functools.cache
def _tree(path: str) -> ast.Module:
  with open(os.path.join(_ROOT, path), encoding='utf-8') as file:
    return ast.parse(file.read(), path)


@functools.cache
def _modules() -> dict[str, str]:
  """Returns the path of each module of the library and the programs."""
  found = {}
  for top in ('ft_tf', 'bin'):
    for folder, _, names in os.walk(os.path.join(_ROOT, top)):
      for name in names:
        if name.endswith('.py'):
          path = os.path.relpath(os.path.join(folder, name), _ROOT)
          module = path.removesuffix('.py').removesuffix('/__init__')
          found[module.replace('/', '.')] = path
  return found


def _room(module: str) -> str:
  """Returns the room of a module; all programs share one."""
  top, _, rest = module.partition('.')
  return rest.partition('.')[0] if top == 'ft_tf' else top


def _imports(path: str) -> Iterator[tuple[str, str]]:
  """Yields the full name of each import, and what the source calls it."""
  for node in sources.walk(_tree(path)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name, alias.asname or alias.name.partition('.')[0]
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        module = '.' * node.level + (node.module or '')
        yield f'{module}.{alias.name}', alias.asname or alias.name


def _within(name: str, modules: Iterable[str]) -> bool:
  """Whether a full name is one of some modules, or lies in one."""
  return any(f'{name}.'.startswith(f'{module}.') for module in modules)


def _way_to_tensorflow(module: str) -> str | None:
  """Returns 'a -> b -> c', a shortest chain of imports, if there is one."""
  ways, seen = [(module,)], {module}
  for way in ways:
    if _within(way[-1], _TENSORFLOW):
      return ' -> '.join(way)
    if way[-1] in _modules():
      for name, _ in _imports(_modules()[way[-1]]):
        # Python runs the packages that a module is in, too.
        parts = name.split('.')
        for end in range(1, len(parts) + 1):
          inner = '.'.join(parts[:end])
          if inner not in seen:
            seen.add(inner)
            ways.append((*way, inner))
  return None


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
  """Yields what Python evaluates when it imports a module, but decorators."""
  yield node
  skipped = {'decorator_list'}
  if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
    skipped.add('body')
  for field, value in ast.iter_fields(node):
    if field not in skipped:
      for child in value if isinstance(value, list) else [value]:
        if isinstance(child, ast.AST):
          yield from _at_import(child)


class HouseTest(absltest.TestCase):
  def _check(self, problems: Iterable[str]) -> None:
    """Fails with a line for each problem, if there are any."""
    lines = list(problems)
    if lines:
      self.fail('\n'.join(['', *lines]))

  def test_every_room_is_in_the_plan(self):
    rooms = {_room(module): path for module, path in _modules().items()}
    self._check(
      f'{path} is in no room: give {room} its place in _ROOMS'
      for room, path in rooms.items()
      if room and room not in _ROOMS
    )
    self._check(f'there is no {room}' for room in _ROOMS if room not in rooms)

  def test_rooms_import_only_from_above(self):
    problems = []
    for module, path in _modules().items():
      for name, _ in _imports(path):
        if name.startswith('.'):
          problems.append(f'{path} imports {name}: write out where from')
        elif _within(name, ['tests']):
          problems.append(f'{path} imports {name}, which is only for tests')
        elif name != 'ft_tf' and _within(name, ['bin', 'ft_tf']):
          room, other = _room(module), _room(name)
          if other not in _ROOMS:
            problems.append(f'{path} imports {name}, which is no room')
          elif room not in _ROOMS:
            problems.append(f'{path} imports {name}, but is in no room')
          elif _ROOMS.index(other) > _ROOMS.index(room):
            problems.append(
              f'{path} imports {name}: {other} is below {room} in the house'
            )
    self._check(problems)

  def test_runs_are_read_without_tensorflow(self):
    self._check(
      f'{path} imports TensorFlow: {way}'
      for module, path in _modules().items()
      if _room(module) in _WITHOUT_TENSORFLOW
      if (way := _way_to_tensorflow(module))
    )

  def test_only_commands_know_flags(self):
    self._check(
      f'{path} imports {name}, which is for commands'
      for module, path in _modules().items()
      if _room(module) != 'cli'
      for name, _ in _imports(path)
      if _within(name, _FLAGS)
    )

  def test_only_loops_are_translated_by_autograph(self):
    problems = []
    for path in _modules().values():
      if path in _LOOPS:
        continue
      nodes = list(sources.walk(_tree(path)))
      plain = {
        id(node.func)
        for node in nodes
        if isinstance(node, ast.Call)
        and any(each.arg == 'autograph' for each in node.keywords)
      }
      problems += [
        f'{path}:{node.lineno} has a tf.function without autograph=False'
        for node in nodes
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) == 'tf.function'
        and id(node) not in plain
      ]
    self._check(problems)

  def test_marks_stand_below_parameters(self):
    # Above them they would mark what makes the tests, and reach none of them.
    problems = []
    for path in glob.glob('tests/**/*.py', root_dir=_ROOT, recursive=True):
      for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef):
          kinds = [
            ast.unparse(decorator).partition('.')[0]
            for decorator in node.decorator_list
          ]
          if kinds != sorted(kinds, key='parameterized'.__ne__):
            problems.append(f'{path}:{node.lineno} has its mark above')
    self._check(problems)

  def test_nothing_works_at_import(self):
    problems = []
    for module, path in _modules().items():
      if _room(module) == 'bin':
        continue
      names = {
        bound
        for name, bound in _imports(path)
        if _within(name, ('keras', 'tensorflow'))
      }
      for node in _at_import(_tree(path)):
        if isinstance(node, ast.Call):
          called = ast.unparse(node.func)
          if called.partition('.')[0] in names:
            problems.append(
              f'{path}:{node.lineno} calls {called} when it is imported'
            )
    self._check(problems)


if __name__ == '__main__':
  absltest.main()
