"""Holds the public functions of the library to type hints, which mypy checks.

mypy has no rule for public functions alone: it asks all for hints, or none.
"""

import ast
import os
from collections.abc import Iterator

from absl.testing import absltest

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _sources() -> Iterator[str]:
  """Yields the paths of the library's files."""
  for folder, _, names in os.walk(os.path.join(_ROOT, 'ft_tf')):
    for name in names:
      if name.endswith('.py'):
        yield os.path.join(folder, name)


def _public(
  body: list[ast.stmt], is_method: bool = False
) -> Iterator[tuple[_Function, bool]]:
  """Yields public functions, and whether their first argument is the object."""
  for node in body:
    if not isinstance(node, _Function | ast.ClassDef):
      continue
    if node.name.startswith('_') and not node.name.endswith('__'):
      continue
    if isinstance(node, ast.ClassDef):
      yield from _public(node.body, is_method=True)
    else:
      static = any(
        ast.unparse(decorator) == 'staticmethod'
        for decorator in node.decorator_list
      )
      yield node, is_method and not static


def _untyped(function: _Function, is_method: bool) -> list[str]:
  """Returns the arguments without a type hint, and 'result' if it has none."""
  arguments = function.args
  positional = [*arguments.posonlyargs, *arguments.args]
  checked = [
    *(positional[1:] if is_method else positional),
    *arguments.kwonlyargs,
    *filter(None, (arguments.vararg, arguments.kwarg)),
  ]
  names = [each.arg for each in checked if each.annotation is None]
  # mypy takes __init__'s result as None.
  if function.returns is None and function.name != '__init__':
    names.append('result')
  return names


def _problems(source: str, path: str) -> list[str]:
  return [
    f'{path}:{function.lineno} {function.name}: {", ".join(names)}'
    for function, is_method in _public(ast.parse(source, path).body)
    if (names := _untyped(function, is_method))
  ]


class TypesTest(absltest.TestCase):
  def test_public_functions_have_type_hints(self):
    problems = []
    for path in _sources():
      with open(path, encoding='utf-8') as file:
        problems += _problems(file.read(), os.path.relpath(path, _ROOT))
    self.assertEmpty(problems, '\n'.join(['without a type hint:', *problems]))

  def test_missing_hints_are_found(self):
    source = (
      'def f(a: int, b, *c, d=0, **e): pass\n'
      'def g(a: int) -> int:\n'
      '  def inner(b): pass\n'
      'def _private(a): pass\n'
      'class C:\n'
      '  def __init__(self, a): pass\n'
      '  def __len__(self): pass\n'
      '  def method(self) -> None: pass\n'
      '  def _private(self, a): pass\n'
      '  @staticmethod\n'
      '  def static(a) -> None: pass\n'
      'class _Private:\n'
      '  def method(self, a): pass\n'
    )
    self.assertEqual(
      _problems(source, 'x.py'),
      [
        'x.py:1 f: b, d, c, e, result',
        'x.py:6 __init__: a',
        'x.py:7 __len__: result',
        'x.py:11 static: a',
      ],
    )


if __name__ == '__main__':
  absltest.main()
