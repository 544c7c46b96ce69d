"""What tests read in the sources of this project."""

import ast
from collections.abc import Iterator


def walk(node: ast.AST) -> Iterator[ast.AST]:
  """Yields the nodes of a source that may run, as `ast.walk` does.

  What stands under `if TYPE_CHECKING:` is for type checkers and never runs.
  """
  yield node
  for child in ast.iter_child_nodes(node):
    if isinstance(child, ast.If) and _is_for_type_checkers(child.test):
      for other in child.orelse:
        yield from walk(other)
    else:
      yield from walk(child)


def _is_for_type_checkers(test: ast.expr) -> bool:
  return ast.unparse(test) in ('TYPE_CHECKING', 'typing.TYPE_CHECKING')
