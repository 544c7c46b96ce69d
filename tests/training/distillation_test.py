"""The student's step: its loss, its gradients, what moves and what is equal."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import losses
from ft_tf.models import fused, taps
from ft_tf.signals import compiled
from ft_tf.training import distillation
from tests import fixtures, student_steps

# Without strided 1x1 convolutions, whose gradient oneDNN gets wrong in plain
# layers, which tests compare with; see models/fused.py.
_PLAIN = 'resnet8x0.25-parameter-free'


@functools.cache
def _untrained(**values):
  """Returns student, teacher and terms, whose weights no test changes.

  And `distillation.make_forward` for them, but for its options.
  """
  net, teacher, methods, _ = student_steps.make_parts(
    fixtures.short_recipe(**values), fixtures.strategy()
  )
  return net, teacher, methods, _forward_maker(net, teacher, methods)


def _forward_maker(net, teacher, methods):
  return functools.partial(
    distillation.make_forward,
    fused.fuse(net),
    methods,
    16,
    signal=compiled.compile_signal(teacher, methods, 'float32'),
  )


class StepTest(parameterized.TestCase):
  def test_first_step_is_the_papers_equation(self):
    recipe = fixtures.short_recipe(beta=7.0, beta_elements=0, student=_PLAIN)
    strategy = fixtures.strategy()
    net, teacher, methods, optimizer = student_steps.make_parts(
      recipe, strategy
    )
    (method,) = methods
    variables = distillation.trained_variables(net, methods)
    before = [v.numpy() for v in variables]
    batch = next(iter(student_steps.batches(recipe, strategy, 1)))
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

    train_steps = student_steps.compile_steps(
      recipe, strategy, net, teacher, methods, optimizer
    )
    terms = train_steps(
      iter(student_steps.batches(recipe, strategy, 1)), tf.constant(1)
    )
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
    *_, make_forward = _untrained(method='ft+kd', beta=7.0, kd_alpha=0.75)
    train = fixtures.blobs().train.take(np.arange(16))
    terms = make_forward()(
      {'image': tf.constant(train.images), 'label': tf.constant(train.labels)}
    )
    np.testing.assert_allclose(
      terms['loss'],
      0.25 * terms['cross_entropy']
      + 0.75 * terms['kd']
      + 7.0 * terms['factor_transfer'],
      rtol=1e-5,
    )

  def test_weights_of_classes_count_in_cross_entropy_alone(self):
    some = fixtures.blobs().train.take(np.arange(16))
    image, labels = tf.constant(some.images), some.labels
    batch = {'image': image, 'label': tf.constant(labels)}
    half = np.where(np.arange(16) % 2, -1, labels)
    net, _, _, make_forward = _untrained(
      method='ft+kd', beta=7.0, kd_alpha=0.75
    )
    weights = np.array([0.5, 1, 4], np.float32)
    plain = make_forward()(batch)
    forward = make_forward(class_weights=weights)
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
    forward = make_forward(class_weights=weights, labelled_share=0.5)
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
    net, _, _, make_forward = _untrained(
      method='ft+kd', beta=7.0, kd_alpha=0.75
    )
    plain = make_forward()(batch)
    terms = make_forward(label_smoothing=0.1)(batch)
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
    net, _, _, make_forward = _untrained(method='ft+dkd')
    weights = np.array([0.5, 1, 4], np.float32)
    forward = make_forward(class_weights=weights)

    def terms(label, **mixture):
      batch = {'image': image, 'label': label, **mixture}
      found = forward({k: tf.constant(v) for k, v in batch.items()})
      return {name: float(value) for name, value in found.items()}

    # One share for all: every term that reads labels is a mean of two.
    one, other = terms(first), terms(second)
    quarter = np.full(16, 0.25, np.float32)
    mixed = terms(first, partner_label=second, share=quarter)
    for name in ('loss', 'cross_entropy', 'dkd', 'train_accuracy'):
      # They differ by more than what is compared below.
      self.assertGreater(abs(one[name] / other[name] - 1), 1e-3)
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
    net, _, _, make_forward = _untrained()
    forward = make_forward(labelled_share=0.5)
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
    net, _, _, make_forward = _untrained(student=_PLAIN)
    forward = make_forward(labelled_share=0.5)
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
    *_, make_forward = _untrained()
    forward = make_forward(labelled_share=0.5)
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
    net, teacher, methods, _ = student_steps.make_parts(
      fixtures.short_recipe(student_image_size=8),
      fixtures.strategy(),
      shape=shape,
    )
    (method,) = methods
    train = fixtures.blobs(shape).train.take(np.arange(16))
    images, labels = tf.constant(train.images), tf.constant(train.labels)
    outputs = taps.logits_and_features(net, method.student_layers)
    logits, ours = outputs(train.resized((8, 8)).images, training=True)
    theirs = taps.features(teacher, ['group3'])(train.images)['group3']
    factor = taps.average_to_size(method.frozen[0].encode(theirs), (2, 2))
    forward = _forward_maker(net, teacher, methods)(image_size=(8, 8))
    for run in (forward, tf.function(forward, jit_compile=True)):
      found = run({'image': images, 'label': labels})
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

  @parameterized.parameters(
    ('mixed_float16', 'ft'),
    ('mixed_bfloat16', 'at+dkd+fitnet+ft+ofd+sp'),
  )
  def test_half_precision_starts_from_the_same_loss(self, precision, method):
    recipe = fixtures.short_recipe(method=method, precision=precision)
    program = student_steps.Program(recipe, fixtures.strategy())
    weights, half = program.train(1)
    *_, make_forward = _untrained(method=method)
    full = make_forward()(next(iter(program.batches)))
    for name in ('cross_entropy', 'factor_transfer'):
      np.testing.assert_allclose(half[name], full[name], rtol=0.03)
    for name in set(method.split('+')) - {'ft'}:
      np.testing.assert_allclose(
        half[name], full[name], rtol=0.05, err_msg=name
      )
    for weight in weights:
      self.assertEqual(weight.dtype, np.float32)

  @pytest.mark.slow
  def test_xla_takes_the_same_step(self):
    recipe, strategy = fixtures.short_recipe(), fixtures.strategy()
    plain, by_xla = (
      student_steps.train(recipe, strategy, 1, jit=j) for j in (False, True)
    )
    for name in ('loss', 'cross_entropy', 'factor_transfer'):
      np.testing.assert_allclose(by_xla[1][name], plain[1][name], rtol=1e-4)
    for ours, theirs in zip(by_xla[0], plain[0], strict=True):
      np.testing.assert_allclose(ours, theirs, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
