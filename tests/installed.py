"""A folder in which code of the docs runs as where ft_tf is installed."""

import os
import shutil
import subprocess
import sys
import tempfile

from absl.testing import parameterized

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SECONDS = 900  # for all blocks of a page


class InstalledTestCase(parameterized.TestCase):
  """Runs Python in folders with nothing but examples/."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.shared = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.shared)
    # The command and Python as one has them where the library is installed.
    programs = os.path.join(cls.shared, 'bin')
    os.makedirs(programs)
    for name, words in (('ft-tf', '-m ft_tf'), ('python', '')):
      path = os.path.join(programs, name)
      with open(path, 'w') as file:
        file.write(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
      os.chmod(path, 0o755)
    cls.environment = {
      **os.environ,
      'MPLBACKEND': 'agg',
      'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
      'PYTHONPATH': _ROOT,
      'TFDS_DATA_DIR': os.path.join(cls.shared, 'data'),
    }

  def run_python(self, *command, inside=''):
    """Runs Python in a new folder, in `inside` of it."""
    folder = tempfile.mkdtemp(dir=self.shared)
    shutil.copytree(
      os.path.join(_ROOT, 'examples'), os.path.join(folder, 'examples')
    )
    done = subprocess.run(
      [sys.executable, '-m', *command],
      cwd=os.path.join(folder, inside),
      env=self.environment,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=False,
    )
    self.assertEqual(done.returncode, 0, f'{done.stdout}{done.stderr}')
