"""SIGINT, SIGTERM and SIGHUP at every time: what is kept, and what is said."""

import dataclasses
import os
import random
import re
import signal
import time
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, interrupts, run_dir
from ft_tf.training import (
  keeping,
  loop,
  pending,
  restoring,
  stage,
  turns,
  unfinished,
)
from tests import fixtures, student_runs
from tests.faults import commands, small_stage

_SEED = int(os.environ.get('FT_TF_FAULTS_SEED', '0'))
_SPEED = {'images_per_second', 'input_wait', 'compile_seconds', 'wall_seconds'}


class _Signal:
  """A signal that comes when the loop asks for the nth time."""

  def __init__(self, nth):
    self._left = nth

  def __call__(self):
    self._left -= 1
    return self._left <= 0


def _figures(run):
  return [
    {k: v for k, v in row.items() if k not in _SPEED} for row in run.metrics()
  ]


class _StopsInValidation(small_stage.SmallStage):
  """Gets its signal while it validates."""

  def prepare(self, *arguments):
    training = super().prepare(*arguments)

    def evaluate():
      raise interrupts.Stopped('')

    return dataclasses.replace(training, evaluate=evaluate)


class StoppedStageTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    # Calls of one step; rows of 5 steps, or to the end of an epoch, of 3.
    self.enter_context(mock.patch.object(turns, '_CALL_SECONDS', 1e-9))
    self.folder = self.create_tempdir().full_path

  def _run(self, name, kind=small_stage.SmallStage, **options):
    path = os.path.join(self.folder, name)
    stage.run_stage(
      kind(),
      run=run_dir.RunDir(path),
      strategy=fixtures.strategy(),
      options=loop.Options(
        **{'log_steps': 5, 'checkpoint_steps': 100, 'progress': 'off'} | options
      ),
    )
    return run_dir.RunDir(path)

  def _assert_same(self, run, other):
    self.assertEqual(_figures(run), _figures(other))
    for a, b in zip(
      small_stage.weights(run.path),
      small_stage.weights(other.path),
      strict=True,
    ):
      np.testing.assert_array_equal(a, b)

  @pytest.mark.slow
  def test_run_that_is_stopped_often_equals_one_that_never_was(self):
    draw, reached = random.Random(_SEED), 0
    while True:
      nth = draw.randint(1, 3)  # It asks after each step.
      if reached + nth >= 9:
        break
      reached += nth
      with (
        mock.patch.object(interrupts, 'requested', _Signal(nth)),
        self.assertRaisesRegex(
          interrupts.Stopped,
          rf'^stopped by SIGINT at step {reached} of 9 \(epoch .*in '
          rf'{self.folder}/cut; the same command continues from there$',
        ),
      ):
        self._run('cut')
    self.assertGreater(reached, 0)
    self._assert_same(self._run('cut'), self._run('whole'))

  def test_signal_while_it_validates_loses_no_step(self):
    with self.assertRaisesRegex(interrupts.Stopped, 'at step 3 of 9'):
      self._run('cut', _StopsInValidation)
    self.assertEmpty(run_dir.RunDir(f'{self.folder}/cut').metrics())
    self._assert_same(self._run('cut'), self._run('whole'))

  def test_shorter_rows_after_a_stop_lose_no_step(self):
    with (
      mock.patch.object(interrupts, 'requested', _Signal(2)),
      self.assertRaises(interrupts.Stopped),
    ):
      self._run('cut')
    rows = self._run('cut', log_steps=1).metrics()
    self.assertEqual([row['step'] for row in rows], [2, 3, 4, 5, 6, 7, 8, 9])

  def test_checkpoints_come_by_time_too(self):
    with (
      mock.patch.object(interrupts, 'requested', _Signal(3)),
      mock.patch.object(keeping.Kept, 'save', autospec=True) as save,
      self.assertRaises(interrupts.Stopped),
    ):
      self._run('cut', checkpoint_minutes=1e-9)
    self.assertLen(save.call_args_list, 3)

  def test_minutes_out_of_bounds_are_refused(self):
    for minutes in (0, -1, float('nan'), float('inf'), 1e9):
      with self.assertRaisesRegex(errors.UsageError, '--checkpoint_minutes='):
        loop.Options(checkpoint_minutes=minutes)


