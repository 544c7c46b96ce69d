"""What every method must hold, whatever its formula."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import definitions
from ft_tf.models import fused
from ft_tf.signals import compiled
from ft_tf.training import distillation
from tests import cosine, fixtures, student_steps

_METHODS = ('scratch', *definitions.registered(), 'ft+kd', 'at+kd')
# Whose loss has no, a map's, a probability's and a translated signal.
_CORE = ('scratch', 'fitnet', 'kd', 'ft')


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
  def test_a_step_moves_the_student_once_alone_and_it_is_saved_alone(
    self, method
  ):
    self._a_step_moves_the_student_once_alone_and_it_is_saved_alone(method)

  @parameterized.parameters(*_CORE)
  def test_kept_signal_gives_the_same_loss_within_a_thousandth(self, method):
    self._kept_signal_gives_the_same_loss_within_a_thousandth(method)

  @parameterized.parameters(*(m for m in _METHODS if m not in _CORE))
  @pytest.mark.slow
  def test_all_of_it_holds_for_the_other_methods(self, method):
    self._all_of_it_holds(method)

  def test_a_step_by_a_method_that_no_source_names(self):
    with cosine.registered():
      self._a_step_moves_the_student_once_alone_and_it_is_saved_alone('cosine')

  @pytest.mark.slow
  def test_all_of_it_holds_for_a_sum_with_a_method_that_no_source_names(self):
    with cosine.registered():
      self._all_of_it_holds('ft+cosine')

  def _all_of_it_holds(self, method):
    for holds in (
      self._compiled_equals_eager,
      self._two_replicas_equal_one_when_batch_norm_is_synchronised,
      self._a_step_moves_the_student_once_alone_and_it_is_saved_alone,
      self._kept_signal_gives_the_same_loss_within_a_thousandth,
    ):
      with self.subTest(holds.__name__):
        holds(method)

  def _compiled_equals_eager(self, method):
    recipe = fixtures.short_recipe(method=method)
    compiled, compiled_terms = student_steps.train(
      recipe, fixtures.strategy(), 2
    )
    tf.config.run_functions_eagerly(True)
    try:
      eager, eager_terms = student_steps.train(recipe, fixtures.strategy(), 2)
    finally:
      tf.config.run_functions_eagerly(False)
    for name in compiled_terms:
      np.testing.assert_allclose(
        compiled_terms[name], eager_terms[name], rtol=1e-4
      )
    for one, other in zip(compiled, eager, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-4)

  def _two_replicas_equal_one_when_batch_norm_is_synchronised(self, method):
    # Labels are mixed too. RandAugment changes images alone, before any method:
    # one method shows it.
    augmented = dict(fixtures.AUGMENTED)
    if method != 'ft':
      augmented = {k: v for k, v in augmented.items() if 'mix' in k}
    recipe = fixtures.short_recipe(
      method=method,
      sync_batch_norm=True,
      translator_batch_norm=True,
      **augmented,
    )
    one, one_terms = student_steps.train(recipe, fixtures.strategy(1), 1)
    two, two_terms = student_steps.train(recipe, fixtures.strategy(2), 1)
    for name in one_terms:
      np.testing.assert_allclose(one_terms[name], two_terms[name], rtol=1e-4)
    for a, b in zip(one, two, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)

  def _a_step_moves_the_student_once_alone_and_it_is_saved_alone(self, method):
    recipe, strategy = fixtures.short_recipe(method=method), fixtures.strategy()
    net, teacher, methods, optimizer = student_steps.make_parts(
      recipe, strategy
    )
    frozen = [teacher, *(model for m in methods for model in m.frozen)]
    before = [model.get_weights() for model in frozen]
    moving = net.get_weights()
    batch = next(student_steps.stream(recipe, strategy, 1))
    # One forward pass moves batch norm's statistics once.
    twin = keras.models.clone_model(net)
    twin.set_weights(moving)
    fused.fuse(twin)(batch['image'], training=True)
    train_steps = student_steps.compile_steps(
      recipe, strategy, net, teacher, methods, optimizer
    )
    train_steps(student_steps.stream(recipe, strategy, 1), tf.constant(1))
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
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    net.save(path)
    alone = keras.models.load_model(path)
    images = fixtures.blobs().test.images
    np.testing.assert_array_equal(alone(images), net(images))
    self.assertEqual(
      [w.path.split('/')[-2:] for w in alone.weights],
      [w.path.split('/')[-2:] for w in net.weights],
    )

  def _kept_signal_gives_the_same_loss_within_a_thousandth(self, method):
    if method == 'scratch':
      return  # It has none.
    recipe, strategy = fixtures.short_recipe(method=method), fixtures.strategy()
    found = []
    for kept in (False, True):
      net, teacher, methods, optimizer = student_steps.make_parts(
        recipe, strategy
      )
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


if __name__ == '__main__':
  absltest.main()
