"""The paraphraser's stage: no labels, a frozen teacher, a better map."""

import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, factors, losses, run_dir
from ft_tf.data import datasets, views
from ft_tf.models import taps, zoo
from ft_tf.training import common, loop, paraphraser, sgd
from tests import fixtures


class Mislabelled(fixtures.Blobs):
  """The same images under labels that say nothing."""

  def read(self, split):
    examples = super().read(split)
    return datasets.Examples(examples.images, np.zeros_like(examples.labels))


class MeasureTest(parameterized.TestCase):
  @parameterized.parameters('l1', 'l2')
  def test_figures_are_those_of_all_maps_and_few_maps_are_held(self, kind):
    keras.utils.set_random_seed(0)
    model = factors.Paraphraser(0.5)
    model.build((None, 4, 4, 6))
    # A factor that hardly moves, beside a constant that is large.
    last = model.encoder[-1]
    kernel, bias = last.get_weights()
    kernel[..., 1] *= 1e-4
    bias[1] = 5
    last.set_weights([kernel, bias])
    held = []

    def feature(images):
      # Runs when the graph does, not when it is traced.
      return tf.numpy_function(
        lambda x: held.append(len(x)) or np.float32(x) / 64,
        [images],
        tf.float32,
      )

    measure = paraphraser._Measure(
      lambda images: tf.ensure_shape(feature(images), [None, 4, 4, 6]),
      model,
      kind,
    )
    images = np.random.default_rng(0).integers(256, size=(37, 4, 4, 6))
    images = images.astype(np.uint8)
    with mock.patch.object(paraphraser, '_AT_ONCE', 8):
      scores = measure.scores(images)
      loss = measure.reconstruction(images)
    self.assertEqual(max(held), 8)
    maps = np.float32(images) / 64
    expected = {}
    for name, other in (
      ('reconstruction', np.asarray(model(maps))),
      ('reconstruction_of_mean', maps.mean(axis=0)[None] + 0 * maps),
    ):
      expected[name] = np.mean(losses.reconstruction(other, maps, kind))
      self.assertAlmostEqual(scores[name], expected[name], places=5)
    self.assertAlmostEqual(loss, expected['reconstruction'], places=5)
    spread = np.asarray(model.encode(maps)).std(axis=(0, 1, 2))
    self.assertEqual(
      scores['dead_factors'], (spread < spread.max() / 100).sum()
    )
    self.assertEqual(scores['dead_factors'], 1)


class TrainParaphraserTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.strategy = fixtures.strategy()
    keras.utils.set_random_seed(3)
    with self.strategy.scope():
      teacher = zoo.build(
        'resnet8x0.25', common.spec(fixtures.recipe(), fixtures.blobs())
      )
    self.folder = self.create_tempdir().full_path
    self.teacher = os.path.join(self.folder, 'teacher.keras')
    teacher.save(self.teacher)

  def _train(self, name, recipe=None, dataset=None):
    run = run_dir.RunDir(os.path.join(self.folder, name))
    return run, paraphraser.train_paraphraser(
      recipe or fixtures.recipe(),
      dataset or fixtures.blobs(),
      teacher=self.teacher,
      run=run,
      strategy=self.strategy,
      options=loop.Options(log_steps=3),
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
    paths = paraphraser.train_paraphrasers(
      recipe, fixtures.blobs(), teacher=self.teacher, run=run, **work
    )
    self.assertEqual(
      [zoo.load(path).layer for path in paths], ['group3', 'group2', 'group3']
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
    self.assertEqual(one, two)

  @parameterized.parameters('l1', 'l2')
  def test_reconstruction_gets_better(self, kind):
    recipe = fixtures.recipe(reconstruction=kind, paraphraser_epochs=30)
    run, result = self._train(kind, recipe)
    rows = run.metrics()
    self.assertLess(rows[-1]['reconstruction'], rows[0]['reconstruction'])
    self.assertEqual(
      result['validation_reconstruction'], rows[-1]['validation_reconstruction']
    )
    loaded = keras.models.load_model(run.model)
    self.assertIsInstance(loaded, factors.Paraphraser)

  def test_reconstruction_is_better_than_the_mean_after_30_epochs(self):
    _, result = self._train('a', fixtures.recipe(paraphraser_epochs=30))
    self.assertLess(result['reconstruction'], result['reconstruction_of_mean'])

  def test_labels_are_not_read(self):
    _, one = self._train('labelled')
    _, other = self._train(
      'mislabelled',
      dataset=datasets.Dataset(Mislabelled(), validation_examples=8),
    )
    self.assertEqual(one['reconstruction'], other['reconstruction'])

  def test_teacher_of_other_classes_is_refused_and_nothing_written(self):
    source = fixtures.Blobs()
    source.label_names = ('left', 'right')
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      self._train('classes', dataset=datasets.Dataset(source))
    self.assertFalse(os.path.exists(os.path.join(self.folder, 'classes')))

  def test_teacher_does_not_move_and_two_replicas_equal_one(self):
    recipe = fixtures.recipe()
    trained = []
    for replicas in (1, 2):
      strategy = fixtures.strategy(replicas)
      keras.utils.set_random_seed(0)
      with strategy.scope():
        teacher = zoo.load(self.teacher)
        before = teacher.get_weights()
        features = taps.features(teacher, ['group3'])
        model = factors.Paraphraser(0.5)
        model.build(features.output['group3'].shape)
        optimizer, _ = sgd.make(recipe.paraphraser, 3.0)
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
