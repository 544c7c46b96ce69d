"""Damaged files in run folders: what continues, what is refused, what is said.

The stage is the real skeleton with steps that cost nothing.
"""

import contextlib
import functools
import io
import json
import os
import shutil
import tempfile
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.training import monitor, restoring
from tests.faults import event_steps, small_stage, storage_faults

_STEPS = 9
_FAST, _SLOW = 8, 24  # cases
_BY_CHANCE = ('cut', 'flip')  # The other kinds of damage are always the same.


@functools.cache
def _make_runs() -> tuple[tempfile.TemporaryDirectory, dict]:
  """Returns a folder with both runs, which is kept, and the whole's result."""
  folder = tempfile.TemporaryDirectory()
  result = small_stage.run_stage(f'{folder.name}/whole')
  with contextlib.suppress(KeyboardInterrupt):
    small_stage.run_stage(f'{folder.name}/cut', stop_after=7)
  return folder, result


class FolderCase(parameterized.TestCase):
  """Has a complete run, and one that was cut off after 7 of 9 steps."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder, cls.result = _make_runs()
    cls.folder = folder.name
    cls.whole, cls.cut = (
      os.path.join(cls.folder, name) for name in ('whole', 'cut')
    )
    cls.weights = small_stage.weights(cls.whole)

  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.folder, 'run')

  def take(self, source):
    """Copies a run into the folder of this test."""
    return storage_faults.copy(source, self.path)

  def run_again(self):
    """Runs the stage again; returns its result and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      result = small_stage.run_stage(self.path)
    return result, said.getvalue()

  def assert_same(self, result):
    """Asserts that a run ended as the one that was never cut off."""
    for name in ('accuracy', 'steps', 'validation_accuracy'):
      self.assertEqual(result[name], self.result[name], name)
    for a, b in zip(small_stage.weights(self.path), self.weights, strict=True):
      np.testing.assert_array_equal(a, b)


class DamageTest(FolderCase):
  def _try(self, name, source, kind, rng):
    """Damages a file, and runs the stage again, twice."""
    self.take(source)
    path = os.path.join(self.path, name)
    storage_faults.damage(path, kind, rng)
    try:
      result, said = self.run_again()
    except (errors.UsageError, errors.TrainingError) as error:
      message = str(error)
      self.assertIn(os.path.basename(name), message)
      self.assertNotIn('\n', message)
      # Only what decides the run, and what a user put in a file's place.
      self.assertTrue(name == 'recipe.json' or kind == 'folder', message)
      return
    self.assert_same(result)
    if 'best_accuracy' in result:
      self.assertEqual(result['best_accuracy'], self.result['best_accuracy'])
    else:
      self.assertIn('best.keras', said)
    again, said = self.run_again()
    self.assertEqual(again, result)
    self.assertEqual(said, '')  # It is complete, and nothing is damaged.

  def _cases(self, count, kinds):
    rng = storage_faults.chance('run folders')
    for number in range(count):
      source = (self.whole, self.cut)[number % 2]
      name = rng.choice(storage_faults.files(source))
      yield name, source, rng.choice(kinds), rng

  def test_run_ends_as_ever_or_is_refused_in_a_line(self):
    for name, source, kind, rng in self._cases(_FAST, storage_faults.KINDS):
      with self.subTest(f'{kind} {os.path.basename(source)}/{name}'):
        self._try(name, source, kind, rng)

  @pytest.mark.slow
  def test_every_kind_of_damage_to_every_file(self):
    rng = storage_faults.chance('every file')
    for source in (self.whole, self.cut):
      for name in storage_faults.files(source):
        for kind in storage_faults.KINDS:
          with self.subTest(f'{kind} {os.path.basename(source)}/{name}'):
            self._try(name, source, kind, rng)

  @pytest.mark.slow
  def test_run_survives_many_more(self):
    for name, source, kind, rng in self._cases(_SLOW, _BY_CHANCE):
      with self.subTest(f'{kind} {os.path.basename(source)}/{name}'):
        self._try(name, source, kind, rng)


