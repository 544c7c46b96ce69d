"""The notebooks of examples/ run to their end."""

import glob
import os

import pytest
from absl.testing import absltest, parameterized

from tests import installed

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.mark.slow
class NotebooksTest(installed.InstalledTestCase):
  @parameterized.parameters(
    *sorted(glob.glob('*.ipynb', root_dir=os.path.join(_ROOT, 'examples')))
  )
  def test_notebook_runs(self, name):
    # It stops at the first cell that fails.
    self.run_python('jupyter', 'execute', name, inside='examples')


if __name__ == '__main__':
  absltest.main()
