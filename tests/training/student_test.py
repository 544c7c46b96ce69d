"""The student's stage: its files, its figures, and what it refuses."""

import os
import shutil
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing import event_accumulator

from ft_tf import errors, run_dir, specs, teachers
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import model_files, zoo
from ft_tf.training import (
  distillation,
  loop,
  programs,
  student,
  student_stage,
)
from tests import fixtures, networks, student_runs


class TrainStudentTest(student_runs.StudentCase):
  def test_run_leaves_the_files_of_the_contract(self):
    run, result = self.train_once('plain')
    self.assertEqual(run.read('result.json'), result)
    self.assertEqual((result['method'], result['seed']), ('ft', 0))
    self.assertEqual(result['steps'], 9)
    self.assertEqual(result['examples'], 24)
    self.assertGreater(result['wall_seconds'], 0)
    alone = keras.models.load_model(run.model)
    self.assertEqual(result['parameters'], specs.count_parameters(alone))
    # The student alone: no translator, no teacher.
    self.assertEqual(
      alone.count_params(),
      zoo.build(
        'short', specs.spec(fixtures.short_recipe(), fixtures.blobs())
      ).count_params(),
    )
    rows = run.metrics()
    self.assertEqual([row['step'] for row in rows], [2, 3, 4, 6, 8, 9])
    for row in rows:
      self.assertContainsSubset(
        {
          'loss',
          'cross_entropy',
          'factor_transfer',
          'learning_rate',
          'images_per_second',
          'input_wait',
          'train_accuracy',
          'wall_seconds',
        },
        row,
      )
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + 10 * row['factor_transfer'],
        places=3,
      )
      self.assertEqual('validation_accuracy' in row, row['step'] % 3 == 0)
    self.assertAlmostEqual(rows[0]['learning_rate'], 0.1, places=6)
    self.assertAlmostEqual(rows[-1]['learning_rate'], 0.01, places=6)

  def test_tensorboard_shows_terms_maps_and_recipe(self):
    run, _ = self.train_once('plain')
    events = event_accumulator.EventAccumulator(
      run.tensorboard, size_guidance={'images': 0, 'tensors': 0}
    ).Reload()
    tags = events.Tags()['tensors']
    self.assertContainsSubset(
      {
        'accuracy/train',
        'accuracy/validation',
        'accuracy/test',
        'loss/train',
        'loss/validation',
        'loss/test',
        'train/cross_entropy',
        'train/factor_transfer',
        'run/learning_rate',
        'run/images_per_second',
        'run/input_wait',
        'run/compile_seconds',
        'maps',
        'recipe',
      },
      tags,
    )
    text = events.Tensors('recipe')[0].tensor_proto.string_val[0].decode()
    self.assertIn('"beta": 10.0', text)
    self.assertIn('run/gradient_ratio_factor_transfer', tags)

  def test_complete_run_is_not_trained_again(self):
    complete, result = self.train_once('plain')
    run = run_dir.RunDir(os.path.join(self.runs, 'a'))
    shutil.copytree(complete.path, run.path)
    written = os.path.getmtime(run.model)
    with mock.patch.object(loop, 'run', side_effect=AssertionError):
      _, again = self.train('a')
    self.assertEqual(again, result)
    self.assertEqual(os.path.getmtime(run.model), written)

  def test_other_recipe_in_the_folder_is_refused_by_field(self):
    complete, _ = self.train_once('plain')
    shutil.copytree(complete.path, os.path.join(self.runs, 'a'))
    with self.assertRaisesRegex(
      errors.UsageError, r'student\.beta: 10\.0 saved, 11\.0 given'
    ):
      self.train('a', fixtures.short_recipe(beta=11.0))

  def test_test_figures_stand_beside_those_of_the_best_epoch(self):
    run, result = self.train_once('plain')
    test = fixtures.blobs().test
    ours, theirs = (
      metrics.logits(predictors.open_predictor(path), test.images)
      for path in (run.model, self.teacher)
    )
    self.assertAlmostEqual(
      result['calibration_error'],
      metrics.calibration_error(ours, test.labels),
      places=4,
    )
    for name, value in metrics.likeness(ours, theirs).items():
      self.assertAlmostEqual(result[name], value, places=4)
    correct = ours.argmax(axis=1) == test.labels
    by_class = result['accuracy_by_class']
    self.assertSameElements(by_class, fixtures.Blobs.label_names)
    for label, name in enumerate(fixtures.Blobs.label_names):
      self.assertAlmostEqual(
        by_class[name], correct[test.labels == label].mean()
      )
    self.assertAlmostEqual(
      result['balanced_accuracy'], np.mean(list(by_class.values()))
    )
    predictions = run.read('predictions.json')
    self.assertEqual(
      predictions['confusion'],
      metrics.summarize_predictions(
        ours, test.labels, fixtures.blobs().label_names
      )['confusion'],
    )
    rows = [row for row in run.metrics() if 'validation_accuracy' in row]
    best = max(row['validation_accuracy'] for row in rows)
    (first, *_) = (r for r in rows if r['validation_accuracy'] == best)
    self.assertEqual(result['best_epoch'], first['epoch'])
    kept = predictors.open_predictor(os.path.join(run.path, student_stage.BEST))
    scores = metrics.evaluate(kept, fixtures.blobs().validation)
    self.assertAlmostEqual(scores['accuracy'], best)
    self.assertAlmostEqual(
      metrics.evaluate(kept, test)['accuracy'], result['best_accuracy']
    )

  @pytest.mark.slow
  def test_several_layers_have_a_term_each_and_resume(self):
    recipe = fixtures.short_recipe(
      teacher_layer='-2,auto', student_layer='-2,auto', beta='auto'
    )
    paths = self.paraphrasers('group2', 'group3')
    names = ('factor_transfer_1', 'factor_transfer_2')
    whole, _ = self.train('whole', recipe, paraphrasers=paths, log_steps=1)
    betas = whole.read('beta.json')
    self.assertCountEqual(betas, names)
    for row in whole.metrics():
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + sum(betas[name] * row[name] for name in names),
        places=4,
      )
    for name in names:
      self.assertTrue(
        os.path.exists(
          os.path.join(whole.path, student_stage.ADAPTER.format(name))
        )
      )
    # Cut off behind the second of nine steps; the signals are kept this time.
    with (
      mock.patch.object(
        loop, '_check_finite', side_effect=[None, None, KeyboardInterrupt]
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train(
        'cut', recipe, paraphrasers=paths, log_steps=1, checkpoint_steps=2
      )
    cut, _ = self.train(
      'cut', recipe, paraphrasers=paths, log_steps=1, checkpoint_steps=2
    )
    for one, two in zip(
      model_files.load(whole.model).weights,
      model_files.load(cut.model).weights,
      strict=True,
    ):
      np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    with self.assertRaisesRegex(errors.UsageError, '2 layers, and has 1'):
      self.train('one', recipe, paraphrasers=paths[:1])

  def test_scratch_needs_no_teacher(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    result = student.train_student(
      fixtures.short_recipe(method='scratch', student_epochs=1),
      fixtures.blobs(),
      run=run,
      strategy=self.strategy,
      options=loop.Options(),
    )
    self.assertEqual(result['method'], 'scratch')
    self.assertNotIn('factor_transfer', run.metrics()[0])
    self.assertNotIn('teacher_agreement', result)

  def test_transfer_without_teacher_is_refused_and_nothing_written(self):
    run = run_dir.RunDir(os.path.join(self.create_tempdir().full_path, 'new'))
    with self.assertRaisesRegex(errors.UsageError, 'give --teacher'):
      student.train_student(
        fixtures.short_recipe(),
        fixtures.blobs(),
        run=run,
        strategy=self.strategy,
        options=loop.Options(),
      )
    self.assertFalse(os.path.exists(run.path))

  @pytest.mark.slow
  def test_images_without_labels_make_longer_epochs_for_every_method(self):
    # 48 with a label and 24 without: 3 epochs of 4.5 batches.
    dataset = fixtures.blobs_and_unlabelled()
    runs = {
      method: self.train(
        method, fixtures.short_recipe(method=method), dataset=dataset
      )
      for method in ('ft', 'scratch', 'keras_distiller_kl')
    }
    for _, result in runs.values():
      self.assertEqual(result['steps'], 14)
    rows = {method: run.metrics() for method, (run, _) in runs.items()}
    for own in rows.values():
      self.assertEqual(
        [row['epoch'] for row in own], [row['epoch'] for row in rows['ft']]
      )
      self.assertAlmostEqual(own[-1]['epoch'], 14 / 4.5)
    for row in rows['ft']:
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + 10 * row['factor_transfer'],
        places=3,
      )
    # Other images make it another run.
    with self.assertRaisesRegex(
      errors.UsageError, 'images_sha256: 24 more saved'
    ):
      self.train('ft', dataset=fixtures.blobs_and_unlabelled(8))

  def test_batch_may_be_larger_than_both_kinds_of_images(self):
    recipe = fixtures.short_recipe(batch_size=128, student_epochs=1)
    run, result = self.train(
      'a', recipe, dataset=fixtures.blobs_and_unlabelled()
    )
    self.assertEqual(result['steps'], 1)
    self.assertGreater(run.metrics()[0]['gradient_ratio_factor_transfer'], 0)

  def test_method_that_reads_labels_refuses_images_without(self):
    recipe = fixtures.short_recipe(method='ft+dkd', unlabeled='pictures')
    with self.assertRaisesRegex(
      errors.UsageError, '--unlabeled: the loss of dkd needs labels'
    ):
      self.train('a', recipe, dataset=fixtures.blobs_and_unlabelled())
    self.assertEmpty(os.listdir(self.runs))

  @pytest.mark.slow
  def test_student_has_its_own_image_size_and_resumes(self):
    recipe = fixtures.short_recipe(student_image_size=6, student_epochs=2)
    whole, result = self.train('whole', recipe)
    model = model_files.load(whole.model)
    self.assertEqual(model.input_shape, (None, 6, 6, 1))
    own = fixtures.blobs().at(6)
    scores = metrics.evaluate(predictors.open_predictor(whole.model), own.test)
    self.assertAlmostEqual(scores['accuracy'], result['accuracy'])
    theirs = metrics.logits(
      predictors.open_predictor(self.teacher), fixtures.blobs().test.images
    )
    ours = metrics.logits(
      predictors.open_predictor(whole.model), own.test.images
    )
    self.assertAlmostEqual(
      result['teacher_agreement'],
      float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
    )
    with (
      mock.patch.object(
        loop, '_check_finite', side_effect=[None, None, KeyboardInterrupt]
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train('cut', recipe, log_steps=1, checkpoint_steps=2)
    cut, _ = self.train('cut', recipe, log_steps=1, checkpoint_steps=2)
    for one, two in zip(
      model.weights, model_files.load(cut.model).weights, strict=True
    ):
      np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)

  @parameterized.parameters(
    ({'student_image_size': 16}, '8x8, made smaller; give a smaller size'),
    (
      {'student_image_size': 6, 'method': 'keras_distiller'},
      'the same images: leave out --student_image_size',
    ),
  )
  def test_student_image_size_that_cannot_be_is_refused(self, values, reason):
    with self.assertRaisesRegex(errors.UsageError, reason):
      self.train('a', fixtures.short_recipe(**values))
    self.assertEmpty(os.listdir(self.runs))

  def test_backbone_has_its_own_rate_and_the_fresh_head_that_of_all(self):
    path = os.path.join(self.runs, 'seven.keras')
    given = networks.random_student((8, 8, 1), 7)
    (norm,) = (layer for layer in given.layers if 'norm' in layer.name)
    norm.moving_mean.assign([100.0] * 4)
    given.save(path)
    run, _ = self.train(
      'a',
      fixtures.short_recipe(
        student=path,
        method='scratch',
        new_head=True,
        student_epochs=1,
        student_backbone_rate=1e-6,
      ),
    )
    trained = model_files.load(run.model)
    *backbone, kernel, bias = trained.trainable_weights
    self.assertEqual(kernel.shape[-1], 3)
    self.assertGreater(np.abs(bias).max(), 1e-3)
    for weight, first in zip(
      backbone, given.trainable_weights[:-2], strict=True
    ):
      np.testing.assert_allclose(weight, first, atol=1e-5)
    # The file's own statistics: 3 steps leave 0.9^3 of them, by 0.99 0.97.
    mean = trained.get_layer(norm.name).moving_mean
    np.testing.assert_allclose(mean, [72.9] * 4, atol=1)

  def test_rate_of_a_backbone_that_is_not_there_is_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--student_backbone_rate=0.1 is for layers .*: give --student_weights, ',
    ):
      self.train('a', fixtures.short_recipe(student_backbone_rate=0.1))
    self.assertEmpty(os.listdir(self.runs))

  def test_same_seed_starts_every_method_from_the_same_student(self):
    first = {}
    for method in ('ft', 'scratch'):
      with mock.patch.object(distillation, 'compile_steps') as compile_steps:
        compile_steps.side_effect = KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
          self.train(
            method,
            fixtures.short_recipe(method=method),
            compiled=programs.Programs(),
          )
        first[method] = compile_steps.call_args.args[1].get_weights()
    for a, b in zip(first['ft'], first['scratch'], strict=True):
      np.testing.assert_array_equal(a, b)


class NetworkOfKerasTest(parameterized.TestCase):
  @parameterized.parameters((32, 'mixed_bfloat16', 2), (64, 'float32', 1))
  @pytest.mark.slow
  def test_phones_network_learns_from_small_images(
    self, size, precision, replicas
  ):
    dataset = fixtures.blobs((size, size, 3), validation_examples=0)
    recipe = fixtures.short_recipe(
      mean=(0.5,) * 3,
      std=(0.25,) * 3,
      student='mobilenetv3smallx0.35',
      method='ft_no_paraphraser',
      validation_examples=0,
      student_epochs=4,
      precision=precision,
    )
    folder = self.create_tempdir().full_path
    teacher = os.path.join(folder, 'teacher.keras')
    keras.utils.set_random_seed(0)
    zoo.build('short', specs.spec(recipe, dataset)).save(teacher)
    run = run_dir.RunDir(os.path.join(folder, 'run'))
    result = student.train_student(
      recipe,
      dataset,
      teacher=teachers.load(teacher, dataset),
      run=run,
      strategy=fixtures.strategy(replicas),
      options=loop.Options(log_steps=1),
    )
    rows = run.metrics()
    self.assertLess(rows[-1]['cross_entropy'], rows[0]['cross_entropy'])
    # What is left is evaluated as it was, but for the moving statistics.
    again = metrics.evaluate(
      predictors.KerasPredictor(model_files.load(run.model)), dataset.test
    )
    self.assertAlmostEqual(again['accuracy'], result['accuracy'], delta=0.05)


if __name__ == '__main__':
  absltest.main()
