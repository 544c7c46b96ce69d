"""Scores against hand-made values, and one answer from every format."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import errors, evaluation
from ft_tf.data import datasets
from ft_tf.export import convert
from ft_tf.models import layers, zoo
from tests import fixtures


def _examples(count=7, channels=1, size=8):
  rng = np.random.default_rng(0)
  return datasets.Examples(
    rng.integers(256, size=(count, size, size, channels)).astype(np.uint8),
    rng.integers(3, size=count),
  )


class SoftmaxTest(absltest.TestCase):
  def test_loss_is_of_logits_where_a_file_gives_probabilities(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    logits = keras.layers.Dense(3, name='logits')
    plain = keras.Model(image, logits(x))
    soft = keras.Model(image, keras.layers.Softmax()(logits(x)))
    losses = []
    for name, model in (('plain', plain), ('soft', soft)):
      path = f'{self.create_tempdir().full_path}/{name}.keras'
      model.save(path)
      scores = evaluation.evaluate(
        evaluation.predictor(path), fixtures.blobs().test
      )
      losses.append(scores['loss'])
    self.assertAlmostEqual(*losses, places=5)


class ScoreTest(absltest.TestCase):
  def test_known_values(self):
    # Softmax (1/4, 3/4) and (1/2, 1/2); the labels are 1 and 1.
    outputs = np.float32([[0, np.log(3)], [5, 5]])
    scores = evaluation.score(outputs, np.array([1, 1]))
    self.assertEqual(scores['accuracy'], 0.5)  # a tie goes to the first
    self.assertAlmostEqual(
      scores['loss'], -(np.log(0.75) + np.log(0.5)) / 2, places=6
    )
    self.assertEqual(scores['examples'], 2)

  def test_large_logits_give_a_finite_loss(self):
    scores = evaluation.score(np.float32([[1e4, -1e4]]), np.array([1]))
    self.assertAlmostEqual(scores['loss'], 2e4, places=3)


class CalibrationTest(absltest.TestCase):
  def test_known_value_when_worked_out_by_hand(self):
    # Confidence 0.75 twice, right once; 0.95 once, right.
    outputs = np.log([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95]])
    error = evaluation.calibration_error(outputs, np.array([0, 1, 1]))
    self.assertAlmostEqual(error, (2 * 0.25 + 0.05) / 3)

  def test_certain_and_right_is_calibrated(self):
    outputs = np.float32([[100, 0], [0, 100]])
    self.assertAlmostEqual(
      evaluation.calibration_error(outputs, np.array([0, 1])), 0
    )

  def test_likeness_counts_tops_and_divergence(self):
    theirs = np.log([[0.75, 0.25], [0.5, 0.5]])
    ours = np.log([[0.5, 0.5], [0.25, 0.75]])
    found = evaluation.likeness(ours, theirs)
    self.assertEqual(found['teacher_agreement'], 0.5)
    self.assertAlmostEqual(
      found['teacher_divergence'],
      (
        0.75 * np.log(1.5)
        + 0.25 * np.log(0.5)
        + 0.5 * np.log(2)
        + 0.5 * np.log(2 / 3)
      )
      / 2,
    )


class PredictorTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    cls.model = zoo.build(
      'resnet8x0.25', layers.Spec((8, 8, 1), 3, (0.5,), (0.25,))
    )

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _path(self, name):
    return os.path.join(self.folder, name)

  def test_every_format_gives_the_models_logits(self):
    self.model.save(self._path('m.keras'))
    convert.saved_model(self.model, self._path('saved'))
    with open(self._path('m.tflite'), 'wb') as file:
      file.write(convert.tflite_float32(self.model))
    images = _examples().images
    expected = self.model(images, training=False)
    for name in ('m.keras', 'saved', 'm.tflite'):
      predict = evaluation.predictor(self._path(name))
      self.assertEqual(predict.image_shape, (8, 8, 1))
      self.assertEqual(predict.image_size, 8)
      np.testing.assert_allclose(
        predict(images), expected, atol=1e-5, err_msg=name
      )
      # Another batch size, as the last batch has.
      np.testing.assert_allclose(predict(images[:2]), expected[:2], atol=1e-5)

  def test_evaluation_moves_no_variable(self):
    before = self.model.get_weights()
    evaluation.evaluate(evaluation.KerasPredictor(self.model), _examples())
    for now, then in zip(self.model.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_more_images_than_a_batch_are_all_counted(self):
    examples = _examples(301)
    scores = evaluation.evaluate(
      evaluation.KerasPredictor(self.model), examples
    )
    expected = self.model(examples.images, training=False).numpy()
    self.assertEqual(scores['examples'], 301)
    self.assertAlmostEqual(
      scores['accuracy'], (expected.argmax(1) == examples.labels).mean()
    )

  def test_image_size_is_0_when_a_model_takes_any(self):
    model = keras.Sequential(
      [
        keras.Input((None, None, 1), dtype='uint8'),
        keras.layers.Rescaling(1 / 255),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
      ]
    )
    predict = evaluation.KerasPredictor(model)
    self.assertEqual(predict.image_size, 0)
    self.assertEqual(predict(_examples(size=5).images).shape, (7, 3))

  def test_images_of_another_shape_are_refused(self):
    convert.saved_model(self.model, self._path('saved'))
    with open(self._path('m.tflite'), 'wb') as file:
      file.write(convert.tflite_float32(self.model))
    for predict in (
      evaluation.KerasPredictor(self.model),
      evaluation.predictor(self._path('saved')),
      evaluation.predictor(self._path('m.tflite')),
    ):
      with self.assertRaisesRegex(errors.UsageError, 'does not take images'):
        evaluation.evaluate(predict, _examples(size=9))

  def test_labels_beyond_the_models_classes_are_refused(self):
    examples = _examples()
    examples.labels[0] = 3
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      evaluation.evaluate(evaluation.KerasPredictor(self.model), examples)

  def test_what_is_no_model_is_refused(self):
    for name in ('a.keras', 'a.tflite'):
      with open(self._path(name), 'wb') as file:
        file.write(b'nothing')
      with self.assertRaisesRegex(errors.UsageError, 'does not load'):
        evaluation.predictor(self._path(name))
    with self.assertRaisesRegex(errors.UsageError, 'there is no file'):
      evaluation.predictor(self._path('absent.keras'))
    with self.assertRaisesRegex(errors.UsageError, 'not a SavedModel'):
      evaluation.predictor(self.folder)
    tf.saved_model.save(tf.Module(), self._path('empty'))
    with self.assertRaisesRegex(errors.UsageError, 'serving_default'):
      evaluation.predictor(self._path('empty'))


if __name__ == '__main__':
  absltest.main()
