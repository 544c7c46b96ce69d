"""Keras's Distiller as a row of the table: its loss, our batches and budget."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, losses, recipes, run_dir, specs, teachers
from ft_tf.data import views
from ft_tf.models import zoo
from ft_tf.training import incumbent, loop, optimizers, step, student
from tests import fixtures

# Plain layers train here: no strided 1x1 convolutions, see models/fused.py.
_PLAIN = 'resnet8x0.25-parameter-free'


def _networks(recipe, strategy):
  spec = specs.spec(recipe, fixtures.blobs())
  keras.utils.set_random_seed(0)
  with strategy.scope():
    teacher, net = (zoo.build(_PLAIN, spec) for _ in range(2))
    optimizer, _ = optimizers.make(recipe.student, 3.0)
    optimizer.build(net.trainable_variables)
  return teacher, net, optimizer


class StepsTest(parameterized.TestCase):
  @parameterized.parameters(*recipes.INCUMBENTS)
  def test_loss_is_half_cross_entropy_and_half_kerass_divergence(self, method):
    recipe = fixtures.recipe(method=method)
    strategy = fixtures.strategy()
    teacher, net, optimizer = _networks(recipe, strategy)
    stream = views.stream(
      fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=2
    )
    batch = next(iter(stream))
    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    ours = twin(batch['image'], training=True)
    theirs = teacher(batch['image'], training=False)
    train_steps = incumbent.compile_steps(
      strategy,
      teacher=teacher,
      student=net,
      optimizer=optimizer,
      method=method,
    )
    before = teacher.get_weights()
    found = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(2)
    )
    self.assertEqual(set(found), {*incumbent.TERMS, step.INPUT_WAIT})
    cross_entropy = np.mean(losses.cross_entropy(ours, batch['label']))
    if method == recipes.KERAS_DISTILLER_KL:
      divergence = np.mean(losses.soft_targets(ours, theirs, 3.0))
    else:
      # Of logits over T as they are, clipped to [1e-7, 1].
      y, p = (np.clip(x / 3, 1e-7, 1) for x in (theirs, ours))
      divergence = np.mean((y * np.log(y / p)).sum(axis=-1))
    np.testing.assert_allclose(found['cross_entropy'][0], cross_entropy, 1e-4)
    np.testing.assert_allclose(found['distillation'][0], divergence, 1e-3)
    np.testing.assert_allclose(
      found['loss'][0], (cross_entropy + divergence) / 2, 1e-3
    )
    for now, then in zip(teacher.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_two_devices_are_refused(self):
    recipe, strategy = fixtures.recipe(), fixtures.strategy(2)
    with self.assertRaisesRegex(errors.UsageError, 'give --num_replicas=1'):
      incumbent.compile_steps(
        strategy,
        teacher=None,
        student=None,
        optimizer=None,
        method=recipes.KERAS_DISTILLER,
      )
    del recipe


class StageTest(absltest.TestCase):
  def test_run_leaves_what_every_students_run_leaves(self):
    recipe = fixtures.recipe(method='keras_distiller_kl', student=_PLAIN)
    strategy = fixtures.strategy()
    folder = self.create_tempdir().full_path
    teacher, _, _ = _networks(recipe, strategy)
    path = os.path.join(folder, 'teacher.keras')
    teacher.save(path)
    run = run_dir.RunDir(os.path.join(folder, 'run'))
    result = student.train_student(
      recipe,
      fixtures.blobs(),
      run=run,
      strategy=strategy,
      options=loop.Options(),
      teacher=teachers.load(path, fixtures.blobs()),
    )
    self.assertEqual(result['method'], 'keras_distiller_kl')
    self.assertEqual(result['steps'], 9)
    self.assertIn('teacher_agreement', result)
    self.assertContainsSubset(
      {'loss', 'cross_entropy', 'distillation', 'validation_accuracy'},
      run.metrics()[-1],
    )


if __name__ == '__main__':
  absltest.main()
