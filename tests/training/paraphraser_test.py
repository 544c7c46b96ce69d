"""The paraphraser's stage: no labels, a frozen teacher, a better map."""

import os
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, factors, run_dir, specs, teachers
from ft_tf.data import datasets, example_sets, views
from ft_tf.models import model_files, taps, zoo
from ft_tf.training import loop, optimizers, paraphraser
from tests import fixtures


class Mislabelled(fixtures.Blobs):
  """The same images under labels that say nothing."""

  def read(self, split):
    examples = super().read(split)
    return example_sets.Examples(
      examples.images, np.zeros_like(examples.labels)
    )


class TrainParaphraserTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.strategy = fixtures.strategy()
    keras.utils.set_random_seed(3)
    with cls.strategy.scope():
      teacher = zoo.build(
        'resnet8x0.25', specs.spec(fixtures.recipe(), fixtures.blobs())
      )
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    path = os.path.join(cls.folder, 'teacher.keras')
    teacher.save(path)
    cls.teacher = teachers.load(path, fixtures.blobs())

  def _train(self, name, recipe, dataset=None):
    run = run_dir.RunDir(os.path.join(self.folder, name))
    return run, paraphraser.train_paraphraser(
      recipe,
      dataset or fixtures.blobs(),
      teacher=self.teacher,
      run=run,
      strategy=self.strategy,
      options=loop.Options(log_steps=3),
    )

  def _train_long(self, kind, source=fixtures.Blobs):
    """Returns a run of 30 epochs and its result, the same to every test."""
    return self._train(
      f'{kind}-{source.__name__}',
      fixtures.recipe(reconstruction=kind, paraphraser_epochs=30),
      datasets.Dataset(source(), validation_examples=8),
    )

  @pytest.mark.slow
  def test_each_layer_has_a_paraphraser_and_one_that_stands_twice_one(self):
    recipe = fixtures.recipe(
      teacher_layer='group?,group2,auto',
      student_layer='group3,group2,group2',
      paraphraser_epochs=1,
    )
    with self.assertRaisesRegex(errors.UsageError, 'of one layer; give one'):
      self._train('one', recipe)
    run = run_dir.RunDir(os.path.join(self.folder, 'several'))
    work = {'strategy': self.strategy, 'options': loop.Options()}
    trained = paraphraser.train_paraphrasers(
      recipe, fixtures.blobs(), teacher=self.teacher, run=run, **work
    )
    self.assertEqual(
      [each.model.layer for each in trained], ['group3', 'group2', 'group3']
    )
    self.assertLen(run.parts(), 3)
    recipe = fixtures.recipe(
      teacher_layer='auto,auto',
      student_layer='group3,group2',
      paraphraser_epochs=1,
    )
    run = run_dir.RunDir(os.path.join(self.folder, 'twice'))
    one, two = paraphraser.train_paraphrasers(
      recipe, fixtures.blobs(), teacher=self.teacher, run=run, **work
    )
    self.assertIs(one, two)

  @parameterized.parameters('l1', 'l2')
  def test_reconstruction_gets_better(self, kind):
    run, result = self._train_long(kind)
    rows = run.metrics()
    self.assertLess(rows[-1]['reconstruction'], rows[0]['reconstruction'])
    self.assertEqual(
      result['validation_reconstruction'], rows[-1]['validation_reconstruction']
    )
    loaded = keras.models.load_model(run.model)
    self.assertIsInstance(loaded, factors.Paraphraser)

  def test_reconstruction_is_better_than_the_mean_after_30_epochs(self):
    _, result = self._train_long('l1')
    self.assertLess(result['reconstruction'], result['reconstruction_of_mean'])

  def test_labels_are_not_read(self):
    _, one = self._train_long('l1')
    _, other = self._train_long('l1', Mislabelled)
    self.assertEqual(one['reconstruction'], other['reconstruction'])

  def test_teacher_does_not_move_and_two_replicas_equal_one(self):
    recipe = fixtures.recipe()
    trained = []
    for replicas in (1, 2):
      strategy = fixtures.strategy(replicas)
      keras.utils.set_random_seed(0)
      with strategy.scope():
        teacher = model_files.load(self.teacher.path)
        before = teacher.get_weights()
        features = taps.features(teacher, ['group3'])
        model = factors.Paraphraser(0.5)
        model.build(features.output['group3'].shape)
        optimizer, _ = optimizers.make(recipe.paraphraser, 3.0)
        optimizer.build(model.trainable_variables)
      stream = views.stream(
        fixtures.blobs().train,
        recipe.data,
        seed=0,
        first_step=0,
        last_step=2,
        labels=False,
      )
      train_steps = paraphraser.compile_steps(
        strategy,
        lambda images, f=features: f(images, training=False)['group3'],
        model,
        optimizer,
        'l1',
        16,
      )
      train_steps(
        iter(strategy.experimental_distribute_dataset(stream)), tf.constant(2)
      )
      trained.append(model.get_weights())
      for now, then in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    for one, two in zip(*trained, strict=True):
      np.testing.assert_allclose(one, two, atol=1e-5)


if __name__ == '__main__':
  absltest.main()