class StoppedRunTest(student_runs.StudentCase):
  def _recipe(self):
    return fixtures.recipe(
      method='ft', student_ema=0.9, student_epochs=4, **fixtures.AUGMENTED
    )

  def _stop(self, name, nth, **options):
    """Trains until the loop has asked so often; returns what it says."""
    with (
      mock.patch.object(interrupts, 'requested', _Signal(nth)),
      self.assertRaises(interrupts.Stopped) as caught,
    ):
      self.train(name, self._recipe(), **options)
    return str(caught.exception)

  @pytest.mark.slow
  def test_student_of_a_stopped_run_has_the_average_of_its_checkpoint(self):
    with mock.patch.object(turns, '_CALL_SECONDS', 1e-9):
      self._stop('early', 4)
    path = os.path.join(self.runs, 'early')
    run = unfinished.find_run(path)
    before = os.listdir(path)
    early = unfinished.restore(
      run, self._recipe(), fixtures.blobs(), self.create_tempdir().full_path
    )
    # The run may be at work, and another's.
    self.assertEqual(os.listdir(path), before)
    self.assertEqual((early.step, early.epochs), (4, 4))
    self.assertRegex(
      early.describe(), r'not finished.*step 4, after 1\.33 of 4'
    )
    checkpoint = tf.train.load_checkpoint(run.checkpoints)
    averages = [
      checkpoint.get_tensor(name)
      for name in checkpoint.get_variable_to_shape_map()
      if name.startswith('average/values/')
    ]
    for weight in keras.models.load_model(early.model).weights:
      self.assertTrue(
        any(np.array_equal(weight.numpy(), value) for value in averages),
        weight.path,
      )
    # The same bytes again: an export of them stands as it is.
    again = unfinished.restore(
      run, self._recipe(), fixtures.blobs(), self.create_tempdir().full_path
    )
    self.assertNotEqual(again.model, early.model)
    self.assertEqual(run_dir.digest(again.model), run_dir.digest(early.model))

  def test_what_has_no_student_to_export_is_refused(self):
    folder = self.create_tempdir().full_path
    self.assertIsNone(unfinished.find_run(folder))
    run = run_dir.RunDir(folder)
    run.write('recipe.json', {'stage': 'teacher', 'teacher': {}})
    with self.assertRaisesRegex(errors.UsageError, 'the folder of a student'):
      unfinished.find_run(folder)
    run.write('recipe.json', {'stage': 'student', 'student': {'method': 'ft'}})
    with self.assertRaisesRegex(errors.UsageError, 'nor a checkpoint'):
      unfinished.restore(
        unfinished.find_run(folder), self._recipe(), fixtures.blobs(), folder
      )


