"""The student's step: what moves, what is equal, whatever the method."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import definitions, factors, losses, specs
from ft_tf.data import views
from ft_tf.methods import factor_transfer, registry
from ft_tf.models import fused, taps, zoo
from ft_tf.signals import compiled
from ft_tf.training import distillation, optimizers, step
from tests import cosine, fixtures

_METHODS = ('scratch', *definitions.registered(), 'ft+kd', 'at+kd')
# Whose loss has no, a map's, a probability's and a translated signal.
# Without strided 1x1 convolutions, whose gradient oneDNN gets wrong in plain
# layers, which tests compare with; see models/fused.py.
_PLAIN = 'resnet8x0.25-parameter-free'
_CORE = ('scratch', 'fitnet', 'kd', 'ft')


def _parts(recipe, strategy, seed=0, shape=(8, 8, 1)):
  """Returns student, teacher, terms and optimizer, with weights by seed."""
  dataset = fixtures.blobs(shape)
  spec = specs.spec(recipe, dataset)
  keras.utils.set_random_seed(seed)
  with strategy.scope():
    net = specs.build_student(recipe, dataset)
    teacher = zoo.build(recipe.teacher.model, spec)
    rate = factor_transfer.paraphrase_rate(recipe, teacher, net)
    paraphraser = factors.Paraphraser(rate)
    paraphraser.build(teacher.get_layer('group3').output.shape)
    methods = registry.make(
      recipe,
      registry.Parts(
        teacher=teacher,
        student=net,
        paraphrasers=[paraphraser],
        examples=dataset.train,
      ),
    )
    optimizer, _ = optimizers.make(recipe.student, 3.0, recipe.precision)
    optimizer.build(distillation.trained_variables(net, methods))
  return net, teacher, methods, optimizer


def _compile(recipe, strategy, net, teacher, methods, optimizer, **options):
  """Returns the compiled loop at batch size 16."""
  signal = None
  if methods:
    signal = compiled.compile_signal(teacher, methods, recipe.precision)
  return distillation.compile_steps(
    strategy,
    net,
    methods,
    optimizer,
    distillation.make_forward(fused.fuse(net), methods, 16, signal=signal),
    **options,
  )


def _stream(recipe, strategy, count):
  stream = views.stream(
    fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=count
  )
  return iter(strategy.experimental_distribute_dataset(stream))


def _steps(recipe, strategy, count=3, **options):
  """Runs some steps; returns all trained weights and the rows of terms."""
  net, teacher, methods, optimizer = _parts(recipe, strategy)
  train_steps = _compile(
    recipe, strategy, net, teacher, methods, optimizer, **options
  )
  terms = train_steps(_stream(recipe, strategy, count), tf.constant(count))
  weights = [
    w
    for model in distillation.trained_models(net, methods)
    for w in model.get_weights()
  ]
  terms.pop(step.INPUT_WAIT)  # of this machine's clock
  return weights, {name: value.numpy() for name, value in terms.items()}


class ConformanceTest(parameterized.TestCase):
  """What every method must hold."""

  @parameterized.parameters(*_CORE)
  def test_compiled_equals_eager(self, method):
    self._compiled_equals_eager(method)

  @parameterized.parameters(('ft',))
  def test_two_replicas_equal_one_when_batch_norm_is_synchronised(self, method):
    self._two_replicas_equal_one_when_batch_norm_is_synchronised(method)

  @parameterized.parameters(*(m for m in _CORE if m != 'ft'))
  @pytest.mark.slow
  def test_two_replicas_equal_one_by_the_other_core_methods(self, method):
    self._two_replicas_equal_one_when_batch_norm_is_synchronised(method)

  @parameterized.parameters(*_CORE)
  def test_a_step_moves_all_of_the_student_once_and_no_teacher(self, method):
    self._a_step_moves_all_of_the_student_once_and_no_teacher(method)

  @parameterized.parameters(*_CORE)
  def test_kept_signal_gives_the_same_loss_within_a_thousandth(self, method):
    self._kept_signal_gives_the_same_loss_within_a_thousandth(method)

  @parameterized.parameters(*_CORE)
  def test_student_saved_alone_equals_the_student_in_training(self, method):
    self._student_saved_alone_equals_the_student_in_training(method)

  @parameterized.parameters(*(m for m in _METHODS if m not in _CORE))
  @pytest.mark.slow
  def test_all_of_it_holds_for_the_other_methods(self, method):
    self._all_of_it_holds(method)

  def test_a_step_by_a_method_that_no_source_names(self):
    with cosine.registered():
      self._a_step_moves_all_of_the_student_once_and_no_teacher('cosine')

  @pytest.mark.slow
  def test_all_of_it_holds_for_a_sum_with_a_method_that_no_source_names(self):
    with cosine.registered():
      self._all_of_it_holds('ft+cosine')

  def _all_of_it_holds(self, method):
    for holds in (
      self._compiled_equals_eager,
      self._two_replicas_equal_one_when_batch_norm_is_synchronised,
      self._a_step_moves_all_of_the_student_once_and_no_teacher,
      self._kept_signal_gives_the_same_loss_within_a_thousandth,
      self._student_saved_alone_equals_the_student_in_training,
    ):
      with self.subTest(holds.__name__):
        holds(method)

  def _compiled_equals_eager(self, method):
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

  def _two_replicas_equal_one_when_batch_norm_is_synchronised(self, method):
    recipe = fixtures.recipe(
      method=method,
      sync_batch_norm=True,
      translator_batch_norm=True,
      **fixtures.AUGMENTED,
    )
    one, one_terms = _steps(recipe, fixtures.strategy(1), 1)
    two, two_terms = _steps(recipe, fixtures.strategy(2), 1)
    for name in one_terms:
      np.testing.assert_allclose(one_terms[name], two_terms[name], rtol=1e-4)
    for a, b in zip(one, two, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)

  def _a_step_moves_all_of_the_student_once_and_no_teacher(self, method):
    recipe, strategy = fixtures.recipe(method=method), fixtures.strategy()
    net, teacher, methods, optimizer = _parts(recipe, strategy)
    frozen = [teacher, *(model for m in methods for model in m.frozen)]
    before = [model.get_weights() for model in frozen]
    moving = net.get_weights()
    batch = next(_stream(recipe, strategy, 1))
    # One forward pass moves batch norm's statistics once.
    twin = keras.models.clone_model(net)
    twin.set_weights(moving)
    fused.fuse(twin)(batch['image'], training=True)
    train_steps = _compile(recipe, strategy, net, teacher, methods, optimizer)
    train_steps(_stream(recipe, strategy, 1), tf.constant(1))
    for ours, theirs in zip(
      net.non_trainable_weights, twin.non_trainable_weights, strict=True
    ):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for weight, then in zip(net.weights, moving, strict=True):
      if weight.trainable or 'moving' in weight.name:
        self.assertTrue((weight.numpy() != then).any(), weight.path)
    for model, weights in zip(frozen, before, strict=True):
      for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)

  def _kept_signal_gives_the_same_loss_within_a_thousandth(self, method):
    if method == 'scratch':
      return  # It has none.
    recipe, strategy = fixtures.recipe(method=method), fixtures.strategy()
    found = []
    for kept in (False, True):
      net, teacher, methods, optimizer = _parts(recipe, strategy)
      signal = compiled.compile_signal(teacher, methods, recipe.precision)
      train = fixtures.blobs().train.take(np.arange(16))
      batch = {'image': train.images, 'label': train.labels}
      if kept:
        rows = [
          compiled.compile_signal(teacher, [m], recipe.precision).rows(
            train.images
          )
          for m in methods
        ]
        batch['signal'] = np.float16(np.concatenate(rows, axis=1))
      stream = tf.data.Dataset.from_tensors(batch)
      train_steps = distillation.compile_steps(
        strategy,
        net,
        methods,
        optimizer,
        distillation.make_forward(fused.fuse(net), methods, 16, signal=signal),
      )
      terms = train_steps(
        iter(strategy.experimental_distribute_dataset(stream)), tf.constant(1)
      )
      found.append((terms, net.get_weights()))
    (computed, weights), (kept, kept_weights) = found
    for name in ('loss', *(m.name for m in methods)):
      np.testing.assert_allclose(kept[name], computed[name], rtol=1e-3)
      if name != 'loss':
        self.assertNotEqual(float(kept[name][0]), float(computed[name][0]))
    for ours, theirs in zip(kept_weights, weights, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-3)

  def _student_saved_alone_equals_the_student_in_training(self, method):
    recipe, strategy = fixtures.recipe(method=method), fixtures.strategy()
    net, teacher, methods, optimizer = _parts(recipe, strategy)
    train_steps = _compile(recipe, strategy, net, teacher, methods, optimizer)
    train_steps(_stream(recipe, strategy, 2), tf.constant(2))
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    net.save(path)
    alone = keras.models.load_model(path)
    images = fixtures.blobs().test.images
    np.testing.assert_array_equal(alone(images), net(images))
    self.assertEqual(
      [w.path.split('/')[-2:] for w in alone.weights],
      [w.path.split('/')[-2:] for w in net.weights],
    )


class StepTest(parameterized.TestCase):
  def test_first_step_is_the_papers_equation(self):
    recipe = fixtures.recipe(beta=7.0, beta_elements=0, student=_PLAIN)
    strategy = fixtures.strategy()
    net, teacher, methods, optimizer = _parts(recipe, strategy)
    (method,) = methods
    variables = distillation.trained_variables(net, methods)
    before = [v.numpy() for v in variables]
    batch = next(_stream(recipe, strategy, 1))
    outputs = taps.logits_and_features(net, method.student_layers)
    feature = taps.features(teacher, ['group3'])(batch['image'])['group3']
    signal = method.frozen[0].encode(feature)
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
    found = tape.gradient(loss, variables)
    for weight, value in zip(
      net.non_trainable_weights, statistics, strict=True
    ):
      weight.assign(value)

    train_steps = _compile(recipe, strategy, net, teacher, methods, optimizer)
    terms = train_steps(_stream(recipe, strategy, 1), tf.constant(1))
    self.assertAlmostEqual(float(terms['loss'][0]), float(loss), places=4)
    self.assertAlmostEqual(
      float(terms['cross_entropy'][0]), float(cross_entropy), places=5
    )
    self.assertAlmostEqual(
      float(terms['factor_transfer'][0]), float(transfer), places=5
    )
    for old, gradient, variable in zip(before, found, variables, strict=True):
      expected = old - 0.1 * (gradient.numpy() + 5e-4 * old)
      np.testing.assert_allclose(
        variable.numpy(), expected, atol=2e-5, err_msg=variable.path
      )

  def test_loss_is_the_weighted_sum_with_the_labels_share(self):
    recipe = fixtures.recipe(
      method='ft+kd', beta=7.0, beta_elements=0, kd_alpha=0.75
    )
    _, terms = _steps(recipe, fixtures.strategy(), 1)
    np.testing.assert_allclose(
      terms['loss'],
      0.25 * terms['cross_entropy']
      + 0.75 * terms['kd']
      + 7.0 * terms['factor_transfer'],
      rtol=1e-5,
    )

  def _forward(self, net, teacher, methods, **options):
    signal = compiled.compile_signal(teacher, methods, 'float32')
    return distillation.make_forward(
      fused.fuse(net), methods, 16, signal=signal, **options
    )

  def test_weights_of_classes_count_in_cross_entropy_alone(self):
    some = fixtures.blobs().train.take(np.arange(16))
    image, labels = tf.constant(some.images), some.labels
    batch = {'image': image, 'label': tf.constant(labels)}
    half = np.where(np.arange(16) % 2, -1, labels)
    recipe = fixtures.recipe(student=_PLAIN, method='ft+kd', kd_alpha=0.75)
    net, teacher, methods, _ = _parts(recipe, fixtures.strategy())
    weights = np.array([0.5, 1, 4], np.float32)
    plain = self._forward(net, teacher, methods)(batch)
    forward = self._forward(net, teacher, methods, class_weights=weights)
    # By hand: the logarithm of the softmax at the label.
    logits = net(image, training=True).numpy().astype(np.float64)
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    each = -log[np.arange(16), labels] * weights[labels]
    gradients = []
    for run in (forward, tf.function(forward)):
      with tf.GradientTape() as tape:
        terms = run(batch)
      gradients.append(tape.gradient(terms['loss'], net.trainable_variables))
      self.assertAlmostEqual(
        float(terms['cross_entropy']), each.mean(), places=5
      )
      for name in ('factor_transfer', 'kd', 'train_accuracy'):
        self.assertAlmostEqual(float(terms[name]), float(plain[name]), places=5)
      self.assertAlmostEqual(
        float(terms['loss'] - plain['loss']),
        0.25 * float(terms['cross_entropy'] - plain['cross_entropy']),
        places=4,
      )
    self.assertNotAlmostEqual(
      float(plain['cross_entropy']), each.mean(), places=2
    )
    for eager, graph in zip(*gradients, strict=True):
      np.testing.assert_allclose(eager, graph, rtol=1e-3, atol=1e-5)
    forward = self._forward(
      net, teacher, methods, class_weights=weights, labelled_share=0.5
    )
    terms = forward({'image': image, 'label': tf.constant(half)})
    self.assertAlmostEqual(
      float(terms['cross_entropy']), each[::2].mean(), places=5
    )

  def test_labels_are_smoothed_in_cross_entropy_alone(self):
    some = fixtures.blobs().train.take(np.arange(16))
    batch = {
      'image': tf.constant(some.images),
      'label': tf.constant(some.labels),
    }
    recipe = fixtures.recipe(student=_PLAIN, method='ft+kd', kd_alpha=0.75)
    net, teacher, methods, _ = _parts(recipe, fixtures.strategy())
    plain = self._forward(net, teacher, methods)(batch)
    terms = self._forward(net, teacher, methods, label_smoothing=0.1)(batch)
    expected = keras.losses.CategoricalCrossentropy(
      from_logits=True, label_smoothing=0.1
    )(tf.one_hot(some.labels, 3), net(batch['image'], training=True))
    self.assertAlmostEqual(
      float(terms['cross_entropy']), float(expected), places=5
    )
    self.assertNotAlmostEqual(
      float(terms['cross_entropy']), float(plain['cross_entropy']), places=3
    )
    for name in ('factor_transfer', 'kd', 'train_accuracy'):
      self.assertAlmostEqual(float(terms[name]), float(plain[name]), places=5)
    self.assertAlmostEqual(
      float(terms['loss'] - plain['loss']),
      0.25 * float(terms['cross_entropy'] - plain['cross_entropy']),
      places=4,
    )

  def test_both_labels_of_a_mixed_image_count_by_their_shares(self):
    train = fixtures.blobs().train
    image = tf.constant(train.images[:16])
    first, second = train.labels[:16], train.labels[16:32]
    share = np.linspace(0, 1, 16).astype(np.float32)
    recipe = fixtures.recipe(student=_PLAIN, method='ft+dkd')
    net, teacher, methods, _ = _parts(recipe, fixtures.strategy())
    weights = np.array([0.5, 1, 4], np.float32)
    forward = self._forward(net, teacher, methods, class_weights=weights)

    def terms(label, **mixture):
      batch = {'image': image, 'label': label, **mixture}
      found = forward({k: tf.constant(v) for k, v in batch.items()})
      return {name: float(value) for name, value in found.items()}

    # One share for all: every term that reads labels is a mean of two.
    one, other = terms(first), terms(second)
    quarter = np.full(16, 0.25, np.float32)
    mixed = terms(first, partner_label=second, share=quarter)
    for name in ('loss', 'cross_entropy', 'dkd', 'train_accuracy'):
      self.assertNotAlmostEqual(one[name], other[name], places=3)
      self.assertAlmostEqual(
        mixed[name] / (0.25 * one[name] + 0.75 * other[name]), 1, places=4
      )
    self.assertEqual(mixed['factor_transfer'], one['factor_transfer'])
    # A share for each, by hand.
    logits = net(image, training=True).numpy().astype(np.float64)
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ours, theirs = (
      -log[np.arange(16), labels] * weights[labels]
      for labels in (first, second)
    )
    mixed = terms(first, partner_label=second, share=share)
    self.assertAlmostEqual(
      mixed['cross_entropy'],
      (share * ours + (1 - share) * theirs).mean(),
      places=5,
    )

  def test_mixed_images_without_labels_have_no_cross_entropy(self):
    train = fixtures.blobs().train.take(np.arange(16))
    labels = np.where(np.arange(16) < 8, train.labels, -1)
    batch = {
      'image': tf.constant(train.images),
      'label': tf.constant(labels),
      'partner_label': tf.constant(np.r_[labels[7::-1], labels[8:]]),
      'share': tf.constant(np.full(16, 0.5, np.float32)),
    }
    net, teacher, methods, _ = _parts(
      fixtures.recipe(student=_PLAIN), fixtures.strategy()
    )
    forward = self._forward(net, teacher, methods, labelled_share=0.5)
    first, second = batch['label'][:8], batch['partner_label'][:8]
    logits = net(batch['image'], training=True)[:8]
    wanted = tf.reduce_mean(
      losses.cross_entropy(logits, first) + losses.cross_entropy(logits, second)
    )
    self.assertAlmostEqual(
      float(forward(batch)['cross_entropy']), float(wanted) / 2, places=5
    )

  def test_images_without_labels_are_learned_from_by_the_terms_alone(self):
    train = fixtures.blobs().train.take(np.arange(16))
    image = tf.constant(train.images)
    half = np.where(np.arange(16) % 2, -1, train.labels)
    recipe = fixtures.recipe(student=_PLAIN)
    net, teacher, methods, _ = _parts(recipe, fixtures.strategy())
    forward = self._forward(net, teacher, methods, labelled_share=0.5)
    with tf.GradientTape() as tape:
      every = forward({'image': image, 'label': tf.constant(half)})
    gradients = tape.gradient(every['cross_entropy'], net.trainable_variables)
    # The mean over the eight that have a label, of a pass over all sixteen.
    with tf.GradientTape() as tape:
      logits = net(image, training=True)
      wanted = tf.reduce_mean(
        losses.cross_entropy(logits[::2], tf.constant(train.labels[::2]))
      )
    self.assertAlmostEqual(
      float(every['cross_entropy']), float(wanted), places=5
    )
    for ours, theirs in zip(
      gradients, tape.gradient(wanted, net.trainable_variables), strict=True
    ):
      np.testing.assert_allclose(ours, theirs, atol=1e-4)
    hits = tf.argmax(logits[::2], 1) == train.labels[::2]
    self.assertAlmostEqual(
      float(every['train_accuracy']),
      float(tf.reduce_mean(tf.cast(hits, tf.float32))),
    )

  def test_terms_of_images_without_labels_are_as_with_labels(self):
    train = fixtures.blobs().train.take(np.arange(16))
    net, teacher, methods, _ = _parts(fixtures.recipe(), fixtures.strategy())
    forward = self._forward(net, teacher, methods, labelled_share=0.5)
    with_labels, without = (
      forward(
        {'image': tf.constant(train.images), 'label': tf.constant(labels)}
      )
      for labels in (
        train.labels,
        np.where(np.arange(16) < 8, train.labels, -1),
      )
    )
    self.assertEqual(
      float(without['factor_transfer']), float(with_labels['factor_transfer'])
    )
    self.assertGreater(
      float(with_labels['cross_entropy']), float(without['cross_entropy'])
    )

  def test_student_of_smaller_images_sees_the_teachers_made_smaller(self):
    shape = (16, 16, 1)
    net, teacher, methods, _ = _parts(
      fixtures.recipe(student_image_size=8), fixtures.strategy(), shape=shape
    )
    (method,) = methods
    train = fixtures.blobs(shape).train.take(np.arange(16))
    images, labels = tf.constant(train.images), tf.constant(train.labels)
    outputs = taps.logits_and_features(net, method.student_layers)
    logits, ours = outputs(train.resized((8, 8)).images, training=True)
    theirs = taps.features(teacher, ['group3'])(train.images)['group3']
    factor = taps.average_to_size(method.frozen[0].encode(theirs), (2, 2))
    for jit in (False, True):
      forward = tf.function(
        self._forward(net, teacher, methods, image_size=(8, 8)),
        jit_compile=jit,
      )
      found = forward({'image': images, 'label': labels})
      np.testing.assert_allclose(
        found['cross_entropy'],
        tf.reduce_mean(losses.cross_entropy(logits, labels)),
        rtol=1e-4,
      )
      np.testing.assert_allclose(
        found['factor_transfer'],
        tf.reduce_mean(
          losses.factor_transfer(method.adapter(ours['group3']), factor)
        ),
        rtol=1e-4,
      )

  def test_two_replicas_differ_when_each_normalises_its_own_half(self):
    recipe = fixtures.recipe(method='scratch')
    _, one = _steps(recipe, fixtures.strategy(1), 1)
    _, two = _steps(recipe, fixtures.strategy(2), 1)
    self.assertGreater(abs(one['loss'][0] - two['loss'][0]), 1e-4)

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

  @parameterized.parameters('at', 'fitnet', 'ofd', 'sp', 'dkd')
  def test_other_terms_start_from_the_same_loss_in_bfloat16(self, method):
    _, full = _steps(fixtures.recipe(method=method), fixtures.strategy(), 1)
    _, half = _steps(
      fixtures.recipe(method=method, precision='mixed_bfloat16'),
      fixtures.strategy(),
      1,
    )
    np.testing.assert_allclose(half[method], full[method], rtol=0.05)

  @pytest.mark.slow
  def test_xla_takes_the_same_step(self):
    recipe, strategy = fixtures.recipe(), fixtures.strategy()
    plain, by_xla = (_steps(recipe, strategy, 1, jit=j) for j in (False, True))
    for name in ('loss', 'cross_entropy', 'factor_transfer'):
      np.testing.assert_allclose(by_xla[1][name], plain[1][name], rtol=1e-4)
    for ours, theirs in zip(by_xla[0], plain[0], strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
