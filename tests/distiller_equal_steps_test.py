"""The steps of compile and fit are those of the project's own loops."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

import ft_tf
from ft_tf import definitions, factors, recipe_flags, specs
from ft_tf.data import views
from ft_tf.methods import registry
from ft_tf.models import fused, zoo
from ft_tf.signals import compiled
from ft_tf.training import distillation, optimizers
from ft_tf.training import paraphraser as paraphraser_stage
from tests import fixtures, networks
from tests import small_distillers as small


class EqualStepsTest(parameterized.TestCase):
  """The steps are those of the project's own compiled loops."""

  def _parts(self, method='ft', **values):
    recipe = fixtures.short_recipe(method=method, **values)
    keras.utils.set_random_seed(0)
    spec = specs.spec(recipe, fixtures.blobs())
    teacher = networks.disturb(zoo.build('short-wide', spec))
    student = zoo.build('short', spec)
    with fixtures.strategy().scope():
      twin = zoo.build('short', spec)
    twin.set_weights(student.get_weights())
    distiller = ft_tf.Distiller(
      teacher,
      student,
      method=method,
      rate=recipe.paraphraser.rate,
      beta=recipe.student.beta,
      beta_elements=recipe.student.beta_elements,
      p=recipe.student.p,
      reconstruction=recipe.paraphraser.reconstruction,
    )
    stream = views.stream(
      fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=3
    )
    batches = stream.map(lambda batch: (batch['image'], batch['label']))
    return recipe, teacher, twin, distiller, stream, batches

  def test_student_and_translator(self):
    self._check_steps('ft', {})

  @parameterized.parameters(
    ('ft', {'p': 2, 'beta': 500.0, 'beta_elements': 2048}),
    ('ft_no_paraphraser', {}),
    ('ft_no_translator', {}),
  )
  @pytest.mark.slow
  def test_student_and_translator_of_other_numbers(self, method, values):
    self._check_steps(method, values)

  def _check_steps(self, method, values):
    recipe, teacher, twin, distiller, stream, batches = self._parts(
      method, **values
    )
    if distiller.paraphrasers:
      distiller.fit_paraphraser(batches, optimizer='sgd', verbose=0)
    strategy = fixtures.strategy()
    with strategy.scope():
      methods = registry.make(
        recipe,
        registry.Parts(
          teacher=teacher,
          student=twin,
          paraphrasers=distiller.paraphrasers,
          examples=fixtures.blobs().train,
        ),
      )
      optimizer, _ = optimizers.make(recipe.student, 3.0)
      optimizer.build(distillation.trained_variables(twin, methods))
    adapters = [m.adapter for m in methods if m.adapter is not None]
    for adapter, translator in zip(
      adapters, distiller.translators, strict=True
    ):
      adapter.set_weights(translator.get_weights())
    train_steps = distillation.compile_steps(
      strategy,
      twin,
      methods,
      optimizer,
      distillation.make_forward(
        fused.fuse(twin),
        methods,
        16,
        signal=compiled.compile_signal(teacher, methods, 'float32'),
      ),
    )
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(3)
    )
    distiller.compile(optimizers.make(recipe.student, 3.0)[0], small.LABELS)
    history = distiller.fit(batches, verbose=0).history
    small.assert_weights_close(
      self, distiller.student.get_weights(), twin.get_weights()
    )
    for adapter, translator in zip(
      adapters, distiller.translators, strict=True
    ):
      small.assert_weights_close(
        self, translator.get_weights(), adapter.get_weights()
      )
    for ours, theirs in (
      ('loss', 'loss'),
      ('task_loss', 'cross_entropy'),
      ('factor_transfer', 'factor_transfer'),
    ):
      np.testing.assert_allclose(
        history[ours][0], np.mean(terms[theirs]), rtol=1e-4
      )

  @parameterized.parameters('l1', 'l2')
  def test_paraphraser(self, kind):
    recipe, teacher, _, distiller, stream, batches = self._parts(
      reconstruction=kind, paraphraser_learning_rate=1.0
    )
    (ours,) = distiller.paraphrasers
    first = ours.get_weights()
    strategy = fixtures.strategy()
    with strategy.scope():
      theirs = factors.Paraphraser(0.5)
      theirs.build((None, 2, 2, 32))
      optimizer, _ = optimizers.make(recipe.paraphraser, 3.0)
      optimizer.build(theirs.trainable_variables)
    theirs.set_weights(first)
    train_steps = paraphraser_stage.compile_steps(
      strategy,
      paraphraser_stage.compile_feature(teacher, 'group3', 'float32'),
      theirs,
      optimizer,
      kind,
      16,
    )
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(3)
    )
    history = distiller.fit_paraphraser(
      batches, optimizer=optimizers.make(recipe.paraphraser, 3.0)[0], verbose=0
    )
    np.testing.assert_allclose(
      history.history['loss'][0], np.mean(terms['loss']), rtol=1e-4
    )
    moved = zip(ours.get_weights(), first, strict=True)
    self.assertGreater(
      max(np.abs(now - then).max() for now, then in moved), 0.01
    )
    small.assert_weights_close(self, ours.get_weights(), theirs.get_weights())

  def test_defaults_are_those_of_the_flags(self):
    defaults = {
      name: parameter.default
      for name, parameter in inspect.signature(
        ft_tf.Distiller
      ).parameters.items()
    }
    fields = {leaf.flag: leaf.field.default for leaf in recipe_flags.leaves()}
    shared = defaults.keys() & fields.keys() - {'teacher', 'student'}
    self.assertLen(shared, 12)
    for name in shared:
      self.assertEqual(defaults[name], fields[name], name)
    numbers = definitions.registered()['ft'].number_fields()
    # Without beta_ratio, the target of beta='auto'.
    self.assertContainsSubset(
      {field.name for field in numbers} - {'beta_ratio'}, shared
    )


if __name__ == '__main__':
  absltest.main()
