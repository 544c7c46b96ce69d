"""Weights of classes: their values, and where they count."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import errors, losses, run_dir, specs
from ft_tf.data import datasets
from ft_tf.models import zoo
from ft_tf.training import class_weights, loop, optimizers, teacher
from tests import fixtures


class _WithoutRight(fixtures.Blobs):
  """Has no image of its last class to train on."""

  def read(self, split):
    examples = super().read(split)
    return examples.take(np.flatnonzero(examples.labels < 2))


class OfTest(absltest.TestCase):
  def test_balanced_weights_are_n_over_k_times_n_of_the_class(self):
    # 40, 20 and 10 images of three classes.
    dataset = datasets.Dataset(fixtures.Hostile())
    weights = class_weights.of(
      fixtures.recipe(class_weights='balanced'), dataset
    )
    self.assertEqual(weights.dtype, np.float32)
    np.testing.assert_allclose(weights, [70 / 120, 70 / 60, 70 / 30], rtol=1e-6)
    self.assertAlmostEqual(weights[dataset.train.labels].mean(), 1, places=6)

  def test_they_are_of_the_images_that_are_trained_on(self):
    dataset = fixtures.hostile()  # 14 of the 70 are for validation
    counts = np.bincount(dataset.train.labels)
    weights = class_weights.of(
      fixtures.recipe(class_weights='balanced'), dataset
    )
    np.testing.assert_allclose(weights, 56 / (3 * counts), rtol=1e-6)

  def test_without_them_there_are_none(self):
    self.assertIsNone(class_weights.of(fixtures.recipe(), fixtures.blobs()))

  def test_class_without_images_is_named_and_nothing_written(self):
    folder = os.path.join(self.create_tempdir().full_path, 'run')
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--class_weights=balanced: no image to train on is of class right; add',
    ):
      teacher.train_teacher(
        fixtures.recipe(class_weights='balanced'),
        datasets.Dataset(_WithoutRight()),
        run=run_dir.RunDir(folder),
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
    self.assertFalse(os.path.exists(folder))


class TeacherTest(absltest.TestCase):
  def test_teacher_learns_from_weighted_labels(self):
    recipe, dataset = fixtures.recipe(), fixtures.blobs()
    weights = np.array([0.5, 1, 4], np.float32)
    some = dataset.train.take(np.arange(16))
    image, label = tf.constant(some.images), tf.constant(some.labels)
    keras.utils.set_random_seed(0)
    with fixtures.strategy().scope():
      net = zoo.build('resnet8x0.25', specs.spec(recipe, dataset))
      optimizer, _ = optimizers.make(recipe.teacher, 3.0, 'float32')
      optimizer.build(net.trainable_variables)
    each = losses.cross_entropy(net(image, training=True), label).numpy()
    wanted = float(np.mean(each * weights[some.labels]))
    steps = teacher.compile_steps(
      fixtures.strategy(), net, optimizer, 16, weights=weights
    )
    terms = steps(iter([{'image': image, 'label': label}]), tf.constant(1))
    self.assertAlmostEqual(float(terms['loss'][0]), wanted, places=5)
    self.assertNotAlmostEqual(wanted, float(np.mean(each)), places=2)


if __name__ == '__main__':
  absltest.main()
