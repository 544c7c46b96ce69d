"""Every recipe's networks are built and take a step, on made-up images."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import catalogue, factors, recipe_flags
from ft_tf.data import example_sets
from ft_tf.methods import registry
from ft_tf.models import feature_maps, fused, layers, zoo
from ft_tf.signals import compiled
from ft_tf.training import distillation, optimizers
from tests import fixtures

_SHAPES = {
  'digits': ((16, 16, 1), 10),
  'cifar10': ((32, 32, 3), 10),
  'cifar100': ((32, 32, 3), 100),
  'imagenet2012': ((224, 224, 3), 1000),
}


class RecipesTest(parameterized.TestCase):
  @parameterized.parameters(
    *(
      name
      for name, make in catalogue.RECIPES.items()
      # Those of a user's own images have no data set and no teacher.
      if not name.endswith('_short') and make().data.dataset
    )
  )
  @pytest.mark.slow
  def test_recipe_takes_a_step(self, name):
    recipe = recipe_flags.override(
      catalogue.get(name), {'precision': 'float32', 'batch_size': 2}
    )
    shape, classes = _SHAPES[recipe.data.dataset]
    spec = layers.Spec(shape, classes, recipe.data.mean, recipe.data.std)
    rng = np.random.default_rng(0)
    batch = {
      'image': rng.integers(256, size=(2, *shape)).astype(np.uint8),
      'label': rng.integers(classes, size=2),
    }
    strategy = fixtures.strategy()
    keras.utils.set_random_seed(0)
    with strategy.scope():
      net = zoo.build(recipe.student.model, spec)
      teacher = zoo.build(recipe.teacher.model, spec)
      paraphraser = factors.Paraphraser(recipe.paraphraser.rate)
      ((tap, _),) = registry.resolve_layer_pairs(recipe, teacher, net)
      paraphraser.build((None, *feature_maps.shape(teacher, tap)))
      methods = registry.make(
        recipe,
        registry.Parts(
          teacher,
          net,
          [paraphraser],
          example_sets.Examples(batch['image'], batch['label']),
        ),
      )
      optimizer, _ = optimizers.make(recipe.student, 100.0)
      optimizer.build(distillation.trained_variables(net, methods))
    signal = compiled.compile_signal(teacher, methods, 'float32')
    train_steps = distillation.compile_steps(
      strategy,
      net,
      methods,
      optimizer,
      distillation.make_forward(fused.fuse(net), methods, 2, signal=signal),
    )
    before = net.get_weights()
    stream = tf.data.Dataset.from_tensors(batch)
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(1)
    )
    self.assertTrue(np.isfinite(terms['loss']).all())
    self.assertGreater(float(terms['factor_transfer'][0]), 0)
    self.assertTrue(
      any(
        (now != then).any()
        for now, then in zip(net.get_weights(), before, strict=True)
      )
    )

  @parameterized.parameters(
    *(name for name in catalogue.RECIPES if name.endswith('_short'))
  )
  def test_short_recipe_has_the_networks_of_the_long_one(self, name):
    short, long = (
      catalogue.get(n) for n in (name, name.removesuffix('_short'))
    )
    for stage in ('teacher', 'student'):
      self.assertEqual(getattr(short, stage).model, getattr(long, stage).model)
    self.assertEqual(
      dataclasses.replace(short.data), dataclasses.replace(long.data)
    )

  @parameterized.parameters(0.5, 0.75, 1.0, 2.0, 4.0)
  def test_every_rate_of_the_paper_makes_a_factor(self, rate):
    recipe = recipe_flags.override(
      catalogue.get('cifar10_resnet56_resnet20'), {'rate': rate}
    )
    paraphraser = factors.Paraphraser(recipe.paraphraser.rate)
    paraphraser.build((None, 8, 8, 64))
    self.assertEqual(paraphraser.encoder[-1].filters, round(64 * rate))


class PublishedSizesTest(parameterized.TestCase):
  @parameterized.parameters(
    # RepDistiller's networks, by its own count for 100 classes.
    ('resnet8x4', 1_233_540),
    ('resnet32x4', 7_433_860),
    ('wrn-16-2', 703_284),
    ('wrn-40-2', 2_255_156),
  )
  def test_parameters_are_those_of_the_public_networks(self, name, count):
    spec = layers.Spec((32, 32, 3), 100, (0.5,) * 3, (0.25,) * 3)
    net = zoo.build(name, spec)
    self.assertEqual(
      sum(np.prod(v.shape) for v in net.trainable_variables), count
    )


if __name__ == '__main__':
  absltest.main()