class CheckpointTest(FolderCase):
  def _damage(self, *names, kind='flip'):
    for name in names:
      path = os.path.join(self.path, 'checkpoints', name)
      storage_faults.damage(path, kind, storage_faults.chance(name))

  @parameterized.parameters(
    ('ckpt-6.index', 'delete', True),
    ('ckpt-6.data-00000-of-00001', 'flip', True),
    ('ckpt-6.data-00000-of-00001', 'flip', False),
  )
  def test_damaged_newest_is_set_aside_for_the_one_before(
    self, name, kind, has_record
  ):
    self._continues_from_the_one_before(name, kind, has_record)

  @parameterized.product(
    name=('ckpt-6.index', 'ckpt-6.data-00000-of-00001'),
    kind=storage_faults.KINDS,
    has_record=(True, False),
  )
  @pytest.mark.slow
  def test_damaged_newest_of_every_kind(self, name, kind, has_record):
    self._continues_from_the_one_before(name, kind, has_record)

  def _continues_from_the_one_before(self, name, kind, has_record):
    self.take(self.cut)
    if not has_record:  # of an earlier version
      os.remove(os.path.join(self.path, 'checkpoints', 'ckpt-6.json'))
    self._damage(name, kind=kind)
    result, said = self.run_again()
    self.assert_same(result)
    if has_record or not (kind == 'delete' and name.endswith('index')):
      self.assertRegex(said, r'ckpt-6 is damaged \(.*renamed to .*\.damaged')
      self.assertIn('training continues from step 4', said)

  @parameterized.parameters('empty', 'delete')
  def test_missing_state_file_is_made_again_and_nothing_lost(self, kind):
    self.take(self.cut)
    self._damage('checkpoint', kind=kind)
    result, said = self.run_again()
    self.assert_same(result)
    self.assertIn('checkpoints/checkpoint is', said)
    self.assertNotIn('step 0', said)

  def test_without_a_whole_one_the_start_is_said_and_the_end_is_the_same(self):
    self.take(self.cut)
    self._damage('ckpt-4.index', 'ckpt-6.index')
    result, said = self.run_again()
    self.assert_same(result)
    self.assertIn('training begins again at step 0', said)

  def test_rows_before_any_checkpoint_are_not_dropped_silently(self):
    self.take(self.cut)
    for name in os.listdir(os.path.join(self.path, 'checkpoints')):
      self._damage(name, kind='delete')
    result, said = self.run_again()
    self.assert_same(result)
    self.assertRegex(said, 'no checkpoint.*begins again at step 0')

  def test_scraps_of_interrupted_writes_are_removed(self):
    self.take(self.cut)
    scraps = [
      'checkpoints/ckpt-8_temp/part-00000-of-00001.data-00000-of-00001',
      'checkpoints/ckpt-8.data-00000-of-00001',
      'checkpoints/checkpoint.tmp123',
      'checkpoints/.writing-1-0/ckpt-6.json',
      'maps/.writing-abc/0000006.png',
      'tensorboard/.writing-1-0/events',
      '.writing-1-0/best.keras',
      'export/.writing-1-0/student.keras',
    ]
    for scrap in scraps:
      path = os.path.join(self.path, scrap)
      os.makedirs(os.path.dirname(path), exist_ok=True)
      with open(path, 'wb') as file:
        file.write(b'half' * 1000)
    self.assert_same(self.run_again()[0])
    for name in storage_faults.files(self.path):
      self.assertNotIn('writing', name)
      self.assertNotIn('temp', name)
      self.assertNotIn('tmp', name)
    self.assertLen(
      [n for n in storage_faults.files(self.path) if 'ckpt-8' in n], 3
    )


