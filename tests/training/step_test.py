"""The step that all stages share: XLA, loss scaling, waiting, memory."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import catalogue
from ft_tf.training import optimizers, step
from tests import fixtures, networks


def _batches(strategy, count=4):
  """Returns an iterator over batches of 8 points on a line."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(count, 8, 3)).astype(np.float32)
  y = x @ np.float32([1, -2, 3]) + 0.5
  stream = tf.data.Dataset.from_tensor_slices({'x': x, 'y': y})
  return iter(strategy.experimental_distribute_dataset(stream))


def _compile(strategy, model, optimizer, *, jit, scale=1.0):
  """Returns the steps that fit a model to the line."""

  def forward(batch):
    error = model(batch['x'], training=True)[:, 0] - batch['y']
    return {'loss': scale * tf.reduce_sum(error**2) / 8}

  return step.compile_steps(
    strategy,
    forward,
    terms=('loss',),
    models=[model],
    optimizer=optimizer,
    jit=jit,
  )


def _train(precision='float32', *, jit=False, replicas=1, count=4, scale=1.0):
  """Fits a line; returns weights, terms and the optimizer."""
  strategy = fixtures.strategy(replicas)
  keras.utils.set_random_seed(0)
  with strategy.scope():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, dtype=precision)(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(1, dtype='float32')(x))
    stage = fixtures.recipe(student_learning_rate=0.01).student
    optimizer, _ = optimizers.make(stage, 1.0, precision)
    optimizer.build(model.trainable_variables)
  train_steps = _compile(strategy, model, optimizer, jit=jit, scale=scale)
  terms = train_steps(_batches(strategy), tf.constant(count))
  return model.get_weights(), terms['loss'].numpy(), optimizer


def _draw(seed=0, replicas=1, count=4):
  """Returns sums of random numbers by step, of a layer without a seed."""
  strategy = fixtures.strategy(replicas)
  keras.utils.set_random_seed(seed)
  with strategy.scope():
    inputs = keras.Input((3,))
    x = networks.StochasticDepth()(inputs)
    dense = keras.layers.Dense(1, kernel_initializer='ones')
    model = keras.Model(inputs, dense(x))
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
  train_steps = step.compile_steps(
    strategy,
    lambda batch: {'loss': tf.reduce_sum(model(batch, training=True))},
    terms=('loss',),
    models=[model],
    optimizer=optimizer,
  )
  stream = tf.data.Dataset.from_tensors(tf.ones((32, 3))).repeat()
  batches = iter(strategy.experimental_distribute_dataset(stream))
  return train_steps(batches, tf.constant(count))['loss'].numpy()


class _Costly(keras.layers.Layer):
  """Adds to the loss by itself."""

  def call(self, x):
    self.add_loss(0.3 * keras.ops.mean(x**2))
    return x


def _with_own_losses(inputs):
  """Returns outputs with each kind of loss that Keras adds by itself."""
  x = keras.layers.Dense(
    4, kernel_regularizer='l2', activity_regularizer=keras.regularizers.L2(0.2)
  )(inputs)
  frozen = keras.layers.Dense(4, kernel_regularizer='l1', trainable=False)
  return keras.layers.Dense(1)(_Costly()(frozen(x)))


def _with_set_weights(inputs):
  """Returns outputs of layers that set and that bound trained weights."""
  dense = keras.layers.Dense(4, kernel_regularizer='l2')
  x = keras.layers.SpectralNormalization(dense)(inputs)
  return keras.layers.Dense(1, kernel_constraint='non_neg')(x)


