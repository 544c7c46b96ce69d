"""The wheel in a fresh virtual environment: its command, and the docs' code.

The pages' blocks run in empty folders with nothing but examples/, as one has
them who installed the wheel. Their programs are forks of one process of the
wheel's environment.
"""

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile

import pytest
from absl.testing import absltest, parameterized

from tests import code_blocks, installed
from tests.cli import commands
from tests.forks import forks

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SECONDS = 900  # for all blocks of a page
# Most pages begin with this command. It has a seed: the first page that runs it
# keeps its teacher for the others.
_TEACHER = 'examples/make_teacher.py images teacher.keras'
_PYTHON = """#!/bin/sh
set -e
if [ "$*" != '{teacher}' ]; then exec {python} "$@"; fi
if [ ! -e '{kept}' ]; then {python} "$@"; cp teacher.keras '{kept}'; fi
cp '{kept}' teacher.keras
"""
_COMMAND = """#!/bin/sh
exec {python} -m ft_tf "$@"
"""


def _pages() -> list[tuple[str, str]]:
  """Returns the pages whose blocks are run, with names that tests can have."""
  pages = [
    'README.md',
    *glob.glob('docs/**/*.md', root_dir=_ROOT, recursive=True),
  ]
  return [
    (re.sub(r'\W', '_', page), page)
    for page in sorted(pages)
    if code_blocks.has_runnable(os.path.join(_ROOT, page))
  ]


@pytest.mark.slow
class WheelTest(parameterized.TestCase):
  """Needs a package index, from which pip takes what builds the wheel."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.folder)
    cls.bin = os.path.join(cls.folder, 'venv', 'bin')
    hidden = ('PYTHONPATH', 'TF_CPP_MIN_LOG_LEVEL')
    cls.environment = {
      **{k: v for k, v in os.environ.items() if k not in hidden},
      'MPLBACKEND': 'agg',
      'PATH': f'{cls.bin}{os.pathsep}{os.environ["PATH"]}',
      'TFDS_DATA_DIR': os.path.join(cls.folder, 'data'),
    }
    # A copy, since setuptools builds in the folder of the sources.
    sources = os.path.join(cls.folder, 'sources')
    os.makedirs(sources)
    for name in ('LICENSE', 'README.md', 'pyproject.toml'):
      shutil.copy(os.path.join(_ROOT, name), sources)
    shutil.copytree(
      os.path.join(_ROOT, 'ft_tf'),
      os.path.join(sources, 'ft_tf'),
      ignore=shutil.ignore_patterns('__pycache__'),
    )
    wheel = installed.build_wheel(sources, os.path.join(cls.folder, 'wheels'))
    installed.make(os.path.join(cls.folder, 'venv'), wheel)
    # Nothing of the sources may be found from here on.
    shutil.rmtree(sources)
    cls.page_environment = cls._start_forks()

  @classmethod
  def _start_forks(cls):
    """Returns the environment of the pages, whose programs are forks.

    Its `python` trains the pages' teacher once.
    """
    server = forks.Server(
      forks.SHORT_LIBRARY,
      python=os.path.join(cls.bin, 'python'),
      variables=cls.environment,
    )
    cls.addClassCleanup(server.close)
    cls.fork = server.command
    folder = os.path.join(cls.folder, 'forks')
    os.makedirs(folder)
    for name, script in (('python', _PYTHON), ('ft-tf', _COMMAND)):
      path = os.path.join(folder, name)
      with open(path, 'w') as file:
        file.write(
          script.format(
            teacher=_TEACHER,
            python=shlex.join(cls.fork),
            kept=os.path.join(folder, 'teacher.keras'),
          )
        )
      os.chmod(path, 0o755)
    before = cls.environment['PATH']
    return {**cls.environment, 'PATH': f'{folder}{os.pathsep}{before}'}

  @classmethod
  def _call(cls, *command, cwd=None, environment=None):
    """Runs a command; returns standard output."""
    done = subprocess.run(
      command,
      cwd=cwd or cls.folder,
      env=environment or cls.environment,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
      check=False,
    )
    if done.returncode:
      raise AssertionError(f'{command}: {done.stdout}{done.stderr}')
    return done.stdout

  def _run(self, program, *arguments, cwd=None):
    return self._call(os.path.join(self.bin, program), *arguments, cwd=cwd)

  def test_command_and_package_tell_their_version(self):
    code = 'import ft_tf; print(ft_tf.__version__, ft_tf.__file__)'
    version, path = self._run('python', '-c', code).split()
    self.assertStartsWith(path, os.path.dirname(self.bin))
    self.assertEqual(self._run('ft-tf', '--version').strip(), version)
    module = self._run('python', '-m', 'ft_tf', '--version').strip()
    self.assertEqual(module, version)

  def test_forks_are_of_the_installed_package(self):
    code = 'import ft_tf, sys; print(ft_tf.__file__, *sys.path)'
    folder = tempfile.mkdtemp(dir=self.folder)
    with open(os.path.join(folder, 'tell.py'), 'w') as file:
      file.write(code)
    told = self._call(*self.fork, 'tell.py', cwd=folder).split()
    self.assertStartsWith(told[0], os.path.dirname(self.bin))
    self.assertNotIn(_ROOT, told)

  def test_workers_of_compare_start_from_the_installed_command(self):
    self._run(
      'ft-tf',
      'compare',
      *commands.TINY,
      '--methods=scratch',
      '--seeds=2',
      '--jobs=2',
      '--workdir=methods',
    )
    with open(f'{self.folder}/methods/comparison.json') as file:
      rows = json.load(file)['rows']
    self.assertEqual(rows[-1]['seeds'], 2)

  @parameterized.named_parameters(_pages())
  def test_blocks_run(self, page):
    folder = tempfile.mkdtemp(dir=self.folder)
    shutil.copytree(
      os.path.join(_ROOT, 'examples'), os.path.join(folder, 'examples')
    )
    # -P: modules of tests/ are not found.
    path = os.path.join(_ROOT, page)
    self._call(
      *(*self.fork, '-P', code_blocks.__file__, path),
      cwd=folder,
      environment=self.page_environment,
    )


if __name__ == '__main__':
  absltest.main()
