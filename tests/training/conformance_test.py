"""What every method must hold, whatever its formula."""

import functools
import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import definitions
from ft_tf.models import fused
from ft_tf.signals import compiled, constant
from tests import cosine, fixtures, student_steps

_METHODS = ('scratch', *definitions.registered(), 'ft+kd', 'at+kd')
# Whose loss has no, a map's, a probability's and a translated signal.
_CORE = ('scratch', 'fitnet', 'kd', 'ft')
# All terms that one sum can have besides those of `ft+kd`.
_OTHER_TERMS = '+'.join(
  sorted(
    {*definitions.registered(), 'cosine'} - {'ft', 'kd', 'ft_no_translator'}
  )
)


@functools.cache
def _program(method):
  """Returns the program of a method for all tests; each begins it anew."""
  recipe = fixtures.short_recipe(method=method)
  return student_steps.Program(recipe, fixtures.strategy())


class ConformanceTest(parameterized.TestCase):
  """What every method must hold."""

  @parameterized.parameters(*_CORE)
  def test_compiled_equals_eager(self, method):
    self._compiled_equals_eager(method)

  @parameterized.parameters(*_CORE)
  def test_a_step_moves_the_student_once_alone_and_it_is_saved_alone(
    self, method
  ):
    self._a_step_moves_the_student_once_alone_and_it_is_saved_alone(method)

  @parameterized.parameters(*(m for m in _CORE if m != 'scratch'))
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
      self._a_step_moves_the_student_once_alone_and_it_is_saved_alone,
      self._kept_signal_gives_the_same_loss_within_a_thousandth,
    ):
      with self.subTest(holds.__name__):
        holds(method)

  def _compiled_equals_eager(self, method):
    program = _program(method)
    compiled, compiled_terms = program.train(2)
    tf.config.run_functions_eagerly(True)
    try:
      eager, eager_terms = program.train(2)
    finally:
      tf.config.run_functions_eagerly(False)
    for name in compiled_terms:
      np.testing.assert_allclose(
        compiled_terms[name], eager_terms[name], rtol=1e-4
      )
    for one, other in zip(compiled, eager, strict=True):
      np.testing.assert_allclose(one, other, atol=1e-4)

  def _a_step_moves_the_student_once_alone_and_it_is_saved_alone(self, method):
    program = _program(method)
    program.begin()
    net = program.net
    frozen = [
      program.teacher,
      *(model for m in program.methods for model in m.frozen),
    ]
    before = [model.get_weights() for model in frozen]
    moving = net.get_weights()
    batch = next(iter(program.batches))
    # One forward pass moves batch norm's statistics once.
    twin = keras.models.clone_model(net)
    twin.set_weights(moving)
    fused.fuse(twin)(batch['image'], training=True)
    program.train(1)
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
    program = _program(method)
    weights, computed = program.train(1)
    batch = next(iter(program.batches))
    rows = [
      compiled.compile_signal(program.teacher, [m], 'float32').rows(
        batch['image']
      )
      for m in program.methods
    ]
    batch['signal'] = np.float16(np.concatenate(rows, axis=1))
    kept_weights, kept = program.train(
      1,
      fixtures.strategy().experimental_distribute_dataset(
        tf.data.Dataset.from_tensors(batch)
      ),
    )
    for name in ('loss', *(m.name for m in program.methods)):
      np.testing.assert_allclose(kept[name], computed[name], rtol=1e-3)
      if name != 'loss':
        self.assertNotEqual(float(kept[name][0]), float(computed[name][0]))
    for ours, theirs in zip(kept_weights, weights, strict=True):
      np.testing.assert_allclose(ours, theirs, atol=2e-3)


class TwoReplicasTest(parameterized.TestCase):
  """Two replicas equal one where batch norm is synchronised, and only there.

  A sum of terms shows it of each: all of them move the student, and each its
  own adapter.
  """

  def _train(self, method, replicas, augmentations):
    # Labels are mixed too.
    recipe = fixtures.short_recipe(
      method=method,
      sync_batch_norm=True,
      translator_batch_norm=True,
      **augmentations,
    )
    return student_steps.train(recipe, fixtures.strategy(replicas), 1)

  def _assert_equal(self, one, other, *, rtol=1e-4, atol=1e-5):
    (weights, terms), (other_weights, other_terms) = one, other
    for name, values in terms.items():
      np.testing.assert_allclose(
        other_terms[name], values, rtol=rtol, err_msg=name
      )
    for a, b in zip(weights, other_weights, strict=True):
      np.testing.assert_allclose(b, a, atol=atol)

  def test_two_replicas_equal_one(self):
    one = self._train('ft+kd', 1, fixtures.AUGMENTED)
    self._assert_equal(one, self._train('ft+kd', 2, fixtures.AUGMENTED))
    # The same where the teacher is too large to be constants.
    with mock.patch.object(constant, '_MOST_CONSTANT_BYTES', {}):
      two = self._train('ft+kd', 2, fixtures.AUGMENTED)
    self._assert_equal(one, two, rtol=1e-3, atol=1e-4)

  def test_two_replicas_differ_when_each_normalises_its_own_half(self):
    _, one = _program('scratch').train(1)
    recipe = fixtures.short_recipe(method='scratch')
    _, two = student_steps.train(recipe, fixtures.strategy(2), 1)
    self.assertGreater(abs(one['loss'][0] - two['loss'][0]), 1e-4)

  @parameterized.parameters(
    'scratch',
    'ft_no_translator',
    _OTHER_TERMS,
  )
  @pytest.mark.slow
  def test_two_replicas_equal_one_by_the_other_methods(self, method):
    # RandAugment changes images alone, before any method.
    mixed = {k: v for k, v in fixtures.AUGMENTED.items() if 'mix' in k}
    with cosine.registered():
      one, two = (self._train(method, count, mixed) for count in (1, 2))
    self._assert_equal(one, two)


if __name__ == '__main__':
  absltest.main()
