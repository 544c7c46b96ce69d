"""The notebooks of examples/ run to their end."""

import glob
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

import pytest
from absl.testing import absltest, parameterized

from tests.forks import forks

_SECONDS = 600  # for all cells of a notebook
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.mark.slow
class NotebooksTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.shared = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.shared)
    # The command and Python as one has them where the library is installed.
    server = forks.Server(forks.SHORT_LIBRARY, path=[_ROOT])
    cls.addClassCleanup(server.close)
    fork = server.command
    programs = os.path.join(cls.shared, 'bin')
    os.makedirs(programs)
    for name, words in (('ft-tf', '-m ft_tf'), ('python', '')):
      path = os.path.join(programs, name)
      with open(path, 'w') as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(fork)} {words} "$@"\n')
      os.chmod(path, 0o755)
    kernel = os.path.join(cls.shared, 'jupyter', 'kernels', 'python3')
    os.makedirs(kernel)
    launch = ('-m', 'ipykernel_launcher', '-f', '{connection_file}')
    with open(os.path.join(kernel, 'kernel.json'), 'w') as file:
      json.dump(
        {
          'argv': [*fork, *launch],
          'display_name': 'Python in a fork',
          'language': 'python',
        },
        file,
      )
    cls.environment = {
      **os.environ,
      'JUPYTER_PATH': os.path.join(cls.shared, 'jupyter'),
      'MPLBACKEND': 'agg',
      'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}',
      'PYTHONPATH': _ROOT,
      'TFDS_DATA_DIR': os.path.join(cls.shared, 'data'),
    }

  @parameterized.parameters(
    *sorted(glob.glob('*.ipynb', root_dir=os.path.join(_ROOT, 'examples')))
  )
  def test_notebook_runs(self, name):
    folder = tempfile.mkdtemp(dir=self.shared)
    examples = os.path.join(folder, 'examples')
    shutil.copytree(os.path.join(_ROOT, 'examples'), examples)
    # It stops at the first cell that fails.
    done = subprocess.run(
      [sys.executable, '-m', 'jupyter', 'execute', name],
      cwd=examples,
      env=self.environment,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=False,
    )
    self.assertEqual(done.returncode, 0, f'{done.stdout}{done.stderr}')


if __name__ == '__main__':
  absltest.main()
