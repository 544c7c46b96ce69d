"""The student's step and stage: what moves, what is equal, what is kept."""

import contextlib
import io
import os
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing import event_accumulator

from ft_tf import errors, factors, losses, run_dir
from ft_tf.data import views
from ft_tf.methods import factor_transfer
from ft_tf.models import taps, zoo
from ft_tf.signals import cache
from ft_tf.training import common, loop, monitor, sgd, step, student
from tests import fixtures


def _build(recipe, strategy, seed=0):
  """Returns student, teacher, methods and optimizer, with weights by seed."""
  dataset = fixtures.blobs()
  spec = common.spec(recipe, dataset)
  keras.utils.set_random_seed(seed)
  with strategy.scope():
    net = zoo.build(recipe.student.model, spec)
    teacher = zoo.build(recipe.teacher.model, spec)
    paraphraser = factors.Paraphraser(recipe.paraphraser.rate)
    paraphraser.build(teacher.get_layer('group3').output.shape)
    methods = []
    if recipe.student.method == 'ft':
      methods = [
        factor_transfer.FactorTransfer(
          teacher=teacher,
          paraphraser=paraphraser,
          student=net,
          beta=recipe.student.beta,
          p=recipe.student.p,
          precision=recipe.precision,
        )
      ]
    optimizer, _ = sgd.make(recipe.student, 3.0, recipe.precision)
    optimizer.build(student.trained_variables(net, methods))
  return net, teacher, methods, optimizer


def _compile(strategy, net, methods, optimizer, **options):
  """Returns the compiled loop at batch size 16."""
  signal = None
  if methods:
    signal = student.compile_signal(methods, net.input_shape[1:])
  return student.compile_steps(
    strategy, net, methods, optimizer, 16, signal=signal, **options
  )


def _steps(recipe, strategy, count=3):
  """Runs some steps; returns all trained weights and the rows of terms."""
  net, _, methods, optimizer = _build(recipe, strategy)
  train_steps = _compile(strategy, net, methods, optimizer)
  stream = views.stream(
    fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=count
  )
  batches = iter(strategy.experimental_distribute_dataset(stream))
  terms = train_steps(batches, tf.constant(count))
  weights = net.get_weights() + [
    w for method in methods for w in method.adapter.get_weights()
  ]
  terms.pop(step.INPUT_WAIT)  # of this machine's clock
  return weights, {name: value.numpy() for name, value in terms.items()}


