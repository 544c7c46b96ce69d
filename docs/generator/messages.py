"""The error messages of the sources, for the page on troubleshooting."""

import ast
import dataclasses
import fnmatch
import os
from collections.abc import Iterator

# The types of errors that a user sees as one line.
_ERRORS = ('UsageError', 'TrainingError')
# A placeholder for a value that has no short name in the source.
_VALUE = '…'


@dataclasses.dataclass(frozen=True)
class Message:
  """One error message.

  Attributes:
    path: The file that raises it, relative to the root of the tree.
    line: The line in that file, from 1.
    kind: The exit code of the command: 2 for a `UsageError`, 1 for a
      `TrainingError`.
    text: The message. Where a value is filled in it has the value's name in
      capital letters, such as PATH, or '…'. '' where the message is made
      elsewhere.
  """

  path: str
  line: int
  kind: int
  text: str


def collect(root: str) -> list[Message]:
  """Returns every message of the library and its programs, in source order.

  Args:
    root: The root of the tree.
  """
  return [
    message
    for path in _sources(root)
    for message in _messages(root, path)
    if message.text
  ]


def matching(messages: list[Message], patterns: list[str]) -> list[Message]:
  """Returns the messages of the files that match one of some patterns.

  Args:
    messages: Messages.
    patterns: Paths as `fnmatch` takes them, such as `ft_tf/data/folder*.py`.
  """
  return [
    message
    for message in messages
    if any(fnmatch.fnmatch(message.path, pattern) for pattern in patterns)
  ]


def _sources(root: str) -> Iterator[str]:
  for top in ('ft_tf', 'bin'):
    for folder, folders, names in os.walk(os.path.join(root, top)):
      folders.sort()
      for name in sorted(names):
        if name.endswith('.py'):
          yield os.path.relpath(os.path.join(folder, name), root)


def _messages(root: str, path: str) -> Iterator[Message]:
  with open(os.path.join(root, path), encoding='utf-8') as file:
    tree = ast.parse(file.read(), path)
  functions = {
    node.name: node
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef)
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and node.args:
      name = ast.unparse(node.func).rpartition('.')[-1]
      if name in _ERRORS:
        kind = 2 if name == 'UsageError' else 1
        for each in _alternatives(node.args[0], functions):
          yield Message(path, node.lineno, kind, _text(each).strip())


def _alternatives(
  node: ast.expr, functions: dict[str, ast.FunctionDef]
) -> list[ast.expr]:
  """Returns a message, or all that a function of the same file returns."""
  if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
    function = functions.get(node.func.id)
    if function is not None:
      return [
        each.value
        for each in ast.walk(function)
        if isinstance(each, ast.Return) and each.value is not None
      ]
  return [node]


def _text(node: ast.expr) -> str:
  """Returns a message with placeholders where values are filled in."""
  if isinstance(node, ast.Constant):
    return str(node.value)
  if isinstance(node, ast.JoinedStr):
    parts = []
    for value in node.values:
      if isinstance(value, ast.FormattedValue):
        parts.append(_placeholder(value.value))
      else:
        parts.append(_text(value))
    return ''.join(parts)
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
    return _text(node.left) + _text(node.right)
  if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
    return ''  # text * condition: an addition that is seldom there
  if isinstance(node, ast.IfExp):
    either, other = _text(node.body), _text(node.orelse)
    return f'{either} | {other}' if either and other else either or other
  return ''


def _placeholder(node: ast.expr) -> str:
  if isinstance(node, ast.Name) and not node.id.isupper():
    return node.id.strip('_').upper()
  if isinstance(node, ast.Attribute) and not node.attr.isupper():
    return node.attr.strip('_').upper()
  if isinstance(node, ast.Call) and node.args:
    # printable(path), abbreviate(names): the argument says what it is.
    function = ast.unparse(node.func).rpartition('.')[-1]
    if function in ('abbreviate', 'len', 'printable'):
      return _placeholder(node.args[0])
  return _VALUE
