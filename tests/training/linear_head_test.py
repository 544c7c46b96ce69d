"""A linear head on a frozen student: what moves, and what it gives."""

import os
import tempfile
from unittest import mock

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, recipe_flags, run_dir
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import model_files
from ft_tf.training import linear_head, loop, student, student_stage
from tests import fixtures


class ScalingTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    deviations = 10.0 ** np.arange(-2, 2)
    self.features = np.float32(rng.normal(3, 1, (500, 4)) * deviations)
    self.scaling = linear_head.Scaling.of(self.features)

  def test_features_have_mean_0_and_mean_square_norm_1(self):
    scaled = self.scaling.features(self.features)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    # The first varies by less than a hundredth of what all do on average.
    np.testing.assert_allclose(scaled[:, 1:].std(axis=0), 0.5, rtol=1e-3)
    self.assertLess(scaled[:, 0].std(), 0.25)

  def test_converted_weights_give_the_same_logits_and_come_back(self):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    converted = self.scaling.to_scaled(kernel, bias)
    np.testing.assert_allclose(
      self.scaling.features(self.features) @ converted[0] + converted[1],
      self.features @ kernel + bias,
      atol=1e-3,
    )
    for value, given in zip(
      self.scaling.from_scaled(*converted), (kernel, bias), strict=True
    ):
      np.testing.assert_allclose(value, given)

  def test_features_that_do_not_vary_stay_finite(self):
    constant = np.full((5, 2), 7.0, np.float32)
    scaled = linear_head.Scaling.of(constant).features(constant)
    np.testing.assert_array_equal(scaled, 0)


class LinearHeadTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.dataset = fixtures.blobs()
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), dtype='uint8')
    y = keras.layers.Rescaling(1 / 255)(image)
    y = keras.layers.Conv2D(16, 3, strides=2, name='features')(y)
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.GlobalAveragePooling2D(keepdims=True)(keras.ops.relu(y))
    y = keras.layers.Dropout(0.5)(y)
    y = keras.layers.Conv2D(3, 1, name='logits')(y)
    network = keras.Model(image, keras.layers.Flatten()(y))
    folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.path = os.path.join(folder, 'pretrained.keras')
    network.save(cls.path)
    cls.start = network
    cls.recipe = fixtures.short_recipe(student=cls.path, method='linear_head')
    # Fewer epochs than users get, since each is looked at.
    cls.enterClassContext(mock.patch.dict(catalogue._LINEAR_HEAD, epochs=10))
    cls.first = run_dir.RunDir(os.path.join(folder, 'run'))
    cls.result = cls.train(cls.first)

  @classmethod
  def train(cls, run, recipe=None, strategy=None, dataset=None):
    return student.train_student(
      recipe or cls.recipe,
      dataset or cls.dataset,
      run=run,
      strategy=strategy or fixtures.strategy(),
      options=loop.Options(checkpoint_steps=4, progress='off'),
    )

  def setUp(self):
    super().setUp()
    self.runs = self.create_tempdir().full_path

  def _run(self, name):
    return run_dir.RunDir(os.path.join(self.runs, name))

  def test_last_layer_alone_moves_and_nothing_stays_frozen(self):
    trained = model_files.load(self.first.model)
    for ours, before in zip(trained.layers, self.start.layers, strict=True):
      moved = [
        not np.array_equal(one, other)
        for one, other in zip(
          ours.get_weights(), before.get_weights(), strict=True
        )
      ]
      self.assertEqual(any(moved), ours.name == 'logits', ours.name)
      self.assertTrue(ours.trainable)

  def test_it_learns_and_the_files_are_those_of_a_student(self):
    rows = self.first.metrics()
    self.assertLess(rows[-1]['cross_entropy'], 0.8 * rows[0]['cross_entropy'])
    self.assertEqual(self.result['method'], 'linear_head')
    trained = predictors.open_predictor(self.first.model)
    scores = metrics.evaluate(trained, self.dataset.test)
    self.assertAlmostEqual(scores['accuracy'], self.result['accuracy'])
    # Features and scaling of the loop's figures are those of the whole network.
    scores = metrics.evaluate(trained, self.dataset.validation)
    self.assertAlmostEqual(
      scores['loss'], self.result['validation_cross_entropy'], places=4
    )
    best = predictors.open_predictor(
      os.path.join(self.first.path, student_stage.BEST)
    )
    scores = metrics.evaluate(best, self.dataset.validation)
    self.assertAlmostEqual(
      scores['accuracy'], max(row.get('validation_accuracy', 0) for row in rows)
    )

  def test_it_trains_where_no_images_are_set_aside_for_validation(self):
    found = self.train(
      self._run('all'), dataset=fixtures.blobs(validation_examples=0)
    )
    self.assertEqual(found['method'], 'linear_head')
    self.assertNotIn('validation_accuracy', found)
    self.assertGreater(found['accuracy'], 0.4)

  def test_its_numbers_are_recorded_whatever_the_recipe_has(self):
    written = self.first.read('recipe.json')
    values = catalogue.linear_head()
    self.assertEqual(written['student']['epochs'], values['student_epochs'])
    self.assertEqual(
      (written['data']['pad'], written['data']['flip']), (0, False)
    )
    self.assertNotIn('teacher_sha256', written)
    self.assertEqual(written['student_sha256'], run_dir.digest(self.path))
    other = recipe_flags.override(
      self.recipe, {'student_learning_rate': 0.3, 'pad': 2, 'flip': True}
    )
    self.assertEqual(self.train(self.first, other), self.result)

  def test_interrupted_run_ends_with_the_same_weights(self):
    with (
      mock.patch.object(
        loop, '_check_finite', side_effect=[*[None] * 5, KeyboardInterrupt]
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train(self._run('cut'))
    result = self.train(self._run('cut'))
    self.assertEqual(result['loss'], self.result['loss'])
    for one, other in zip(
      model_files.load(self._run('cut').model).get_weights(),
      model_files.load(self.first.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_array_equal(one, other)

  def test_features_are_computed_once_for_all_seeds(self):
    other_seed = recipe_flags.override(self.recipe, {'seed': 1})
    with mock.patch.object(linear_head, '_compute', side_effect=AssertionError):
      result = self.train(self._run('one'), other_seed)
    self.assertEqual(result['seed'], 1)
    self.assertNotEqual(result['loss'], self.result['loss'])

  def test_two_devices_equal_one(self):
    self.train(self._run('two'), strategy=fixtures.strategy(2))
    for one, other in zip(
      model_files.load(self._run('two').model).get_weights(),
      model_files.load(self.first.model).get_weights(),
      strict=True,
    ):
      np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)

  @parameterized.parameters(
    ('resnet8x0.25', 'fresh weights, .*; give pretrained ones by'),
    ('pooled.keras', 'does not end in a dense layer'),
  )
  def test_student_that_does_not_serve_is_refused(self, name, reason):
    image = keras.Input((8, 8, 1), dtype='uint8')
    y = keras.layers.Conv2D(3, 3)(keras.layers.Rescaling(1 / 255)(image))
    pooled = keras.Model(image, keras.layers.GlobalAveragePooling2D()(y))
    path = os.path.join(self.runs, 'pooled.keras')
    pooled.save(path)
    student_name = path if name == 'pooled.keras' else name
    recipe = recipe_flags.override(self.recipe, {'student': student_name})
    with self.assertRaisesRegex(errors.UsageError, reason):
      self.train(self._run('refused'), recipe)
    self.assertFalse(os.path.exists(self._run('refused').path))


if __name__ == '__main__':
  absltest.main()