class RowsTest(FolderCase):
  def _rows(self):
    with open(os.path.join(self.path, 'metrics.jsonl')) as file:
      return [json.loads(line) for line in file]

  def test_rows_that_lag_behind_are_said_and_the_best_epoch_stays(self):
    self.take(self.cut)
    path = os.path.join(self.path, 'metrics.jsonl')
    with open(path) as file:
      lines = file.readlines()
    with open(path, 'w') as file:
      file.writelines(lines[:2])
    result, said = self.run_again()
    self.assert_same(result)
    self.assertIn('4 of 6 rows before step 6 are lost', said)
    self.assertEqual(result['best_accuracy'], self.result['best_accuracy'])
    self.assertEqual([row['step'] for row in self._rows()], [1, 2, 6, 7, 8, 9])

  def test_rows_ahead_of_the_checkpoint_are_logged_again(self):
    self.take(self.cut)
    self.assertEqual(self._rows()[-1]['step'], 7)
    self.assertNotRegex(self.run_again()[1], 'lost|damaged|again')
    self.assertEqual([row['step'] for row in self._rows()], [*range(1, 10)])

  def test_changed_row_is_said(self):
    self.take(self.cut)
    path = os.path.join(self.path, 'metrics.jsonl')
    with open(path) as file:
      text = file.read()
    with open(path, 'w') as file:
      file.write(text.replace('"validation_accuracy": 0.5', '"x": 9.5', 1))
    result, said = self.run_again()
    self.assertIn('metrics.jsonl was changed', said)
    self.assert_same(result)

  def test_result_without_any_row_is_made_of_the_last_checkpoint(self):
    self.take(self.whole)
    for name in ('metrics.jsonl', 'result.json'):
      os.remove(os.path.join(self.path, name))
    result, said = self.run_again()
    self.assert_same(result)
    self.assertIn('rows before step 9 are lost', said)

  def test_tensorboard_shows_no_step_twice(self):
    self.take(self.cut)
    self.run_again()
    steps = event_steps.by_tag(os.path.join(self.path, 'tensorboard'))
    self.assertEqual(steps['loss/train'], [*range(1, _STEPS + 1)])
    self.assertEqual(steps['maps'], [3, 6, 9])
    self.assertEqual(steps['recipe'], [0])
    for tag, logged in steps.items():
      self.assertEqual(logged, sorted(set(logged)), tag)

  def test_tensorboard_after_a_lost_result_has_one_test_figure(self):
    self.take(self.whole)
    os.remove(os.path.join(self.path, 'result.json'))
    self.run_again()
    steps = event_steps.by_tag(os.path.join(self.path, 'tensorboard'))
    self.assertEqual(steps['accuracy/test'], [_STEPS])


class GoneTest(FolderCase):
  @parameterized.parameters(
    'monitor.Monitor.row',
    'monitor.Monitor.pictures',
    'restoring.Checkpoints.save',
  )
  def test_folder_deleted_while_it_trains_is_a_line(self, place):
    self.take(self.cut)

    def delete(*arguments, **options):
      shutil.rmtree(self.path, ignore_errors=True)
      return call(*arguments, **options)

    module, owner, name = place.split('.')
    target = getattr(
      {'monitor': monitor, 'restoring': restoring}[module], owner
    )
    call = getattr(target, name)
    with (
      mock.patch.object(target, name, delete),
      self.assertRaisesRegex(
        errors.TrainingError, '/run was deleted or moved .*the same command'
      ),
    ):
      self.run_again()
    self.assertFalse(os.path.exists(self.path))
    # It can begin anew.
    self.assert_same(self.run_again()[0])


class ModelTest(FolderCase):
  def test_lost_model_is_written_again_with_the_same_bytes(self):
    self.take(self.whole)
    path = os.path.join(self.path, 'model.keras')
    with open(path, 'rb') as file:
      before = file.read()
    storage_faults.damage(path, 'flip', storage_faults.chance('model'))
    result, said = self.run_again()
    self.assertIn('model.keras is damaged', said)
    with open(path, 'rb') as file:
      self.assertEqual(file.read(), before)
    self.assertEqual(
      {**result, 'wall_seconds': 0}, {**self.result, 'wall_seconds': 0}
    )

  @parameterized.parameters('flip', 'delete')
  def test_damaged_best_does_not_lose_the_model(self, kind):
    self.take(self.cut)
    path = os.path.join(self.path, 'best.keras')
    storage_faults.damage(path, kind, storage_faults.chance('best'))
    result, said = self.run_again()
    self.assert_same(result)
    self.assertNotIn('best_accuracy', result)
    self.assertRegex(said, 'best.keras is .*model.keras has the last weights')


if __name__ == '__main__':
  absltest.main()
