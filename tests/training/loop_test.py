"""The loop's own promises: intervals, options, and where a run stops."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir
from ft_tf.progress import reporter
from ft_tf.training import loop, step
from tests import fixtures


def _stage(state, train_steps, epochs=2):
  return loop.Training(
    method='toy',
    epochs=epochs,
    examples=fixtures.blobs().train,
    labels=False,
    train_steps=train_steps,
    state={'sum': state},
    rate=lambda step: 0.5 * step,
    evaluate=lambda: {'validation_accuracy': 0.25},
    pictures=lambda: None,
  )


class CauseTest(parameterized.TestCase):
  @parameterized.parameters(
    # Of the terms that are not finite, the first update and the precision.
    (['loss', 'ft'], 0, 'float32', r'the teacher t\.keras are .*another teac'),
    (['loss', 'ft'], 7, 'float32', r'the teacher t\.keras are .*, or the rate'),
    (['ft'], 0, 'mixed_float16', 'teacher .*in float16.*--precision=float32'),
    (['loss', 'cross_entropy'], 3, 'mixed_float16', '--precision=float32$'),
    (['loss', 'cross_entropy', 'ft'], 3, 'float32', 'a lower learning rate$'),
    (['loss', 'cross_entropy'], 0, 'mixed_bfloat16', 'no weight was changed'),
  )
  def test_cause_is_told_by_term_step_and_precision(
    self, names, step, precision, message
  ):
    stage = dataclasses.replace(
      _stage(tf.Variable(0.0), None),
      precision=precision,
      teacher='t.keras',
      teacher_terms=('ft',),
    )
    terms = {
      name: np.array([1, np.inf if name in names else 1], np.float32)
      for name in ('loss', 'cross_entropy', 'ft', 'train_accuracy')
    }
    # The second of the steps that were run at once, or the very first.
    if not step:
      terms = {name: values[1:] for name, values in terms.items()}
    with self.assertRaisesRegex(errors.TrainingError, message) as caught:
      loop._check_finite(stage, terms, max(step - 1, 0), 'ckpt')
    self.assertIn(f'at step {step + 1};', str(caught.exception))


class LoopTest(parameterized.TestCase):
  def _run(self, folder, poison=None, epochs=2, **options):
    """Counts steps in a variable; a poisoned step's loss is not a number."""
    strategy = fixtures.strategy()
    total = tf.Variable(0.0)

    def count_up(batch):
      del batch
      total.assign_add(1.0)
      bad = poison is not None and total == poison
      return {'loss': tf.where(bad, np.nan, total), 'other': total + 0}

    @tf.function
    def train_steps(iterator, count):
      return step.repeat(strategy, count_up, ('loss', 'other'), iterator, count)

    run = run_dir.RunDir(folder)
    run.claim({'stage': 'toy'})
    try:
      loop.run(
        _stage(total, train_steps, epochs),
        data=fixtures.recipe().data,
        seed=0,
        run=run,
        strategy=strategy,
        options=loop.Options(**options),
        part=reporter.Running(reporter.Progress(mode='off'), folder, 'toy'),
      ).close()
    finally:
      run.release()
    return run, float(total.numpy())

  @parameterized.parameters('yes', '')
  def test_jit_that_is_none_of_its_words_is_refused(self, jit):
    with self.assertRaisesRegex(errors.UsageError, 'give auto, on or off'):
      loop.Options(jit=jit)

  def test_xla_is_off_on_cpus_unless_asked_for(self):
    recipe = fixtures.recipe()
    for jit, compiles in (('auto', False), ('off', False), ('on', True)):
      self.assertEqual(loop.Options(jit=jit).compiles_by_xla(recipe), compiles)
    with self.assertRaisesRegex(errors.UsageError, '--sync_batch_norm'):
      loop.Options(jit='on').compiles_by_xla(
        fixtures.recipe(sync_batch_norm=True)
      )

  def test_first_row_says_how_long_compiling_took(self):
    run, _ = self._run(self.create_tempdir().full_path, log_steps=2)
    first, *others = run.metrics()
    self.assertGreater(first['compile_seconds'], 0)
    for row in others:
      self.assertNotIn('compile_seconds', row)
      self.assertBetween(row['input_wait'], 0, 1.5)

  def test_rows_are_at_log_steps_epoch_ends_and_the_end(self):
    # 48 images in batches of 16: epochs end at steps 3 and 6.
    run, total = self._run(
      self.create_tempdir().full_path, log_steps=4, checkpoint_steps=5
    )
    self.assertEqual(total, 6)
    rows = run.metrics()
    self.assertEqual([row['step'] for row in rows], [3, 4, 5, 6])
    self.assertEqual(
      ['validation_accuracy' in row for row in rows], [True, False, False, True]
    )
    # Each row's terms are the mean over its steps.
    self.assertEqual([row['loss'] for row in rows], [2, 4, 5, 6])
    self.assertEqual([row['learning_rate'] for row in rows], [1, 1.5, 2, 2.5])
    self.assertEqual([row['epoch'] for row in rows], [1, 4 / 3, 5 / 3, 2])

  def test_checkpoint_holds_the_state_step_epoch_and_seeds(self):
    run, _ = self._run(self.create_tempdir().full_path, checkpoint_steps=4)
    manager = tf.train.latest_checkpoint(run.checkpoints)
    self.assertEndsWith(manager, 'ckpt-6')
    names = {name for name, _ in tf.train.list_variables(manager)}
    for name in ('step', 'epoch', 'seed', 'view_seed', 'sum'):
      self.assertIn(f'{name}/.ATTRIBUTES/VARIABLE_VALUE', names)
    reader = tf.train.load_checkpoint(manager)
    self.assertEqual(reader.get_tensor('step/.ATTRIBUTES/VARIABLE_VALUE'), 6)
    self.assertEqual(reader.get_tensor('epoch/.ATTRIBUTES/VARIABLE_VALUE'), 2)

  def test_run_ends_at_its_last_step_when_called_again(self):
    folder = self.create_tempdir().full_path
    self._run(folder)
    run, total = self._run(folder)
    self.assertEqual(total, 6)
    self.assertEqual([row['step'] for row in run.metrics()], [3, 6])

  @parameterized.parameters(1, 4)
  def test_loss_that_is_not_finite_names_step_term_and_checkpoint(self, log):
    folder = self.create_tempdir().full_path
    with self.assertRaisesRegex(
      errors.TrainingError, r'^loss is nan at step 5; .*ckpt-4: '
    ):
      self._run(folder, poison=5, log_steps=log, checkpoint_steps=2)
    # Nothing of after the last good checkpoint was saved.
    self.assertEndsWith(
      tf.train.latest_checkpoint(f'{folder}/checkpoints'), 'ckpt-4'
    )

  def test_intervals_below_1_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--log_steps=0'):
      loop.Options(log_steps=0)
    with self.assertRaisesRegex(errors.UsageError, '--checkpoint_steps=-1'):
      loop.Options(checkpoint_steps=-1)


if __name__ == '__main__':
  absltest.main()
