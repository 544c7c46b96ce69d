"""The wheel in a fresh virtual environment, far from the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv

import pytest
from absl.testing import absltest

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SMALL = (
  '--seeds=1',
  '--nobaseline',
  '--teacher_epochs=2',
  '--paraphraser_epochs=1',
  '--student_epochs=1',
)


@pytest.mark.slow
class WheelTest(absltest.TestCase):
  """Needs a package index, as whoever installs it does."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = tempfile.mkdtemp()
    cls.addClassCleanup(shutil.rmtree, cls.folder)
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
    wheels = os.path.join(cls.folder, 'wheels')
    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
    cls._call(*pip, 'wheel', '-q', '--no-deps', '-w', wheels, sources)
    (wheel,) = os.listdir(wheels)
    # Nothing of the checkout may be found from here on.
    shutil.rmtree(sources)
    environment = os.path.join(cls.folder, 'venv')
    venv.create(environment, with_pip=True)
    cls.bin = os.path.join(environment, 'bin')
    cls._call(
      os.path.join(cls.bin, 'python'),
      *pip[1:],
      'install',
      '-q',
      '--constraint',
      os.path.join(_ROOT, 'requirements.txt'),
      os.path.join(wheels, wheel),
    )
    cls.work = os.path.join(cls.folder, 'empty')
    os.makedirs(cls.work)

  @classmethod
  def _call(cls, *command, **options):
    """Runs a command; returns standard output."""
    hidden = ('PYTHONPATH', 'TF_CPP_MIN_LOG_LEVEL')
    done = subprocess.run(
      command,
      capture_output=True,
      text=True,
      check=False,
      env={k: v for k, v in os.environ.items() if k not in hidden},
      **options,
    )
    if done.returncode:
      raise AssertionError(f'{command}: {done.stdout}{done.stderr}')
    return done.stdout

  def _run(self, program, *arguments):
    path = os.path.join(self.bin, program)
    return self._call(path, *arguments, cwd=self.work)

  def test_command_and_package_tell_their_version(self):
    code = 'import ft_tf; print(ft_tf.__version__, ft_tf.__file__)'
    version, path = self._run('python', '-c', code).split()
    self.assertStartsWith(path, os.path.dirname(self.bin))
    self.assertEqual(self._run('ft-tf', '--version').strip(), version)
    module = self._run('python', '-m', 'ft_tf', '--version').strip()
    self.assertEqual(module, version)

  def test_demo_leaves_files_that_evaluate_and_runs_read(self):
    out = self._run('ft-tf', 'demo', *_SMALL)
    demo = json.loads(out)
    for name in ('student_int8.tflite', 'student.keras', 'saved_model'):
      out = self._run(
        'ft-tf',
        'evaluate',
        '--dataset=digits',
        '--data_dir=runs/demo/data',
        f'--model=runs/demo/export/{name}',
      )
      self.assertEqual(json.loads(out)['examples'], 1197)
      if name != 'student_int8.tflite':
        self.assertAlmostEqual(json.loads(out)['accuracy'], demo['accuracy'])
    self.assertTrue(os.path.exists(demo['report']))
    listed = json.loads(self._run('ft-tf', 'runs', 'runs'))['runs']
    self.assertEqual({row['state'] for row in listed}, {'complete'})
    self.assertIn('demo/student', [row['run'] for row in listed])

  def test_workers_of_compare_start_from_the_installed_command(self):
    self._run(
      'ft-tf',
      'compare',
      '--recipe=digits',
      '--methods=scratch',
      '--seeds=2',
      '--jobs=2',
      '--teacher_epochs=1',
      '--student_epochs=1',
      '--data_dir=data',
      '--workdir=methods',
    )
    with open(os.path.join(self.work, 'methods', 'comparison.json')) as file:
      rows = json.load(file)['rows']
    self.assertEqual(rows[-1]['seeds'], 2)


if __name__ == '__main__':
  absltest.main()
