"""Quantisation-aware training: what continues, is saved and is refused."""

import os
import shutil
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir, teachers
from ft_tf.models import model_files
from ft_tf.quantisation import twin
from ft_tf.training import (
  loop,
  optimizers,
  paraphraser,
  quantisation_aware,
  student,
)
from tests import fixtures, student_runs

_QAT = {'qat_epochs': 2, 'qat_learning_rate': 0.01}


def _small_student():
  """Returns a student of one convolution: what steps compile is short."""
  keras.utils.set_random_seed(0)
  image = keras.Input((8, 8, 1), dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False, name='conv')(x)
  x = keras.layers.BatchNormalization(name='norm')(x)
  x = keras.layers.ReLU(name='maps')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3, name='logits')(x))


class TrainQuantisedTest(student_runs.StudentCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.student = os.path.join(cls.folder, 'student.keras')
    _small_student().save(cls.student)
    # Loaded once, so that its signal is compiled once for all tests.
    cls.parts = {
      'teacher': teachers.load(cls.teacher, cls.dataset),
      'paraphrasers': [paraphraser.load(cls.paraphraser)],
    }
    cls.trained = run_dir.RunDir(os.path.join(cls.folder, 'student'))
    student.train_student(
      cls._recipe(student_epochs=1),
      cls.dataset,
      run=cls.trained,
      strategy=cls.strategy,
      options=loop.Options(),
      **cls.parts,
    )
    cls.whole = None

  @classmethod
  def _recipe(cls, **values):
    # Soft targets have no adapter that the student's run would have trained.
    return fixtures.short_recipe(
      **{'student': cls.student, 'method': 'ft+kd', **values}
    )

  def _whole(self):
    """Returns the run that most tests only look at, and its result."""
    if self.whole is None:
      run = run_dir.RunDir(os.path.join(self.folder, 'whole'))
      type(self).whole = run, self._continue(run)
    return self.whole

  def _train(self, values=None, **options):
    run = run_dir.RunDir(os.path.join(self.runs, 'qat'))
    return run, self._continue(run, values, **options)

  def _continue(
    self,
    run,
    values=None,
    *,
    trained=None,
    in_float=False,
    strategy=None,
    **options,
  ):
    return quantisation_aware.train_quantised(
      self._recipe(**{**_QAT, **(values or {})}),
      self.dataset,
      trained=trained or self.trained,
      run=run,
      in_float=in_float,
      strategy=strategy or self.strategy,
      options=loop.Options(**{'log_steps': 2, **options}),
      **self.parts,
    )

  def _changed_student(self, layer, value):
    """Returns a copy of the trained run with other weights in one layer."""
    run = run_dir.RunDir(os.path.join(self.runs, 'changed'))
    shutil.copytree(self.trained.path, run.path)
    network = model_files.load(run.model)
    kernel = network.get_layer(layer).kernel
    kernel.assign(np.full(kernel.shape, value))
    network.save(run.model)
    return run

  def test_run_leaves_a_plain_student_ranges_and_both_accuracies(self):
    run, result = self._whole()
    self.assertEqual(run.read('result.json'), result)
    self.assertEqual((result['method'], result['steps']), ('ft+kd', 6))
    for name in ('accuracy', 'float_accuracy', 'teacher_agreement'):
      self.assertBetween(result[name], 0, 1)
    saved = model_files.load(run.model)
    network = twin.build(saved)
    ranges = quantisation_aware.read_ranges(run)
    self.assertEqual(set(ranges), set(network.ranges_by_place()))
    network.set_ranges(ranges)
    test = self.dataset.test
    outputs = network.model.predict(test.images[:], verbose=0)
    self.assertEqual(
      (outputs.argmax(axis=1) == test.labels).mean(), result['accuracy']
    )

  def test_saved_student_loads_without_the_library(self):
    run, _ = self._whole()
    # In a process of its own, in which nothing of ft_tf is registered.
    code = (
      'import sys, keras; '
      'model = keras.models.load_model(sys.argv[1]); '
      'assert "ft_tf" not in sys.modules; '
      'print(len(model.weights))'
    )
    printed = subprocess.run(
      [sys.executable, '-c', code, run.model],
      capture_output=True,
      check=True,
      text=True,
      cwd='/',
    ).stdout
    trained = model_files.load(self.trained.model)
    self.assertEqual(int(printed.split()[-1]), len(trained.weights))

  def test_rows_have_every_term_and_the_rate_falls_to_0(self):
    run, _ = self._whole()
    rows = run.metrics()
    for row in rows:
      for term in ('loss', 'cross_entropy', 'factor_transfer', 'kd'):
        self.assertIn(term, row)
    self.assertEqual([row['step'] for row in rows], [2, 3, 4, 6])
    self.assertLess(rows[-1]['learning_rate'], 0.1 * 0.01)
    self.assertGreater(rows[0]['learning_rate'], 0.5 * 0.01)

  def test_student_adapter_and_ranges_move_from_where_they_were(self):
    # At this rate nothing moves visibly.
    run, _ = self._train({'qat_learning_rate': 1e-12})
    before = model_files.load(self.trained.model).get_weights()
    for one, other in zip(
      model_files.load(run.model).get_weights(), before, strict=True
    ):
      np.testing.assert_allclose(one, other, atol=1e-6)
    still = quantisation_aware.read_ranges(run)
    moved_run, _ = self._whole()
    moved = quantisation_aware.read_ranges(moved_run)
    self.assertNotEqual(still, moved)
    after = model_files.load(moved_run.model)
    statistics = [w.path for w in after.weights if 'moving' in w.path]
    self.assertNotEmpty(statistics)
    for weight, value in zip(after.weights, before, strict=True):
      same = np.array_equal(weight.numpy(), value)
      self.assertEqual(same, 'moving' in weight.path or not weight.trainable)

  def test_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(self):
    whole, expected = self._whole()
    with (
      # Before the first validation, which would be compiled for this alone.
      mock.patch.object(
        loop.monitor.Monitor, 'row', side_effect=[None, KeyboardInterrupt]
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._train(checkpoint_steps=1)
    cut = run_dir.RunDir(os.path.join(self.runs, 'qat'))
    self.assertNotEmpty(os.listdir(cut.checkpoints))
    result = self._continue(cut, checkpoint_steps=1)
    for key in ('accuracy', 'loss', 'float_loss'):
      self.assertEqual(result[key], expected[key])
    for one, other in zip(
      model_files.load(cut.model).get_weights(),
      model_files.load(whole.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_array_equal(one, other)
    self.assertEqual(cut.read(run_dir.RANGES), whole.read(run_dir.RANGES))

  @pytest.mark.slow
  def test_two_devices_equal_one(self):
    # One step: later ones round values that differ in their last bits to
    # neighbouring steps.
    values = {'qat_epochs': 1, 'batch_size': 48}
    one, two = (
      run_dir.RunDir(os.path.join(self.runs, name)) for name in ('one', 'two')
    )
    self._continue(one, values)
    self._continue(two, values, strategy=fixtures.strategy(2))
    for a, b in zip(
      model_files.load(one.model).get_weights(),
      model_files.load(two.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-6)
    ranges = quantisation_aware.read_ranges(two)
    for place, pair in quantisation_aware.read_ranges(one).items():
      np.testing.assert_allclose(ranges[place], pair, atol=1e-5)

  def test_student_by_adamw_with_an_average_is_continued_by_sgd(self):
    values = {
      'student_optimizer': 'adamw',
      'student_learning_rate': 0.01,
      'student_weight_decay': 0.05,
      'student_ema': 0.9,
      'label_smoothing': 0.1,
    }
    with (
      mock.patch.object(loop, 'run', side_effect=KeyboardInterrupt) as run,
      self.assertRaises(KeyboardInterrupt),
    ):
      self._train(values)
    ((training,), _) = run.call_args
    optimizer = training.state['optimizer']
    self.assertIsInstance(optimizer, optimizers.CoupledSGD)
    self.assertEqual(optimizer.momentum, 0.9)
    self.assertEqual(optimizer.coupled_weight_decay, 0)
    self.assertIsNone(training.average)
    self.assertAlmostEqual(float(training.rate(0)), 0.01, places=6)

  def test_control_in_float_has_equal_steps_and_no_ranges(self):
    run, result = self._train(in_float=True)
    self.assertEqual(result['steps'], 6)
    self.assertEqual(result['accuracy'], result['float_accuracy'])
    self.assertIsNone(run.read(run_dir.RANGES))
    with self.assertRaisesRegex(errors.UsageError, 'in_float'):
      self._continue(run)

  def test_baseline_continues_without_a_teacher(self):
    run = run_dir.RunDir(os.path.join(self.runs, 's'))
    work = {'strategy': self.strategy, 'options': loop.Options()}
    recipe = self._recipe(method='scratch', student_epochs=1)
    student.train_student(recipe, self.dataset, run=run, **work)
    quantised = self._recipe(method='scratch', student_epochs=1, **_QAT)
    result = quantisation_aware.train_quantised(
      quantised,
      self.dataset,
      trained=run,
      run=run.child(run_dir.QAT),
      **work,
    )
    self.assertEqual((result['method'], result['steps']), ('scratch', 6))
    # The float student's own run is not another one by it.
    again = student.train_student(quantised, self.dataset, run=run, **work)
    self.assertEqual(again, run.read('result.json'))

  def test_run_of_another_student_or_rate_is_refused(self):
    run, result = self._whole()
    self.assertEqual(self._continue(run), result)
    with self.assertRaisesRegex(errors.UsageError, 'qat.learning_rate: 0.01'):
      self._continue(run, {'qat_learning_rate': 0.1})
    other = self._changed_student('logits', 1)
    with self.assertRaisesRegex(errors.UsageError, 'trained_sha256'):
      self._continue(run, trained=other)

  def test_nothing_is_written_where_a_part_is_missing(self):
    missing = run_dir.RunDir(os.path.join(self.folder, 'nothing'))
    run = run_dir.RunDir(os.path.join(self.folder, 'incomplete'))
    with self.assertRaisesRegex(errors.UsageError, 'no trained student'):
      self._continue(run, trained=missing)
    with self.assertRaisesRegex(errors.UsageError, 'adapter-fitnet'):
      self._continue(run, {'method': 'fitnet'})
    self.assertFalse(os.path.exists(run.path))

  def test_weights_that_are_not_finite_are_refused(self):
    broken = self._changed_student('conv', np.nan)
    run = run_dir.RunDir(os.path.join(self.folder, 'refused'))
    with self.assertRaisesRegex(errors.UsageError, 'not finite'):
      self._continue(run, trained=broken)
    self.assertFalse(os.path.exists(run.path))

  def test_dead_student_is_an_outcome_of_training(self):
    dead = self._changed_student('logits', 0)
    with self.assertRaisesRegex(
      errors.TrainingError, 'same logits .*the student before is'
    ):
      self._train(trained=dead)

  def test_loss_that_is_not_finite_ends_the_run(self):
    with self.assertRaisesRegex(errors.TrainingError, 'lower learning rate'):
      self._train({'method': 'scratch', 'qat_learning_rate': 1e30})

  @parameterized.parameters('keras_distiller', 'keras_distiller_kl')
  def test_kerass_own_distiller_is_refused(self, method):
    with self.assertRaisesRegex(errors.UsageError, '--qat_epochs=2: --method'):
      self._recipe(method=method, **_QAT)


class CheckTest(absltest.TestCase):
  def _network(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.GaussianNoise(0.1, name='noise')(image)
    x = keras.layers.Conv2D(4, 3, name='conv')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3)(x))

  def test_unknown_layer_is_named(self):
    with self.assertRaisesRegex(errors.UsageError, 'noise'):
      quantisation_aware.check(fixtures.short_recipe(**_QAT), self._network())

  def test_nothing_is_checked_without_epochs(self):
    quantisation_aware.check(fixtures.short_recipe(), self._network())


if __name__ == '__main__':
  absltest.main()
