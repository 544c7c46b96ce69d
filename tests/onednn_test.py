"""TensorFlow computes with oneDNN, whichever way it is imported."""

import glob
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf.training import precision
from tests import fixtures

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_VARIABLE = 'TF_ENABLE_ONEDNN_OPTS'
# Stands for TensorFlow: it says what it would compute with, and ends Python.
_STUB = f"""
import os
print(os.environ.get('{_VARIABLE}'), flush=True)
os._exit(0)
"""


class OneDnnTest(parameterized.TestCase):
  def _setting(self, arguments, **environment):
    """Returns what TensorFlow finds set when Python imports it."""
    stubs = self.create_tempdir().full_path
    for name in ('keras', 'tensorflow', 'tensorflow_datasets'):
      with open(os.path.join(stubs, f'{name}.py'), 'w') as file:
        file.write(_STUB)
    kept = {k: v for k, v in os.environ.items() if k != _VARIABLE}
    path = os.pathsep.join([stubs, _ROOT])
    return subprocess.run(
      [sys.executable, *arguments],
      env={**kept, 'PYTHONPATH': path, **environment},
      capture_output=True,
      check=True,
      text=True,
    ).stdout.strip()

  @parameterized.parameters(
    *(
      os.path.relpath(path, _ROOT)
      for path in glob.glob(os.path.join(_ROOT, 'bin', '*.py'))
      # This one never imports TensorFlow.
      if os.path.basename(path) != 'runs.py'
    )
  )
  def test_it_is_on_in_every_command(self, path):
    self.assertEqual(self._setting([os.path.join(_ROOT, path)]), '1')

  def test_it_is_on_in_tests(self):
    begin = 'from tests import conftest; conftest.pytest_configure()'
    self.assertEqual(self._setting(['-c', begin]), '1')

  @parameterized.parameters('api', 'benchmark.parts', 'comparison', 'factors')
  def test_it_is_on_in_python_and_workers(self, module):
    self.assertEqual(self._setting(['-c', f'import ft_tf.{module}']), '1')

  def test_a_users_choice_stays(self):
    found = self._setting(['-c', 'import ft_tf.api'], **{_VARIABLE: '0'})
    self.assertEqual(found, '0')

  @parameterized.parameters(
    ('1', False, True), ('1', True, False), ('0', False, False)
  )
  def test_a_run_says_that_it_lacks_it(self, value, enabled, said):
    with (
      mock.patch.dict(os.environ, {_VARIABLE: value}),
      mock.patch.object(precision.port, 'IsMklEnabled', return_value=enabled),
      mock.patch.object(
        precision.tf.config, 'list_physical_devices', return_value=[]
      ),
    ):
      described = precision.describe(fixtures.recipe(precision='float32'))
    self.assertEqual('import ft_tf first' in described, said)


if __name__ == '__main__':
  absltest.main()
