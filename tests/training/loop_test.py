"""The loop: intervals, options, where a run stops, and that it continues."""

import dataclasses
import os
import shutil
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir
from ft_tf.evaluation import metrics, predictors
from ft_tf.progress import reporter
from ft_tf.training import loop, monitor, step, student_stage
from tests import fixtures, networks, student_runs


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
        data=fixtures.short_recipe().data,
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
    recipe = fixtures.short_recipe()
    for jit, compiles in (('auto', False), ('off', False), ('on', True)):
      self.assertEqual(loop.Options(jit=jit).compiles_by_xla(recipe), compiles)
    with self.assertRaisesRegex(errors.UsageError, '--sync_batch_norm'):
      loop.Options(jit='on').compiles_by_xla(
        fixtures.short_recipe(sync_batch_norm=True)
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


class StudentTest(student_runs.StudentCase):
  def _resumes(self, recipe, *, exactly=False, dataset=None, whole=None):
    """Compares a run that is cut off and resumed with one that never was."""
    tolerance = 0 if exactly else 1e-5
    whole, expected = whole or self.train(
      'whole', recipe, dataset=dataset, checkpoint_steps=2
    )
    row = monitor.Monitor.row

    def cut(watch, values):
      if values['step'] == 5:
        raise KeyboardInterrupt
      row(watch, values)

    with (
      mock.patch.object(monitor.Monitor, 'row', cut),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train(
        'cut', recipe, dataset=dataset, checkpoint_steps=2, log_steps=1
      )
    resumed, result = self.train(
      'cut', recipe, dataset=dataset, checkpoint_steps=2
    )
    same = (
      'accuracy',
      'loss',
      'steps',
      'validation_accuracy',
      'best_accuracy',
      'best_epoch',
    )
    for name in same:
      self.assertAlmostEqual(result[name], expected[name], delta=tolerance)
    for a, b in zip(
      keras.models.load_model(resumed.model).get_weights(),
      keras.models.load_model(whole.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    steps = [r['step'] for r in resumed.metrics()]
    self.assertEqual(steps, sorted(set(steps)))
    self.assertLen(resumed.read('environment.json'), 2)

  def _with_average(self):
    return fixtures.short_recipe(
      method='ft',
      student_optimizer='adamw',
      student_learning_rate=0.01,
      student_ema=0.9,
      label_smoothing=0.1,
      **fixtures.AUGMENTED,
    )

  def _train_with_average_once(self):
    return self.train_once('average', self._with_average(), checkpoint_steps=2)

  def test_resumed_run_equals_one_that_was_never_cut_off(self):
    whole = self._train_with_average_once()
    self._resumes(self._with_average(), exactly=True, whole=whole)

  def test_average_is_what_is_evaluated_and_left(self):
    dataset = self.dataset
    whole, _ = self._train_with_average_once()
    # All steps are done, nothing is saved.
    shutil.copytree(
      whole.path,
      os.path.join(self.runs, 'a'),
      ignore=shutil.ignore_patterns(
        'adapter-*', 'model.keras', 'predictions.json', 'result.json'
      ),
    )
    run, result = self.train('a', self._with_average())
    saved = keras.models.load_model(run.model)
    row = run.metrics()[-1]
    for examples, scores, prefix in (
      (dataset.validation, row, 'validation_'),
      (dataset.test, result, ''),
    ):
      found = metrics.evaluate(predictors.KerasPredictor(saved), examples)
      self.assertAlmostEqual(found['accuracy'], scores[f'{prefix}accuracy'])
    self.assertAlmostEqual(found['loss'], result['loss'], places=4)
    checkpoint = tf.train.load_checkpoint(run.checkpoints)
    kept = [
      checkpoint.get_tensor(name)
      for name in checkpoint.get_variable_to_shape_map()
      if name.startswith('average/values/')
    ]
    # Of the translator too.
    self.assertGreater(len(kept), len(saved.weights))
    for weight in saved.weights:
      self.assertTrue(
        any(np.array_equal(weight.numpy(), value) for value in kept),
        weight.path,
      )

  @parameterized.parameters('ofd', 'sp')
  @pytest.mark.slow
  def test_other_methods_resume_too(self, method):
    self._resumes(fixtures.short_recipe(method=method))

  def _with_random_layers(self, method):
    path = os.path.join(self.folder, 'random.keras')
    if not os.path.exists(path):
      networks.random_student((8, 8, 1), 3).save(path)
    return fixtures.short_recipe(method=method, student=path)

  def test_resumed_run_draws_the_same_random_numbers(self):
    self._resumes(self._with_random_layers('scratch'), exactly=True)

  @pytest.mark.slow
  def test_resumed_run_of_a_method_draws_the_same_random_numbers(self):
    self._resumes(self._with_random_layers('sp'), exactly=True)

  @pytest.mark.slow
  def test_resumed_mobilenet_draws_the_same_random_numbers(self):
    self.teacher = None  # the class's is of smaller images
    recipe = fixtures.short_recipe(
      method='scratch', student='mobilenetv3smallx0.35'
    )
    self._resumes(recipe, exactly=True, dataset=fixtures.blobs((32, 32, 1)))

  def test_checkpoint_without_random_states_is_refused(self):
    recipe = self._with_random_layers('scratch')
    with (
      mock.patch.object(loop, '_random_states', return_value={}),
      mock.patch.object(
        student_stage.StudentStage, 'score', side_effect=KeyboardInterrupt
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train('old', recipe)
    with self.assertRaisesRegex(errors.UsageError, 'another --workdir'):
      self.train('old', recipe)

  def test_teacher_of_values_that_are_not_finite_is_named(self):
    image = keras.Input((8, 8, 1), dtype='uint8')
    x = keras.layers.Rescaling(1 / 255)(image)
    maps = keras.layers.Conv2D(4, 3, name='maps')(x)
    maps = keras.layers.ReLU()(maps / (maps - maps))
    x = keras.layers.GlobalAveragePooling2D()(maps)
    self.teacher = os.path.join(self.runs, 'infinite.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(self.teacher)
    recipe = fixtures.short_recipe(method='kd')
    with self.assertRaisesRegex(
      errors.TrainingError, r'at step 1; .*the teacher \S*infinite\.keras are'
    ):
      self.train('a', recipe)

  def test_loss_that_is_not_finite_stops_the_run_and_names_the_term(self):
    recipe = fixtures.short_recipe(student_learning_rate=1e30)
    with self.assertRaisesRegex(
      errors.TrainingError,
      r'cross_entropy is (nan|inf).* at step \d.*ckpt-1: .*lower learning rate',
    ):
      self.train('a', recipe, checkpoint_steps=1)


if __name__ == '__main__':
  absltest.main()