class CompileStepsTest(parameterized.TestCase):
  @parameterized.product(
    layers=(_with_own_losses, _with_set_weights),
    replicas=(1, 2),
    jit=(False, True),
  )
  def test_steps_of_any_layers_are_those_of_fit(self, layers, replicas, jit):
    def build():
      keras.utils.set_random_seed(0)
      inputs = keras.Input((3,))
      return keras.Model(inputs, layers(inputs))

    reference = build()
    reference.compile(keras.optimizers.SGD(0.1), 'mse')
    batches = [
      (batch['x'], batch['y']) for batch in _batches(fixtures.strategy())
    ]
    expected = [reference.train_on_batch(*batch) for batch in batches]
    strategy = fixtures.strategy(replicas)
    with strategy.scope():
      model = build()
      optimizer = keras.optimizers.SGD(0.1)
      optimizer.build(model.trainable_variables)
    train_steps = _compile(strategy, model, optimizer, jit=jit)
    found = train_steps(_batches(strategy), tf.constant(4))['loss']
    np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-5)
    for ours, theirs in zip(
      model.get_weights(), reference.get_weights(), strict=True
    ):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)

  @parameterized.parameters(1, 2)
  def test_layer_without_a_seed_draws_anew_in_each_step(self, replicas):
    drawn = _draw(replicas=replicas)
    self.assertGreater(len(set(drawn)), 1)
    # Whatever this process drew before.
    np.testing.assert_array_equal(_draw(replicas=replicas), drawn)
    self.assertNotEqual(list(_draw(seed=1, replicas=replicas)), list(drawn))

  @parameterized.parameters(1, 2)
  @pytest.mark.slow
  def test_xla_gives_the_same_weights(self, replicas):
    weights, losses, _ = _train(replicas=replicas)
    by_xla, losses_by_xla, _ = _train(jit=True, replicas=replicas)
    np.testing.assert_allclose(losses_by_xla, losses, rtol=1e-4)
    for ours, theirs in zip(by_xla, weights, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

  @parameterized.parameters(False, True)
  def test_statistics_of_batch_norm_move(self, jit):
    *_, mean, variance = (w for w in _train(jit=jit)[0] if w.shape == (4,))
    self.assertTrue((mean != 0).all())
    self.assertTrue((variance != 1).all())

  @parameterized.parameters('mixed_bfloat16', 'mixed_float16')
  def test_half_precision_stays_near_float32(self, precision):
    # Small enough for no step to overflow, which would be passed over.
    weights, losses, _ = _train(scale=1e-3)
    half, half_losses, _ = _train(precision, scale=1e-3)
    np.testing.assert_allclose(half_losses, losses, rtol=0.05)
    for ours, theirs in zip(half, weights, strict=True):
      self.assertEqual(ours.dtype, np.float32)
      np.testing.assert_allclose(ours, theirs, atol=0.05)

  def test_float16_passes_over_a_step_that_overflows(self):
    # At this scale every gradient times 2**15 is beyond float16.
    weights, _, optimizer = _train('mixed_float16', count=2, scale=1e3)
    self.assertIsInstance(optimizer, keras.optimizers.LossScaleOptimizer)
    self.assertLess(float(optimizer.dynamic_scale.numpy()), 2.0**15)
    for weight in weights:
      self.assertTrue(np.isfinite(weight).all())

  def test_wait_for_input_is_measured(self):
    strategy = fixtures.strategy()

    def slow():
      for _ in range(3):
        time.sleep(0.2)
        yield np.float32(1.0)

    stream = tf.data.Dataset.from_generator(
      slow, output_signature=tf.TensorSpec([], tf.float32)
    )
    batches = iter(strategy.experimental_distribute_dataset(stream))
    train_steps = tf.function(
      lambda iterator, count: step.repeat(
        strategy, lambda batch: {'loss': batch}, ('loss',), iterator, count
      )
    )
    waited = train_steps(batches, tf.constant(3))[step.INPUT_WAIT].numpy()
    self.assertGreater(waited.sum(), 0.1)


class MakeTest(absltest.TestCase):
  def test_loss_is_scaled_in_float16_alone(self):
    stage = catalogue.digits().student
    for precision, scaled in (
      ('float32', False),
      ('mixed_bfloat16', False),
      ('mixed_float16', True),
    ):
      optimizer, _ = optimizers.make(stage, 1.0, precision)
      self.assertEqual(
        isinstance(optimizer, keras.optimizers.LossScaleOptimizer), scaled
      )


class FindCorrectTest(absltest.TestCase):
  def test_known_value(self):
    logits = np.float32([[1, 0], [0, 1], [3, 2]])
    correct = step.find_correct(logits, np.int64([0, 1, 1]))
    np.testing.assert_array_equal(correct, [1, 1, 0])


if __name__ == '__main__':
  absltest.main()
