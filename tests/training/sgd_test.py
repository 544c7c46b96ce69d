"""The optimizer against PyTorch's rule, and the rate by step."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import catalogue, recipes
from ft_tf.training import sgd


class CoupledSGDTest(absltest.TestCase):
  def test_steps_are_pytorchs_when_the_rate_drops(self):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4,))
    gradients = rng.normal(size=(6, 4))
    rates = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    variable = keras.Variable(w.astype(np.float32))
    optimizer = sgd.CoupledSGD(
      sgd.Rate(0.1, drop_steps=(3,), drop_factor=0.1),
      momentum=0.9,
      coupled_weight_decay=5e-4,
    )
    # torch.optim.SGD: d = g + wd w; v = m v + d; w -= rate v.
    velocity = np.zeros(4)
    for gradient, rate in zip(gradients, rates, strict=True):
      velocity = 0.9 * velocity + gradient + 5e-4 * w
      w = w - rate * velocity
      optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
      np.testing.assert_allclose(variable.numpy(), w, rtol=1e-5)

  def test_weight_without_gradient_decays_with_momentum(self):
    variable = keras.Variable(np.float32([1.0]))
    optimizer = sgd.CoupledSGD(0.1, momentum=0.5, coupled_weight_decay=0.1)
    for _ in range(2):
      optimizer.apply([keras.ops.zeros(1)], [variable])
    # v1 = .1, w1 = .99; v2 = .05 + .099 = .149, w2 = .99 - .0149.
    np.testing.assert_allclose(variable.numpy(), [0.9751], rtol=1e-6)

  def test_batch_norm_and_biases_can_be_left_out_of_the_decay(self):
    layer = keras.Sequential(
      [
        keras.Input((4, 4, 1)),
        keras.layers.DepthwiseConv2D(3, bias_initializer='ones'),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dense(2, bias_initializer='ones'),
      ]
    )
    variables = layer.trainable_variables
    before = [variable.numpy() for variable in variables]
    stage = recipes.Teacher(
      model='resnet8',
      epochs=1,
      learning_rate=1.0,
      weight_decay=0.1,
      weight_decay_on='kernels',
    )
    optimizer, _ = sgd.make(stage, steps_per_epoch=1)
    optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    for variable, was in zip(variables, before, strict=True):
      share = 0.9 if variable.name == 'kernel' else 1.0
      np.testing.assert_allclose(variable, share * was, rtol=1e-6)

  def test_config_makes_the_same_optimizer(self):
    optimizer = sgd.CoupledSGD(
      0.2, momentum=0.8, coupled_weight_decay=0.01, weight_decay_on='kernels'
    )
    again = sgd.CoupledSGD.from_config(optimizer.get_config())
    self.assertEqual(again.momentum, 0.8)
    self.assertEqual(again.coupled_weight_decay, 0.01)
    self.assertEqual(again.weight_decay_on, 'kernels')
    self.assertIsNone(again.weight_decay)


class RateTest(absltest.TestCase):
  def test_rate_drops_at_each_step_given(self):
    rate = sgd.Rate(1.0, drop_steps=(3, 5), drop_factor=0.1)
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(7)],
      [1, 1, 1, 0.1, 0.1, 0.01, 0.01],
      rtol=1e-6,
    )

  def test_rate_rises_linearly_when_warming_up(self):
    rate = sgd.Rate(0.4, drop_steps=(), drop_factor=0.1, warmup_steps=4)
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(6)], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    )

  def test_cosine_falls_from_the_warm_up_to_nothing(self):
    rate = sgd.Rate(0.2, warmup_steps=2, cosine_steps=4)
    # (1 + cos(pi s / 4)) / 2 for s = 0 .. 4, from step 2 on.
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(8)],
      [0.1, 0.2, 0.2, 0.1707107, 0.1, 0.0292893, 0, 0],
      atol=1e-6,
    )

  def test_one_cycle_of_a_recipe_ends_with_its_last_step(self):
    stage = catalogue.short(catalogue.digits()).student
    _, rate = sgd.make(stage, steps_per_epoch=12.5)
    self.assertEqual((rate.warmup_steps, rate.cosine_steps), (38, 87))
    self.assertEqual(rate.drop_steps, ())
    self.assertAlmostEqual(float(rate(37)), 0.2, places=6)
    self.assertAlmostEqual(float(rate(125)), 0.0, places=6)

  def test_epochs_of_a_recipe_become_steps(self):
    stage = recipes.Teacher(
      model='resnet20', epochs=10, drop_epochs=(2, 4), warmup_epochs=0.5
    )
    _, rate = sgd.make(stage, steps_per_epoch=390.625)
    self.assertEqual(rate.drop_steps, (781, 1562))
    self.assertEqual(rate.warmup_steps, 195)


if __name__ == '__main__':
  absltest.main()
