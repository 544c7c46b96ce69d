"""The average of weights against values worked out by hand."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import recipes
from ft_tf.training import averaging, optimizers, step
from tests import fixtures, networks


def _model():
  inputs = keras.Input((1,))
  x = keras.layers.Dense(1, use_bias=False, kernel_initializer='ones')(inputs)
  return keras.Model(inputs, keras.layers.BatchNormalization()(x))


def _weights(model):
  return {
    weight.name: float(weight.numpy().squeeze()) for weight in model.weights
  }


class AverageTest(parameterized.TestCase):
  def test_is_none_where_no_decay_is_given(self):
    self.assertIsNone(averaging.make([_model()], 0.0))

  @parameterized.parameters(1, 2)
  def test_average_is_that_worked_out_by_hand(self, replicas):
    with fixtures.strategy(replicas).scope():
      model = _model()
      average = averaging.make([model], 0.15)
    update = tf.function(average.update)
    # d is 1 / 10, then 2 / 11 and 3 / 12, above 0.15: that.
    expected = 1.0
    for decay, value in ((0.1, 2.0), (0.15, 5.0), (0.15, -1.0)):
      model.layers[1].kernel.assign([[value]])
      model.layers[2].moving_mean.assign([value - 1])
      update()
      expected = decay * expected + (1 - decay) * value
    self.assertEqual(_weights(model)['kernel'], -1.0)
    with average.in_models():
      weights = _weights(model)
      self.assertAlmostEqual(weights['kernel'], expected, places=6)
      self.assertAlmostEqual(weights['moving_mean'], expected - 1, places=6)
    self.assertEqual(_weights(model)['kernel'], -1.0)
    self.assertEqual(_weights(model)['moving_mean'], -2.0)
    average.put()
    self.assertAlmostEqual(_weights(model)['kernel'], expected, places=6)

  def test_what_does_not_move_is_averaged_to_itself(self):
    model = _model()
    model.layers[1].kernel.assign([[1 / 3]])
    before = model.get_weights()
    average = averaging.make([model], 0.999)
    for _ in range(50):
      average.update()
    average.put()
    for now, then in zip(model.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_frozen_weights_and_states_of_random_layers_are_left_out(self):
    model = networks.random_student((8, 8, 1), 3)
    everything = averaging.make([model, model], 0.9)
    names = [v.path for v in everything._averaged]
    self.assertLen({*names}, len(names))
    self.assertNotIn('seed_generator_state', ' '.join(names))
    self.assertLen(
      names,
      len(model.trainable_variables)
      + sum('moving' in v.path for v in model.non_trainable_variables),
    )
    frozen = _model()
    frozen.layers[1].trainable = False
    self.assertNotIn(
      'kernel', [v.name for v in averaging.make([frozen], 0.9)._averaged]
    )

  def test_weights_come_back_after_an_error(self):
    model = _model()
    average = averaging.make([model], 0.9)
    model.layers[1].kernel.assign([[4.0]])
    with self.assertRaises(KeyboardInterrupt), average.in_models():
      self.assertEqual(_weights(model)['kernel'], 1.0)
      raise KeyboardInterrupt
    self.assertEqual(_weights(model)['kernel'], 4.0)


def _train(replicas, optimizer):
  """Fits a line by 4 steps; returns the weights and their average."""
  strategy = fixtures.strategy(replicas)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(4, 8, 3)).astype(np.float32)
  stream = tf.data.Dataset.from_tensor_slices(
    {'x': x, 'y': x @ np.float32([1, -2, 3]) + 0.5}
  )
  keras.utils.set_random_seed(0)
  with strategy.scope():
    inputs = keras.Input((3,))
    # Without a bias: before batch norm its gradients are nothing but rounding,
    # of which AdamW makes steps as large as others.
    hidden = keras.layers.Dense(4, use_bias=False)
    y = keras.layers.BatchNormalization(synchronized=True)(hidden(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(y))
    rule, _ = optimizers.make(
      recipes.Teacher(
        model='line',
        epochs=1,
        learning_rate=0.01,
        optimizer=optimizer,
        backbone_rate=0.1,
      ),
      4.0,
      backbone=hidden.trainable_variables,
    )
    rule.build(model.trainable_variables)
    average = averaging.make([model], 0.9)

  def forward(batch):
    error = model(batch['x'], training=True)[:, 0] - batch['y']
    return {'loss': tf.reduce_sum(error**2) / 8}

  train_steps = step.compile_steps(
    strategy,
    forward,
    terms=('loss',),
    models=[model],
    optimizer=rule,
    average=average,
  )
  batches = iter(strategy.experimental_distribute_dataset(stream))
  train_steps(batches, tf.constant(4))
  weights = model.get_weights()
  average.put()
  return weights, model.get_weights()


class StepsTest(parameterized.TestCase):
  @parameterized.parameters('sgd', 'adamw')
  def test_two_devices_equal_one(self, optimizer):
    one, two = (_train(replicas, optimizer) for replicas in (1, 2))
    for ours, theirs in zip(one, two, strict=True):
      for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for weight, average in zip(*one, strict=True):
      self.assertGreater(np.abs(weight - average).max(), 0)


if __name__ == '__main__':
  absltest.main()
