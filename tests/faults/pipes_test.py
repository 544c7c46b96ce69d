"""Pipes in the folders of runs and data: refused, and not waited for."""

import os
import signal

from absl.testing import absltest, parameterized

from ft_tf import errors, json_files, paths, run_dir
from ft_tf.browser import user_files
from ft_tf.data import folder_index, tfds_metadata
from ft_tf.evaluation import saved_model_checks
from ft_tf.models import archives
from ft_tf.training import unfinished

_SECONDS = 20


class PipesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    signal.signal(signal.SIGALRM, self._late)
    signal.alarm(_SECONDS)
    self.addCleanup(signal.alarm, 0)

  def _late(self, number, frame):
    raise AssertionError('it waits for the pipe')

  def _make(self, *names):
    path = os.path.join(self.folder, *names)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.mkfifo(path)
    return path

  @parameterized.parameters(
    '.lock',
    'metrics.jsonl',
    'checkpoints/ckpt-2.index',
    'tensorboard/events.out.tfevents.1',
  )
  def test_run_folder_with_one_is_not_claimed(self, name):
    self._make(name)
    run = run_dir.RunDir(self.folder)
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe.*move it away'):
      run.claim({'seed': 0})
    self.assertEqual(run.metrics(), [])

  def test_json_is_refused(self):
    path = self._make('recipe.json')
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe.*put it back'):
      json_files.load(path, dict, 'put it back')
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe.*do that'):
      user_files.read(path, 'do that')

  def test_checkpoint_of_an_unfinished_run_is_refused(self):
    self._make('checkpoints', 'checkpoint')
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe'):
      unfinished.restore(run_dir.RunDir(self.folder), None, None, '')

  def test_prepared_data_are_refused(self):
    self._make('strange', '1.0.0', 'strange-test.tfrecord-00000-of-00001')
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe'):
      tfds_metadata.check('strange', self.folder)

  def test_variables_of_a_saved_model_are_refused(self):
    self._make('variables', 'variables.index')
    with self.assertRaisesRegex(errors.UsageError, 'is a pipe'):
      saved_model_checks.check(self.folder)

  def test_what_can_be_made_again_is_none(self):
    path = self._make('index.jsonl')
    self.assertEqual(folder_index._read(path), {})
    self.assertEqual(json_files.load_rows(path), [])
    self.assertFalse(archives.is_whole(path))
    self.assertFalse(paths.is_regular(path))

  def test_index_that_is_nested_without_end_is_none(self):
    path = os.path.join(self.folder, 'deep.jsonl')
    with open(path, 'w') as file:
      file.write('[' * 100_000)
    self.assertEqual(folder_index._read(path), {})


if __name__ == '__main__':
  absltest.main()
