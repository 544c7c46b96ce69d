"""Settings of Keras that a user's environment makes, for other programs."""

import json
import os
import subprocess
import sys
from unittest import mock

import keras
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.cli import dispatch
from ft_tf.models import keras_settings

_OTHER = {'floatx': 'float16', 'image_data_format': 'channels_first'}


class KerasSettingsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.addCleanup(keras_settings.use_defaults)

  def _set(self, name, value):
    getattr(keras.config, f'set_{name}')(value)

  def test_defaults_pass(self):
    keras_settings.check('it')

  @parameterized.parameters(*_OTHER.items())
  def test_other_defaults_are_refused_with_the_call_that_mends_it(
    self, name, value
  ):
    self._set(name, value)
    with self.assertRaisesRegex(errors.UsageError, f'set_{name}') as raised:
      keras_settings.check('it')
    call = str(raised.exception).partition('call ')[2].partition(' before')[0]
    eval(call, {'keras': keras})  # As the user would type it.
    keras_settings.check('it')

  def test_other_backend_is_refused(self):
    with mock.patch.object(keras.config, 'backend', return_value='jax'):
      with self.assertRaisesRegex(errors.UsageError, 'KERAS_BACKEND=tensorf'):
        keras_settings.check('it')

  def test_older_keras_under_tensorflow_is_refused(self):
    with mock.patch.dict(os.environ, {'TF_USE_LEGACY_KERAS': '1'}):
      with self.assertRaisesRegex(errors.UsageError, 'TF_USE_LEGACY_KERAS'):
        keras_settings.check('it')

  def test_graph_is_refused(self):
    with tf.Graph().as_default():
      with self.assertRaisesRegex(errors.UsageError, 'within a tf.Graph'):
        keras_settings.check('it')

  def test_command_uses_the_defaults(self):
    keras.config.set_epsilon(0.1)
    for name, value in _OTHER.items():
      self._set(name, value)
    folder = self.create_tempdir().full_path
    code = dispatch.run('inspect', [f'--model={folder}/none.keras'], name='x')
    self.assertEqual(code, 2)
    keras_settings.check('it')
    self.assertEqual(keras.config.epsilon(), 1e-7)

  @pytest.mark.slow
  def test_users_environment_does_not_reach_a_command(self):
    home = self.create_tempdir()
    home.create_file('keras.json', json.dumps({'backend': 'torch', **_OTHER}))
    folder = self.create_tempdir().full_path
    subprocess.run(
      [
        *(sys.executable, '-m', 'ft_tf', 'train-teacher', '--recipe=digits'),
        *('--teacher=resnet8x0.25', '--teacher_epochs=1', '--image_size=0'),
        *('--train_split=train[:96]', '--validation_examples=32'),
        *(f'--workdir={folder}/w', f'--data_dir={folder}/d'),
      ],
      env={
        **os.environ,
        'KERAS_BACKEND': 'jax',
        'KERAS_HOME': home.full_path,
        'TF_USE_LEGACY_KERAS': '1',
      },
      check=True,
      capture_output=True,
    )
    self.assertTrue(os.path.exists(f'{folder}/w/model.keras'))


if __name__ == '__main__':
  absltest.main()
