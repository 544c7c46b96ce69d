"""What `import ft_tf` gives, and what it costs."""

import ast
import os
import subprocess
import sys
import tomllib

from absl.testing import absltest

import ft_tf
from ft_tf import api, distiller, factors, losses
from tests import sources

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SOURCE = os.path.join(_ROOT, 'ft_tf', '__init__.py')


def _python(code: str) -> str:
  """Returns what a fresh Python prints that runs some code."""
  return subprocess.run(
    [sys.executable, '-c', code],
    cwd=_ROOT,
    capture_output=True,
    check=True,
    text=True,
  ).stdout.strip()


class PackageTest(absltest.TestCase):
  def test_import_alone_takes_no_tensorflow(self):
    loaded = _python(
      'import sys, ft_tf; ft_tf.__version__; dir(ft_tf);'
      'print(*sys.modules, sep="\\n")'
    ).splitlines()
    self.assertIn('ft_tf', loaded)
    self.assertNoCommonElements(loaded, ['keras', 'numpy', 'tensorflow'])

  def test_names_are_there_where_nothing_else_was_imported(self):
    missing = '[n for n in ft_tf.__all__ if not hasattr(ft_tf, n)]'
    self.assertEqual(_python(f'import ft_tf; print({missing})'), '[]')

  def test_names_are_those_of_their_modules(self):
    self.assertIs(ft_tf.distill, api.distill)
    self.assertIs(ft_tf.Distiller, distiller.Distiller)
    self.assertIs(ft_tf.Paraphraser, factors.Paraphraser)
    self.assertIs(ft_tf.Translator, factors.Translator)
    self.assertIs(ft_tf.losses, losses)

  def test_all_names_are_listed_and_known_to_type_checkers(self):
    self.assertContainsSubset(ft_tf.__all__, dir(ft_tf))
    with open(_SOURCE, encoding='utf-8') as file:
      tree = ast.parse(file.read())
    runs = {*map(ast.dump, sources.walk(tree))}
    declared = [
      alias.name
      for node in ast.walk(tree)
      if isinstance(node, ast.ImportFrom) and ast.dump(node) not in runs
      for alias in node.names
    ]
    self.assertCountEqual(declared, {*ft_tf.__all__} - {'__version__'})

  def test_unknown_name_is_an_attribute_error(self):
    with self.assertRaisesRegex(AttributeError, "'ft_tf' has no .* 'distil'"):
      _ = ft_tf.distil

  def test_version_is_the_one_that_is_installed(self):
    # It stands in the package; the project may repeat it, and may not differ.
    with open(os.path.join(_ROOT, 'pyproject.toml'), 'rb') as file:
      project = tomllib.load(file)
    given = project['project'].get('version')
    if given is None:
      dynamic = project['tool']['setuptools']['dynamic']['version']
      self.assertEqual(dynamic, {'attr': 'ft_tf.__version__'})
    else:
      self.assertEqual(given, ft_tf.__version__)


if __name__ == '__main__':
  absltest.main()
