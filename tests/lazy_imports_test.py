"""Deferred imports: when modules run, and that they are the real ones then."""

import os
import subprocess
import sys

from absl.testing import absltest, parameterized

from tests.cli import commands


class LazyImportsTest(parameterized.TestCase):
  def _run(self, code):
    """Returns what some code prints in a fresh Python."""
    return subprocess.run(
      [sys.executable, '-c', f'from ft_tf import lazy_imports\n{code}'],
      env={**os.environ, 'PYTHONPATH': commands.ROOT},
      capture_output=True,
      check=True,
      text=True,
    ).stdout.split()

  def test_slow_packages_wait_for_their_first_use(self):
    out = self._run(
      'lazy_imports.start()\n'
      'import numpy as np\n'
      'import keras\n'
      'print(lazy_imports.loaded_slow_packages())\n'
      'print(np.float32(2) + 1)\n'
      'print("keras" in lazy_imports.loaded_slow_packages())\n'
      'import sys\n'
      'print(sys.modules["numpy"].float32 is np.float32)\n'
    )
    # Keras is a placeholder still, of which Python does not know any more.
    self.assertEqual(out, ['[]', '3.0', 'False', 'True'])

  def test_modules_of_the_library_run_once_and_in_time(self):
    out = self._run(
      'lazy_imports.start()\n'
      'from ft_tf import errors, run_dir\n'
      'from ft_tf import errors as again\n'
      'print(type(errors).__name__, errors is again)\n'
      'print(errors.UsageError.__name__, type(errors).__name__)\n'
      'print(type(run_dir).__name__)\n'
      'lazy_imports.finish()\n'
      'print(type(run_dir).__name__, lazy_imports.loaded_slow_packages())\n'
      'print(run_dir.errors is errors)\n'
    )
    self.assertEqual(
      out,
      [
        *('_Module', 'True'),
        *('UsageError', 'module'),
        '_Module',
        *('module', '[]'),
        'True',
      ],
    )

  def test_modules_that_were_deferred_are_left_out_of_collections(self):
    out = self._run(
      'import gc\n'
      'lazy_imports.start()\n'
      'from ft_tf import errors\n'
      'lazy_imports.finish()\n'
      'print(gc.get_freeze_count() > 1000)\n'
      'gc.unfreeze()\n'
      'lazy_imports.finish()\n'
      'print(gc.get_freeze_count())\n'
    )
    self.assertEqual(out, ['True', '0'])

  def test_finish_imports_what_was_deferred_and_nothing_is_after_it(self):
    out = self._run(
      'lazy_imports.start()\n'
      'import numpy\n'
      'lazy_imports.finish()\n'
      'print(lazy_imports.loaded_slow_packages())\n'
      'from ft_tf import paths\n'
      'print(type(paths).__name__)\n'
    )
    self.assertEqual(out, ["['numpy']", 'module'])

  @parameterized.parameters(
    'lazy_imports.finish()',
    'keras.layers',
    'tensorflow.Tensor',
    # A module that nobody ran before the end, and that imports Keras.
    'del sys.modules["keras"], sys.modules["tensorflow"]\n'
    'from ft_tf import losses\n'
    'lazy_imports.finish()',
    # NumPy's use ends the deferral.
    'import numpy\nnumpy.zeros\nimport keras',
  )
  def test_what_keras_alone_asks_for_is_left_out_and_can_be_imported(self, use):
    out = self._run(
      'import sys\n'
      'lazy_imports.start()\n'
      'import keras\n'
      'import tensorflow\n'
      f'{use}\n'
      'print("sklearn" in sys.modules, "matplotlib" in sys.modules)\n'
      'import matplotlib.figure, sklearn.base\n'
      'print(matplotlib.figure.Figure.__name__, sklearn.base.clone.__name__)\n'
    )
    self.assertEqual(out, ['False', 'False', 'Figure', 'clone'])

  def test_an_error_in_a_module_is_raised_where_it_is_first_used(self):
    folder = self.create_tempdir().full_path
    with open(os.path.join(folder, 'numpy.py'), 'w') as file:
      file.write('raise RuntimeError("broken")\n')
    out = self._run(
      f'import sys\nsys.path.insert(0, {folder!r})\n'
      'lazy_imports.start()\n'
      'import numpy\n'
      'try:\n'
      '  numpy.zeros\n'
      'except RuntimeError as error:\n'
      '  print(error)\n'
    )
    self.assertEqual(out, ['broken'])


if __name__ == '__main__':
  absltest.main()
