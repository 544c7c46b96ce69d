"""Fifty kills of one compression: its end is that of one that never was killed.

`FT_TF_FAULTS_CASES` is their number, `FT_TF_FAULTS_SEED` draws other places.
"""

import dataclasses
import glob
import json
import os
import signal
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from ft_tf import factors  # noqa: F401  registers the paraphraser
from ft_tf.models import model_files
from tests.faults import kills, storage_faults
from tests.forks import forks

_KILLS = int(os.environ.get('FT_TF_FAULTS_CASES', '52'))
# Of which so many parts in each phase, and the last event that is drawn: with
# more, a phase would be over before it is killed often, and the last one before
# it is killed at all.
_SHARES = {
  'teacher': (0.26, 24),
  'paraphraser': (0.22, 24),
  'student': (0.26, 20),
  'exports': (0.22, 9),
  'report': (0.1, 4),
}
_LATEST = 0.15  # seconds after an event
_TIMED = {'images_per_second', 'input_wait', 'compile_seconds', 'wall_seconds'}
_COMMAND = (
  *('--recipe=digits', '--image_size=0', '--train_split=train[:96]'),
  *('--test_split=test[:64]', '--validation_examples=32', '--batch_size=16'),
  *('--teacher=short', '--student=short', '--precision=float32'),
  *('--teacher_epochs=2', '--paraphraser_epochs=2', '--student_epochs=2'),
  *('--log_steps=1', '--checkpoint_steps=1', '--progress=off'),
)


def _draw_kills(rng) -> list[kills.Kill]:
  """Returns kills in all phases, in their order."""
  drawn = []
  for phase, (share, latest) in _SHARES.items():
    for _ in range(max(1, round(_KILLS * share))):
      delay = rng.choice((0.0, rng.uniform(0.001, _LATEST)))
      if phase == 'report':
        delay = 0.0  # It could end within that time.
      drawn.append(kills.Kill(phase, rng.randint(1, latest), delay))
  return drawn


class KillsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())

  def _compress(self, name, kill=None):
    """Returns the exit code of a compression, and the end of what it says."""
    arguments = [
      *_COMMAND,
      f'--workdir={self.folder}/{name}',
      f'--data_dir={self.folder}/data',
    ]
    before = ()
    if kill is not None:
      workdir = f'{self.folder}/{name}'
      before = (kills.__name__, 'arm', workdir, *dataclasses.astuple(kill))
    command = forks.server().start(
      '-m', 'ft_tf', 'compress', *arguments, before=before
    )
    _, said = command.communicate()
    return command.returncode, said[-3000:]

  @pytest.mark.slow
  def test_compression_that_is_killed_often_equals_one_that_never_was(self):
    code, said = self._compress('whole')
    self.assertEqual(code, 0, said)
    for kill in _draw_kills(storage_faults.chance('kills')):
      code, said = self._compress('killed', kill)
      self.assertIn(code, (-signal.SIGKILL, -signal.SIGALRM), f'{kill}: {said}')
      self.assertNotIn('Traceback', said)
    code, said = self._compress('killed')
    self.assertEqual(code, 0, said)
    self._assert_equal_runs()
    self._assert_equal_exports()
    left = glob.glob(f'{self.folder}/killed/**/.writing-*', recursive=True)
    self.assertEmpty(left)

  def _both(self, path, read):
    return [
      read(f'{self.folder}/{name}/{path}') for name in ('whole', 'killed')
    ]

  def _assert_equal_runs(self):
    for stage in ('teacher', 'paraphraser', 'student'):
      whole, killed = self._both(f'{stage}/model.keras', _weights)
      for a, b in zip(whole, killed, strict=True):
        np.testing.assert_array_equal(a, b, stage)
      self.assertEqual(*self._both(f'{stage}/metrics.jsonl', _rows), stage)
    for stage in ('teacher', 'student'):
      self.assertEqual(*self._both(f'{stage}/model.keras', _bytes), stage)
    self.assertEqual(*self._both('result.json', _figures))
    self.assertEqual(*self._both('samples.json', _bytes))
    for name in ('report.html', 'export/model_card.md'):
      self.assertTrue(os.path.getsize(f'{self.folder}/killed/{name}'))

  def _assert_equal_exports(self):
    for folder in ('teacher/export', 'export'):
      names = {
        os.path.relpath(path, f'{self.folder}/whole')
        for pattern in ('*.tflite', '*.txt', 'predictions.json')
        for path in glob.glob(f'{self.folder}/whole/{folder}/{pattern}')
      }
      self.assertGreater(len(names), 3)
      for name in sorted(names):
        self.assertEqual(*self._both(name, _bytes), name)
    whole, killed = self._both('export/saved_model', _variables)
    self.assertGreater(len(whole), 10)
    self.assertEqual(whole, killed)


def _bytes(path):
  with open(path, 'rb') as file:
    return file.read()


def _variables(path):
  """Returns the bytes of a SavedModel's variables, by their places in it."""
  checkpoint = tf.train.load_checkpoint(f'{path}/variables/variables')
  return {
    name: checkpoint.get_tensor(name).tobytes()
    for name in checkpoint.get_variable_to_shape_map()
    if name.endswith('VARIABLE_VALUE')
  }


def _weights(path):
  return model_files.load(path).get_weights()


def _rows(path):
  with open(path, encoding='utf-8') as file:
    rows = [json.loads(line) for line in file]
  return [{k: v for k, v in row.items() if k not in _TIMED} for row in rows]


def _figures(path):
  with open(path, encoding='utf-8') as file:
    result = json.load(file)
  left_out = {'wall_seconds', 'export', 'report', 'checksum'}
  return {k: v for k, v in result.items() if k not in left_out}


if __name__ == '__main__':
  absltest.main()