class StepTest(parameterized.TestCase):
  def test_first_step_is_the_papers_equation(self):
    recipe = fixtures.recipe(beta=7.0)
    strategy = fixtures.strategy()
    net, _, methods, optimizer = _build(recipe, strategy)
    (method,) = methods
    variables = student.trained_variables(net, methods)
    before = [v.numpy() for v in variables]
    stream = views.stream(
      fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=1
    )
    batch = next(iter(stream))
    outputs = taps.logits_and_features(net, method.student_layers)
    signal = method.signal(batch['image'])
    statistics = [w.numpy() for w in net.non_trainable_weights]
    with tf.GradientTape() as tape:
      logits, features = outputs(batch['image'], training=True)
      cross_entropy = tf.reduce_mean(
        losses.cross_entropy(logits, batch['label'])
      )
      transfer = tf.reduce_mean(
        losses.factor_transfer(method.adapter(features['group3']), signal)
      )
      loss = cross_entropy + 7.0 * transfer
    gradients = tape.gradient(loss, variables)
    for weight, value in zip(
      net.non_trainable_weights, statistics, strict=True
    ):
      weight.assign(value)

    train_steps = _compile(strategy, net, methods, optimizer)
    batches = iter(strategy.experimental_distribute_dataset(stream))
    terms = train_steps(batches, tf.constant(1))
    self.assertAlmostEqual(float(terms['loss'][0]), float(loss), places=4)
    self.assertAlmostEqual(
      float(terms['cross_entropy'][0]), float(cross_entropy), places=5
    )
    self.assertAlmostEqual(
      float(terms['factor_transfer'][0]), float(transfer), places=5
    )
    for old, gradient, variable in zip(
      before, gradients, variables, strict=True
    ):
      expected = old - 0.1 * (gradient.numpy() + 5e-4 * old)
      np.testing.assert_allclose(
        variable.numpy(), expected, atol=2e-5, err_msg=variable.path
      )

  def test_teacher_and_paraphraser_do_not_move(self):
    recipe = fixtures.recipe()
    strategy = fixtures.strategy()
    net, teacher, methods, optimizer = _build(recipe, strategy)
    frozen = methods[0].frozen
    self.assertIs(frozen[0], teacher)
    before = [model.get_weights() for model in frozen]
    moving = net.get_weights()
    train_steps = _compile(strategy, net, methods, optimizer)
    stream = views.stream(
      fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=3
    )
    train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(3)
    )
    for model, weights in zip(frozen, before, strict=True):
      for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    self.assertTrue(
      all(
        (now != then).any()
        for now, then in zip(net.get_weights(), moving, strict=True)
      )
    )

  @parameterized.parameters('ft', 'scratch')
  def test_compiled_equals_eager(self, method):
    recipe = fixtures.recipe(method=method)
    compiled, compiled_terms = _steps(recipe, fixtures.strategy(), 2)
    tf.config.run_functions_eagerly(True)
    try:
      eager, eager_terms = _steps(recipe, fixtures.strategy(), 2)
    finally:
      tf.config.run_functions_eagerly(False)
    for name in compiled_terms:
      np.testing.assert_allclose(
        compiled_terms[name], eager_terms[name], rtol=1e-4
      )
    for one, other in zip(compiled, eager, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-4)

  @parameterized.parameters('ft', 'scratch')
  def test_two_replicas_equal_one_when_batch_norm_is_synchronised(self, method):
    recipe = fixtures.recipe(method=method, sync_batch_norm=True)
    one, one_terms = _steps(recipe, fixtures.strategy(1), 1)
    two, two_terms = _steps(recipe, fixtures.strategy(2), 1)
    for name in one_terms:
      np.testing.assert_allclose(one_terms[name], two_terms[name], rtol=1e-4)
    for a, b in zip(one, two, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)

  def test_two_replicas_differ_when_each_normalises_its_own_half(self):
    recipe = fixtures.recipe(method='scratch')
    _, one = _steps(recipe, fixtures.strategy(1), 1)
    _, two = _steps(recipe, fixtures.strategy(2), 1)
    self.assertGreater(abs(one['loss'][0] - two['loss'][0]), 1e-4)

  def test_kept_signal_in_float16_gives_the_same_loss_within_a_thousandth(self):
    recipe = fixtures.recipe()
    strategy = fixtures.strategy()
    found = []
    for kept in (False, True):
      net, _, methods, optimizer = _build(recipe, strategy)
      signal = student.compile_signal(methods, net.input_shape[1:])
      train = fixtures.blobs().train.take(np.arange(16))
      batch = {'image': train.images, 'label': train.labels}
      if kept:
        batch['signal'] = np.float16(signal.rows(train.images))
      stream = tf.data.Dataset.from_tensors(batch)
      train_steps = student.compile_steps(
        strategy, net, methods, optimizer, 16, signal=signal
      )
      terms = train_steps(
        iter(strategy.experimental_distribute_dataset(stream)), tf.constant(1)
      )
      found.append((terms, net.get_weights()))
    (computed, weights), (kept, kept_weights) = found
    for name in ('factor_transfer', 'loss'):
      np.testing.assert_allclose(kept[name], computed[name], rtol=1e-3)
    self.assertNotEqual(
      float(kept['factor_transfer'][0]), float(computed['factor_transfer'][0])
    )
    for ours, theirs in zip(kept_weights, weights, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-3)

  @parameterized.parameters('mixed_bfloat16', 'mixed_float16')
  def test_half_precision_starts_from_the_same_loss(self, precision):
    _, full = _steps(fixtures.recipe(), fixtures.strategy(), 1)
    weights, half = _steps(
      fixtures.recipe(precision=precision), fixtures.strategy(), 1
    )
    for name in ('cross_entropy', 'factor_transfer'):
      np.testing.assert_allclose(half[name], full[name], rtol=0.03)
    for weight in weights:
      self.assertEqual(weight.dtype, np.float32)

  def test_xla_takes_the_same_step(self):
    recipe, strategy = fixtures.recipe(), fixtures.strategy()
    stepped = []
    for jit in (False, True):
      net, _, methods, optimizer = _build(recipe, strategy)
      train_steps = _compile(strategy, net, methods, optimizer, jit=jit)
      stream = views.stream(
        fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=1
      )
      terms = train_steps(
        iter(strategy.experimental_distribute_dataset(stream)), tf.constant(1)
      )
      stepped.append((terms, net.get_weights()))
    (plain, weights), (by_xla, weights_by_xla) = stepped
    for name in ('loss', 'cross_entropy', 'factor_transfer'):
      np.testing.assert_allclose(by_xla[name], plain[name], rtol=1e-4)
    for ours, theirs in zip(weights_by_xla, weights, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-4)


class TrainStudentTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # An untrained teacher serves: these tests are about the stage.
    recipe = fixtures.recipe()
    cls.strategy = fixtures.strategy()
    net, teacher, methods, _ = _build(recipe, cls.strategy, seed=5)
    del net
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.teacher = os.path.join(cls.folder, 'teacher.keras')
    cls.paraphraser = os.path.join(cls.folder, 'paraphraser.keras')
    teacher.save(cls.teacher)
    methods[0].frozen[1].save(cls.paraphraser)

  def setUp(self):
    super().setUp()
    self.runs = self.create_tempdir().full_path

  def _train(self, name, recipe=None, signals=None, **options):
    run = run_dir.RunDir(os.path.join(self.runs, name))
    result = student.train_student(
      recipe or fixtures.recipe(),
      fixtures.blobs(),
      teacher=self.teacher,
      paraphraser=self.paraphraser,
      run=run,
      strategy=self.strategy,
      options=loop.Options(**{'log_steps': 2, **options}),
      signals=signals,
    )
    return run, result

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
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self._train('seed', fixtures.recipe(views=2, seed=1), store)
    self.assertIn('all 2 views were there', said.getvalue())

  @parameterized.parameters(
    {'view_seed': 1},
    {'pad': 2},
    {'flip': True},
    {'precision': 'mixed_bfloat16'},
  )
  def test_signals_of_another_setting_are_not_taken(self, **changes):
    store = cache.Store('memory')
    self._train('one', fixtures.recipe(views=1), store)
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self._train('other', fixtures.recipe(views=1, **changes), store)
    self.assertIn('signals: view 0, 1 of 1', said.getvalue())

  def test_signals_of_another_teacher_are_not_taken(self):
    store = cache.Store('memory')
    recipe = fixtures.recipe(views=1)
    self._train('one', recipe, store)
    net = keras.models.load_model(self.teacher)
    net.get_layer('conv').kernel.assign_add(
      0.01 * np.ones(net.get_layer('conv').kernel.shape)
    )
    path = os.path.join(self.runs, 'teacher.keras')
    net.save(path)
    with (
      mock.patch.object(type(self), 'teacher', path),
      contextlib.redirect_stderr(io.StringIO()) as said,
    ):
      self._train('other', recipe, store)
    self.assertIn('signals: view 0, 1 of 1', said.getvalue())

  def test_run_leaves_the_files_of_the_contract(self):
    run, result = self._train('a')
    self.assertEqual(run.read('result.json'), result)
    self.assertEqual((result['method'], result['seed']), ('ft', 0))
    self.assertEqual(result['steps'], 9)
    self.assertEqual(result['examples'], 24)
    self.assertGreater(result['wall_seconds'], 0)
    alone = keras.models.load_model(run.model)
    self.assertEqual(result['parameters'], common.parameters(alone))
    # The student alone: no translator, no teacher.
    self.assertEqual(
      alone.count_params(),
      zoo.build(
        'resnet8x0.25', common.spec(fixtures.recipe(), fixtures.blobs())
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
        'train/loss',
        'train/cross_entropy',
        'train/factor_transfer',
        'train/accuracy',
        'validation/accuracy',
        'run/learning_rate',
        'run/images_per_second',
        'run/input_wait',
        'run/compile_seconds',
        'maps',
        'recipe',
        'test/accuracy',
      },
      tags,
    )
    self.assertIn(
      'hparams',
      events.summary_metadata['_hparams_/experiment'].plugin_data.plugin_name,
    )
    text = events.Tensors('recipe')[0].tensor_proto.string_val[0].decode()
    self.assertIn('"beta": 10.0', text)

  def test_resumed_run_equals_one_that_was_never_cut_off(self):
    whole, expected = self._train('whole', checkpoint_steps=2)
    row = monitor.Monitor.row

    def cut(watch, values):
      if values['step'] == 5:
        raise KeyboardInterrupt
      row(watch, values)

    with (
      mock.patch.object(monitor.Monitor, 'row', cut),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._train('cut', checkpoint_steps=2, log_steps=1)
    resumed, result = self._train('cut', checkpoint_steps=2)
    same = ('accuracy', 'loss', 'steps', 'validation_accuracy')
    for name in same:
      self.assertAlmostEqual(result[name], expected[name], places=5)
    for a, b in zip(
      keras.models.load_model(resumed.model).get_weights(),
      keras.models.load_model(whole.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_allclose(a, b, atol=1e-5)
    steps = [r['step'] for r in resumed.metrics()]
    self.assertEqual(steps, sorted(set(steps)))
    self.assertLen(resumed.read('environment.json'), 2)

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
      errors.UsageError, r'student\.beta: 10\.0 there, 11\.0 here'
    ):
      self._train('a', fixtures.recipe(beta=11.0))

  def test_loss_that_is_not_finite_stops_the_run_and_names_the_term(self):
    recipe = fixtures.recipe(student_learning_rate=1e30)
    with self.assertRaisesRegex(
      errors.TrainingError,
      r'cross_entropy is (nan|inf).* at step \d.*ckpt-1: .*lower learning rate',
    ):
      self._train('a', recipe, checkpoint_steps=1)

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

  def test_same_seed_starts_every_method_from_the_same_student(self):
    first = {}
    for method in ('ft', 'scratch'):
      with mock.patch.object(student, 'compile_steps') as compile_steps:
        compile_steps.side_effect = KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
          self._train(method, fixtures.recipe(method=method))
        first[method] = compile_steps.call_args.args[1].get_weights()
    for a, b in zip(first['ft'], first['scratch'], strict=True):
      np.testing.assert_array_equal(a, b)


if __name__ == '__main__':
  absltest.main()
