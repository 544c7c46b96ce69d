"""The optimizers against the rules of PyTorch and Keras."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import recipes
from ft_tf.training import optimizers, schedule


class CoupledSGDTest(absltest.TestCase):
  def test_steps_are_pytorchs_when_the_rate_drops(self):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4,))
    gradients = rng.normal(size=(6, 4))
    rates = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]
    variable = keras.Variable(w.astype(np.float32))
    optimizer = optimizers.CoupledSGD(
      schedule.Rate(0.1, drop_steps=(3,), drop_factor=0.1),
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
    optimizer = optimizers.CoupledSGD(
      0.1, momentum=0.5, coupled_weight_decay=0.1
    )
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
    optimizer, _ = optimizers.make(stage, steps_per_epoch=1)
    optimizer.apply([keras.ops.zeros_like(v) for v in variables], variables)
    for variable, was in zip(variables, before, strict=True):
      share = 0.9 if variable.name == 'kernel' else 1.0
      np.testing.assert_allclose(variable, share * was, rtol=1e-6)

  def test_config_makes_the_same_optimizer(self):
    optimizer = optimizers.CoupledSGD(
      0.2, momentum=0.8, coupled_weight_decay=0.01, weight_decay_on='kernels'
    )
    again = optimizers.CoupledSGD.from_config(optimizer.get_config())
    self.assertEqual(again.momentum, 0.8)
    self.assertEqual(again.coupled_weight_decay, 0.01)
    self.assertEqual(again.weight_decay_on, 'kernels')
    self.assertIsNone(again.weight_decay)


def _variables_and_gradients(steps=6):
  """Returns values of a kernel and a bias, and gradients of each step."""
  rng = np.random.default_rng(0)
  shapes = (3, 4), (4,)
  values = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
  gradients = [
    [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    for _ in range(steps)
  ]
  return values, gradients


def _moved(optimizer, values, gradients):
  """Returns values after steps of an optimizer, or of one made for them."""
  variables = [keras.Variable(value) for value in values]
  if not isinstance(optimizer, keras.optimizers.Optimizer):
    optimizer = optimizer(variables)
  optimizer.build(variables)
  for each in gradients:
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in each], variables)
  return [variable.numpy() for variable in variables]


class AdamWTest(parameterized.TestCase):
  @parameterized.parameters('all', 'kernels')
  def test_steps_are_kerass_when_the_rate_drops(self, decays):
    values, gradients = _variables_and_gradients()
    rate = schedule.Rate(0.1, drop_steps=(3,), drop_factor=0.1)

    def theirs(variables):
      optimizer = keras.optimizers.AdamW(rate, weight_decay=0.2)
      if decays == 'kernels':
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
      return optimizer

    ours = optimizers.AdamW(
      rate, decoupled_weight_decay=0.2, weight_decay_on=decays
    )
    expected = _moved(theirs, values, gradients)
    for one, other in zip(
      _moved(ours, values, gradients), expected, strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

  def test_weight_without_gradient_decays_by_the_rate_alone(self):
    optimizer = optimizers.AdamW(0.1, decoupled_weight_decay=0.5)
    (weight,) = _moved(optimizer, [np.float32([2.0])], [[np.zeros(1)]] * 2)
    np.testing.assert_allclose(weight, [2 * 0.95**2], rtol=1e-6)

  def test_config_makes_the_same_optimizer(self):
    optimizer = optimizers.AdamW(
      0.2, decoupled_weight_decay=0.1, beta_1=0.8, weight_decay_on='kernels'
    )
    again = optimizers.AdamW.from_config(optimizer.get_config())
    self.assertEqual(again.get_config(), optimizer.get_config())
    self.assertIsNone(again.weight_decay)


class MakeTest(parameterized.TestCase):
  def _stage(self, **values):
    return recipes.Teacher(model='resnet8', epochs=1, **values)

  def test_recipe_chooses_the_optimizer_with_its_numbers(self):
    optimizer, _ = optimizers.make(
      self._stage(
        optimizer='adamw',
        momentum=0.8,
        weight_decay=0.1,
        weight_decay_on='kernels',
      ),
      1.0,
    )
    self.assertIsInstance(optimizer, optimizers.AdamW)
    self.assertEqual((optimizer.beta_1, optimizer.beta_2), (0.8, 0.999))
    self.assertEqual(optimizer.decoupled_weight_decay, 0.1)
    self.assertEqual(optimizer.weight_decay_on, 'kernels')
    for stage in (self._stage(), recipes.Paraphraser(epochs=1)):
      optimizer, _ = optimizers.make(stage, 1.0)
      self.assertIsInstance(optimizer, optimizers.CoupledSGD)

  @parameterized.product(
    optimizer=('sgd', 'adamw'), precision=('float32', 'mixed_float16')
  )
  def test_backbone_moves_as_at_its_own_rate(self, optimizer, precision):
    values, gradients = _variables_and_gradients(3)
    if precision == 'mixed_float16':
      # The loss is scaled in steps by this, and the optimizer divides by it.
      gradients = [[2**15 * g for g in each] for each in gradients]
    numbers = {'optimizer': optimizer, 'weight_decay': 0.1}

    def make(rate, backbone_rate=1.0, backbone=()):
      stage = self._stage(
        learning_rate=rate, backbone_rate=backbone_rate, **numbers
      )
      return optimizers.make(stage, 1.0, precision, backbone)[0]

    slow = _moved(make(0.01), values, gradients)
    fast = _moved(make(0.1), values, gradients)
    kernel, bias = _moved(
      lambda variables: make(0.1, 0.1, variables[:1]), values, gradients
    )
    np.testing.assert_allclose(kernel, slow[0], rtol=1e-5)
    np.testing.assert_array_equal(bias, fast[1])
    self.assertGreater(np.abs(slow[0] - fast[0]).max(), 0.01)


if __name__ == '__main__':
  absltest.main()