class PendingTest(absltest.TestCase):
  def _run(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    run.claim({'stage': 'toy'})
    self.addCleanup(run.release)
    os.makedirs(run.checkpoints)
    return run

  def test_steps_before_a_checkpoint_count_in_the_next_row(self):
    run, draw = self._run(), np.random.default_rng(_SEED)
    values = draw.normal(size=7).astype(np.float32)
    whole, first = pending.Pending(10), pending.Pending(10)
    whole.add({'loss': values}, pending.Time(7, 2.0, 1.0))
    run.append_metrics({'step': 10})
    first.add({'loss': values[:4]}, pending.Time(4, 1.0, 0.5))
    first.save(run)
    second = pending.load(run, 14)
    self.assertEqual((second.first, second.step), (10, 14))
    second.add({'loss': values[4:5]}, pending.Time(1, 9.0, 0.0), compiles=True)
    second.add({'loss': values[5:]}, pending.Time(2, 0.5, 0.25))
    self.assertEqual(second.means(), whole.means())
    self.assertEqual(second.step, 17)
    speed = second.speed(8)
    self.assertEqual(speed['images_per_second'], 6 * 8 / 1.5)
    self.assertEqual(speed['compile_seconds'], 9.0)

  def test_file_of_a_row_that_was_written_after_all_does_not_count(self):
    run = self._run()
    since = pending.Pending(0)
    since.add({'loss': np.ones(4, np.float32)}, pending.Time(4, 1.0, 0.5))
    since.save(run)
    run.append_metrics({'step': 4})
    self.assertEqual(pending.load(run, 4).first, 4)

  def test_files_go_with_their_checkpoints(self):
    run = self._run()
    manager = restoring.Checkpoints(
      tf.train.Checkpoint(step=tf.Variable(0)), run
    )
    manager.restore()
    for step in (1, 2, 3):
      since = pending.Pending(0)
      since.add({'loss': np.ones(step, np.float32)}, pending.Time(step, 1, 0))
      since.save(run)
      manager.save(checkpoint_number=step)
    self.assertEqual(
      [n for n in sorted(os.listdir(run.checkpoints)) if 'pending' in n],
      ['ckpt-2.pending.json', 'ckpt-3.pending.json'],
    )

  def test_checkpoint_without_its_steps_is_set_aside(self):
    run = self._run()
    checkpoint = tf.train.Checkpoint(step=tf.Variable(0))
    manager = restoring.Checkpoints(checkpoint, run)
    manager.describe_log = lambda: {'rows': 0, 'sha256': ''}
    manager.restore()
    for step in (2, 5):
      since = pending.Pending(0)
      since.add({'loss': np.ones(step, np.float32)}, pending.Time(step, 1, 0))
      since.save(run)
      manager.save(checkpoint_number=step)
    os.remove(os.path.join(run.path, restoring.pending_file(5)))
    # Of a checkpoint that was never written.
    since.step = 7
    since.save(run)
    again = restoring.Checkpoints(checkpoint, run)
    self.assertEqual(again.restore(), 2)
    self.assertNotIn('ckpt-7.pending.json', os.listdir(run.checkpoints))


class CommandTest(parameterized.TestCase):
  """The command itself, which is run again for each case."""

  def _arguments(self, folder, teacher='short'):
    return (
      *('train-teacher', '--recipe=digits', f'--teacher={teacher}'),
      *('--teacher_epochs=30', '--log_steps=7', '--progress=off'),
      *(f'--data_dir={folder}/data', f'--workdir={folder}/run'),
    )

  @pytest.mark.slow
  def test_signals_at_any_time_lose_nothing(self):
    draw = random.Random(_SEED)
    folder = self.create_tempdir().full_path
    arguments = self._arguments(folder)
    reached = 0
    for _ in range(3):
      number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
      count = len(commands.rows(f'{folder}/run')) + draw.randint(1, 5)
      code, line = commands.stop(
        commands.start(*arguments),
        number,
        lambda count=count: len(commands.rows(f'{folder}/run')) >= count,
      )
      self.assertEqual(code, 128 + number, line)
      match = re.search(
        rf'^ft-tf train-teacher: stopped by {number.name} at step (\d+) of',
        line,
      )
      self.assertIsNotNone(match, line)
      self.assertGreater(int(match[1]), reached)
      reached = int(match[1])
    self.assertEqual(commands.start(*arguments).wait(), 0)
    whole = self.create_tempdir().full_path
    self.assertEqual(commands.start(*self._arguments(whole)).wait(), 0)
    for a, b in zip(
      keras.models.load_model(f'{folder}/run/model.keras').get_weights(),
      keras.models.load_model(f'{whole}/run/model.keras').get_weights(),
      strict=True,
    ):
      np.testing.assert_array_equal(a, b)
    self.assertEqual(
      *(_figures(run_dir.RunDir(f'{each}/run')) for each in (folder, whole))
    )

  @pytest.mark.slow
  def test_signal_in_the_first_seconds_is_one_line(self):
    draw = random.Random(_SEED)
    folder = self.create_tempdir().full_path
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 2:
      process = commands.start_process(
        *self._arguments(folder, teacher='resnet8x0.25')
      )
      # Python itself is up by then.
      until = time.monotonic() + 0.3 + 5 * draw.random()
      code, line = commands.stop(
        process, number, lambda until=until: time.monotonic() > until
      )
      self.assertEqual(code, 128 + number, line)
      self.assertStartsWith(
        line, f'ft-tf train-teacher: stopped by {number.name}'
      )


if __name__ == '__main__':
  absltest.main()
