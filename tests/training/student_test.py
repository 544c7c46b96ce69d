"""The student's stage: its files, its figures, and that it continues."""

import contextlib
import io
import os
import tempfile
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing import event_accumulator

from ft_tf import errors, factors, run_dir, specs, teachers
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import feature_maps, model_files, zoo
from ft_tf.signals import cache
from ft_tf.training import (
  distillation,
  loop,
  monitor,
  paraphraser,
  student,
)
from tests import fixtures, networks


class TrainStudentTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # An untrained teacher serves: these tests are about the stage.
    recipe = fixtures.recipe()
    cls.strategy = fixtures.strategy()
    keras.utils.set_random_seed(5)
    spec = specs.spec(recipe, fixtures.blobs())
    teacher = zoo.build(recipe.teacher.model, spec)
    network = factors.Paraphraser(recipe.paraphraser.rate)
    network.build(teacher.get_layer('group3').output.shape)
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.teacher = os.path.join(cls.folder, 'teacher.keras')
    cls.paraphraser = os.path.join(cls.folder, 'paraphraser.keras')
    teacher.save(cls.teacher)
    network.save(cls.paraphraser)

  def setUp(self):
    super().setUp()
    self.runs = self.create_tempdir().full_path

  def _train(
    self,
    name,
    recipe=None,
    signals=None,
    paraphrasers=None,
    dataset=None,
    **options,
  ):
    run = run_dir.RunDir(os.path.join(self.runs, name))
    dataset = dataset or fixtures.blobs()
    result = student.train_student(
      recipe or fixtures.recipe(),
      dataset,
      teacher=self.teacher and teachers.load(self.teacher, dataset),
      paraphrasers=[
        paraphraser.load(path) for path in paraphrasers or [self.paraphraser]
      ],
      run=run,
      strategy=self.strategy,
      options=loop.Options(**{'log_steps': 2, **options}),
      signals=signals,
    )
    return run, result

  def _signals(self, recipe, store):
    """Returns what is said while signals are kept; nothing is trained."""
    with (
      mock.patch.object(loop, 'run', side_effect=KeyboardInterrupt),
      contextlib.redirect_stderr(io.StringIO()) as said,
      self.assertRaises(KeyboardInterrupt),
    ):
      number = len(os.listdir(self.runs))
      self._train(f'signals-{number}', recipe, store)
    return said.getvalue()

  def _paraphrasers(self, *layers):
    """Saves an untrained paraphraser of each layer; returns the files."""
    teacher, paths = model_files.load(self.teacher), []
    for layer in layers:
      paths.append(os.path.join(self.runs, f'{layer}.keras'))
      its = factors.Paraphraser(0.5, layer=layer)
      its.build((None, *feature_maps.shape(teacher, layer)))
      its.save(paths[-1])
    return paths

  @pytest.mark.slow
  def test_kept_signals_serve_later_epochs_and_seeds(self):
    recipe = fixtures.recipe(views=2)
    _, alone = self._train('alone', recipe)
    said = io.StringIO()
    store = cache.Store(os.path.join(self.runs, 'signals'))
    with contextlib.redirect_stderr(said):
      _, kept = self._train('kept', recipe, store)
    self.assertIn('signals: view 1, 2 of 2', said.getvalue())
    self.assertAlmostEqual(kept['loss'], alone['loss'], places=2)
    # Other seeds and lengths, another process: nothing is computed again.
    store = cache.Store(os.path.join(self.runs, 'signals'))
    said = self._signals(fixtures.recipe(views=2, seed=1), store)
    self.assertIn('all 2 views were there', said)

  @pytest.mark.slow
  def test_kept_signals_reach_to_the_end_of_the_last_batch(self):
    # 3 epochs of 48 images are 7.2 batches of 20: the last is full.
    recipe = fixtures.recipe(batch_size=20)
    _, result = self._train('kept', recipe, cache.Store('memory'))
    self.assertEqual(result['steps'], 8)

  @parameterized.parameters(
    {'view_seed': 1},
    {'pad': 2},
    {'flip': True},
    {'precision': 'mixed_bfloat16'},
  )
  def test_signals_of_another_setting_are_not_taken(self, **changes):
    store = cache.Store('memory')
    self._signals(fixtures.recipe(views=1), store)
    said = self._signals(fixtures.recipe(views=1, **changes), store)
    self.assertIn('signals: view 0, 1 of 1', said)

  def test_signals_of_another_teacher_are_not_taken(self):
    store = cache.Store('memory')
    recipe = fixtures.recipe(views=1)
    self._signals(recipe, store)
    net = keras.models.load_model(self.teacher)
    net.get_layer('conv').kernel.assign_add(
      0.01 * np.ones(net.get_layer('conv').kernel.shape)
    )
    path = os.path.join(self.runs, 'teacher.keras')
    net.save(path)
    with mock.patch.object(type(self), 'teacher', path):
      said = self._signals(recipe, store)
    self.assertIn('signals: view 0, 1 of 1', said)

  def test_run_leaves_the_files_of_the_contract(self):
    run, result = self._train('a')
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
        'resnet8x0.25', specs.spec(fixtures.recipe(), fixtures.blobs())
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
    run, _ = self._train('a')
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

  def test_resumed_run_equals_one_that_was_never_cut_off(self):
    self._resumes(fixtures.recipe(method='ft'))

  @parameterized.parameters('ofd', 'sp')
  @pytest.mark.slow
  def test_other_methods_resume_too(self, method):
    self._resumes(fixtures.recipe(method=method))

  def test_resumed_run_draws_the_same_random_numbers(self):
    self._resumes_with_random_layers('scratch')

  @pytest.mark.slow
  def test_resumed_run_of_a_method_draws_the_same_random_numbers(self):
    self._resumes_with_random_layers('sp')

  def _resumes_with_random_layers(self, method):
    path = os.path.join(self.runs, 'random.keras')
    networks.random_student((8, 8, 1), 3).save(path)
    self._resumes(fixtures.recipe(method=method, student=path), exactly=True)

  @pytest.mark.slow
  def test_resumed_mobilenet_draws_the_same_random_numbers(self):
    self.teacher = None  # the class's is of smaller images
    recipe = fixtures.recipe(method='scratch', student='mobilenetv3small')
    self._resumes(recipe, exactly=True, dataset=fixtures.blobs((32, 32, 1)))

  def test_checkpoint_without_random_states_is_refused(self):
    path = os.path.join(self.runs, 'random.keras')
    networks.random_student((8, 8, 1), 3).save(path)
    recipe = fixtures.recipe(method='scratch', student=path)
    with (
      mock.patch.object(loop, '_random_states', return_value={}),
      mock.patch.object(
        student.StudentStage, 'score', side_effect=KeyboardInterrupt
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._train('old', recipe)
    with self.assertRaisesRegex(errors.UsageError, 'another --workdir'):
      self._train('old', recipe)

  def _resumes(self, recipe, *, exactly=False, dataset=None):
    tolerance = 0 if exactly else 1e-5
    whole, expected = self._train(
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
      self._train(
        'cut', recipe, dataset=dataset, checkpoint_steps=2, log_steps=1
      )
    resumed, result = self._train(
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

  def test_teacher_of_values_that_are_not_finite_is_named(self):
    image = keras.Input((8, 8, 1), dtype='uint8')
    x = keras.layers.Rescaling(1 / 255)(image)
    maps = keras.layers.Conv2D(4, 3, name='maps')(x)
    maps = keras.layers.ReLU()(maps / (maps - maps))
    x = keras.layers.GlobalAveragePooling2D()(maps)
    self.teacher = os.path.join(self.runs, 'infinite.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(self.teacher)
    recipe = fixtures.recipe(method='kd')
    with self.assertRaisesRegex(
      errors.TrainingError, r'at step 1; .*the teacher \S*infinite\.keras are'
    ):
      self._train('a', recipe)

  def test_complete_run_is_not_trained_again(self):
    run, result = self._train('a')
    written = os.path.getmtime(run.model)
    with mock.patch.object(loop, 'run', side_effect=AssertionError):
      _, again = self._train('a')
    self.assertEqual(again, result)
    self.assertEqual(os.path.getmtime(run.model), written)

  def test_other_recipe_in_the_folder_is_refused_by_field(self):
    self._train('a')
    with self.assertRaisesRegex(
      errors.UsageError, r'student\.beta: 10\.0 saved, 11\.0 given'
    ):
      self._train('a', fixtures.recipe(beta=11.0))

  def test_loss_that_is_not_finite_stops_the_run_and_names_the_term(self):
    recipe = fixtures.recipe(student_learning_rate=1e30)
    with self.assertRaisesRegex(
      errors.TrainingError,
      r'cross_entropy is (nan|inf).* at step \d.*ckpt-1: .*lower learning rate',
    ):
      self._train('a', recipe, checkpoint_steps=1)

  def test_test_figures_stand_beside_those_of_the_best_epoch(self):
    run, result = self._train('a')
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
    kept = predictors.open_predictor(os.path.join(run.path, student.BEST))
    scores = metrics.evaluate(kept, fixtures.blobs().validation)
    self.assertAlmostEqual(scores['accuracy'], best)
    self.assertAlmostEqual(
      metrics.evaluate(kept, test)['accuracy'], result['best_accuracy']
    )

  def test_beta_auto_gives_the_factor_loss_its_share_of_the_gradient(self):
    recipe = fixtures.recipe(beta='auto', beta_ratio=0.5, student_epochs=1)
    run, _ = self._train('a', recipe, log_steps=1)
    beta = run.read('beta.json')['factor_transfer']
    rows = run.metrics()
    for row in rows:
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + beta * row['factor_transfer'],
        places=4,
      )
    # The same student with that beta, given, has that ratio before any step.
    recipe = fixtures.recipe(
      beta=beta, beta_elements=0, student_epochs=1, student_learning_rate=1e-12
    )
    run, _ = self._train('b', recipe)
    ratio = run.metrics()[-1]['gradient_ratio_factor_transfer']
    self.assertAlmostEqual(ratio, 0.5, places=2)

  def test_beta_auto_is_not_measured_again_by_a_run_that_continues(self):
    run = run_dir.RunDir(os.path.join(self.runs, 'a'))
    os.makedirs(run.path)
    run.write('beta.json', 3.0)
    _, _ = self._train('a', fixtures.recipe(beta='auto'))
    for row in run.metrics():
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + 3 * row['factor_transfer'],
        places=4,
      )

  @pytest.mark.slow
  def test_several_layers_have_a_term_each_and_resume(self):
    recipe = fixtures.recipe(
      teacher_layer='-2,auto', student_layer='-2,auto', beta='auto'
    )
    paths = self._paraphrasers('group2', 'group3')
    names = ('factor_transfer_1', 'factor_transfer_2')
    whole, _ = self._train('whole', recipe, paraphrasers=paths, log_steps=1)
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
        os.path.exists(os.path.join(whole.path, student.ADAPTER.format(name)))
      )
    # Cut off behind the second of nine steps; the signals are kept this time.
    with (
      mock.patch.object(
        loop, '_check_finite', side_effect=[None, None, KeyboardInterrupt]
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._train(
        'cut', recipe, paraphrasers=paths, log_steps=1, checkpoint_steps=2
      )
    cut, _ = self._train(
      'cut', recipe, paraphrasers=paths, log_steps=1, checkpoint_steps=2
    )
    for one, two in zip(
      model_files.load(whole.model).weights,
      model_files.load(cut.model).weights,
      strict=True,
    ):
      np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    with self.assertRaisesRegex(errors.UsageError, '2 layers, and has 1'):
      self._train('one', recipe, paraphrasers=paths[:1])

  @pytest.mark.slow
  def test_signals_of_several_layers_are_kept_apart(self):
    recipe = fixtures.recipe(
      teacher_layer='-2,auto', student_layer='-2,auto', views=1
    )
    paths = self._paraphrasers('group2', 'group3')
    kept, _ = self._train(
      'kept', recipe, cache.Store('memory'), paraphrasers=paths
    )
    live, _ = self._train('live', recipe, paraphrasers=paths)
    for name in ('factor_transfer_1', 'factor_transfer_2'):
      ours, theirs = kept.metrics()[0][name], live.metrics()[0][name]
      self.assertAlmostEqual(ours / theirs, 1, delta=1e-3)

  def test_terms_that_methods_share_are_computed_once(self):
    store = cache.Store('memory')
    said = {}
    for method in ('ft', 'kd', 'ft+kd', 'dkd'):
      said[method] = self._signals(
        fixtures.recipe(method=method, views=1), store
      )
    for method, computed in (('ft', 1), ('kd', 1), ('ft+kd', 0), ('dkd', 0)):
      self.assertEqual(said[method].count('1 of 1'), computed, method)
    self.assertEqual(said['ft+kd'].count('were there'), 2)

  def test_scratch_needs_no_teacher(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    result = student.train_student(
      fixtures.recipe(method='scratch'),
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
        fixtures.recipe(),
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
      method: self._train(
        method, fixtures.recipe(method=method), dataset=dataset
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
      self._train('ft', dataset=fixtures.blobs_and_unlabelled(8))

  @pytest.mark.slow
  def test_signals_are_kept_of_images_without_labels_too(self):
    dataset = fixtures.blobs_and_unlabelled()
    recipe = fixtures.recipe(views=1, method='ft+kd')
    kept, _ = self._train(
      'kept', recipe, cache.Store('memory'), dataset=dataset
    )
    live, _ = self._train('live', recipe, dataset=dataset)
    for ours, theirs in zip(kept.metrics(), live.metrics(), strict=True):
      for name in ('factor_transfer', 'kd', 'cross_entropy'):
        self.assertAlmostEqual(ours[name] / theirs[name], 1, delta=0.02)

  def test_batch_may_be_larger_than_both_kinds_of_images(self):
    recipe = fixtures.recipe(batch_size=128, student_epochs=1)
    run, result = self._train(
      'a', recipe, dataset=fixtures.blobs_and_unlabelled()
    )
    self.assertEqual(result['steps'], 1)
    self.assertGreater(run.metrics()[0]['gradient_ratio_factor_transfer'], 0)

  def test_method_that_reads_labels_refuses_images_without(self):
    recipe = fixtures.recipe(method='ft+dkd', unlabeled='pictures')
    with self.assertRaisesRegex(
      errors.UsageError, '--unlabeled: the loss of dkd needs labels'
    ):
      self._train('a', recipe, dataset=fixtures.blobs_and_unlabelled())
    self.assertEmpty(os.listdir(self.runs))

  @pytest.mark.slow
  def test_student_has_its_own_image_size_and_resumes(self):
    recipe = fixtures.recipe(student_image_size=6, student_epochs=2)
    whole, result = self._train('whole', recipe)
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
      self._train('cut', recipe, log_steps=1, checkpoint_steps=2)
    cut, _ = self._train('cut', recipe, log_steps=1, checkpoint_steps=2)
    for one, two in zip(
      model.weights, model_files.load(cut.model).weights, strict=True
    ):
      np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)

  def test_signals_serve_students_of_every_image_size(self):
    store = cache.Store('memory')
    self._signals(fixtures.recipe(views=1), store)
    said = self._signals(fixtures.recipe(views=1, student_image_size=7), store)
    self.assertIn('all 1 views were there', said)

  @parameterized.parameters(
    ({'student_image_size': 16}, '8x8, made smaller; give a smaller size'),
    (
      {'student_image_size': 6, 'method': 'keras_distiller'},
      'the same images: leave out --student_image_size',
    ),
  )
  def test_student_image_size_that_cannot_be_is_refused(self, values, reason):
    with self.assertRaisesRegex(errors.UsageError, reason):
      self._train('a', fixtures.recipe(**values))
    self.assertEmpty(os.listdir(self.runs))

  def test_same_seed_starts_every_method_from_the_same_student(self):
    first = {}
    for method in ('ft', 'scratch'):
      with mock.patch.object(distillation, 'compile_steps') as compile_steps:
        compile_steps.side_effect = KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
          self._train(method, fixtures.recipe(method=method))
        first[method] = compile_steps.call_args.args[1].get_weights()
    for a, b in zip(first['ft'], first['scratch'], strict=True):
      np.testing.assert_array_equal(a, b)


class NetworkOfKerasTest(parameterized.TestCase):
  @parameterized.parameters((32, 'mixed_bfloat16', 2), (64, 'float32', 1))
  @pytest.mark.slow
  def test_phones_network_learns_from_small_images(
    self, size, precision, replicas
  ):
    dataset = fixtures.blobs((size, size, 3))
    recipe = fixtures.recipe(
      mean=(0.5,) * 3,
      std=(0.25,) * 3,
      student='mobilenetv3smallx0.35',
      method='ft_no_paraphraser',
      student_epochs=8,
      precision=precision,
    )
    folder = self.create_tempdir().full_path
    teacher = os.path.join(folder, 'teacher.keras')
    keras.utils.set_random_seed(0)
    zoo.build('resnet8x0.25', specs.spec(recipe, dataset)).save(teacher)
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
