"""Known values of the figures, and logits that are refused."""

import json

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.data import example_sets
from ft_tf.evaluation import metrics, predictors
from tests import fixtures


def _examples(count=7, channels=1, size=8):
  rng = np.random.default_rng(0)
  return example_sets.Examples(
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
      scores = metrics.evaluate(
        predictors.open_predictor(path), fixtures.blobs().test
      )
      losses.append(scores['loss'])
    self.assertAlmostEqual(*losses, places=5)


class ScoreTest(absltest.TestCase):
  def test_known_values(self):
    # Softmax (1/4, 3/4) and (1/2, 1/2); the labels are 1 and 1.
    outputs = np.float32([[0, np.log(3)], [5, 5]])
    scores = metrics.score(outputs, np.array([1, 1]))
    self.assertEqual(scores['accuracy'], 0.5)  # a tie goes to the first
    self.assertAlmostEqual(
      scores['loss'], -(np.log(0.75) + np.log(0.5)) / 2, places=6
    )
    self.assertEqual(scores['examples'], 2)

  def test_large_logits_give_a_finite_loss(self):
    scores = metrics.score(np.float32([[1e4, -1e4]]), np.array([1]))
    self.assertAlmostEqual(scores['loss'], 2e4, places=3)


class CalibrationTest(absltest.TestCase):
  def test_known_value_when_worked_out_by_hand(self):
    # Confidence 0.75 twice, right once; 0.95 once, right.
    outputs = np.log([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95]])
    error = metrics.calibration_error(outputs, np.array([0, 1, 1]))
    self.assertAlmostEqual(error, (2 * 0.25 + 0.05) / 3)

  def test_certain_and_right_is_calibrated(self):
    outputs = np.float32([[100, 0], [0, 100]])
    self.assertAlmostEqual(
      metrics.calibration_error(outputs, np.array([0, 1])), 0
    )

  def test_likeness_counts_tops_and_divergence(self):
    theirs = np.log([[0.75, 0.25], [0.5, 0.5]])
    ours = np.log([[0.5, 0.5], [0.25, 0.75]])
    found = metrics.likeness(ours, theirs)
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


class SummarizePredictionsTest(absltest.TestCase):
  def test_known_cells_and_bins(self):
    # Confidence 0.75, 0.75, 0.75 and 0.95; the second is wrong.
    first = [0.75, 0.2, 0.05]
    outputs = np.log([first, first, [0.2, 0.75, 0.05], [0.03, 0.02, 0.95]])
    summary = metrics.summarize_predictions(
      outputs, np.array([0, 2, 1, 2]), ['a', 'b', 'c']
    )
    self.assertEqual(summary['classes'], ['a', 'b', 'c'])
    self.assertEqual(
      summary['confusion'], [[0, 0, 1], [1, 1, 1], [2, 0, 1], [2, 2, 1]]
    )
    low, high = summary['reliability']
    np.testing.assert_allclose(low, [3, 0.75, 2 / 3])
    np.testing.assert_allclose(high, [1, 0.95, 1])

  def test_cells_and_bins_hold_every_image(self):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(500, 7))
    labels = rng.integers(7, size=500)
    summary = metrics.summarize_predictions(outputs, labels, list('abcdefg'))
    cells = np.array(summary['confusion'])
    np.testing.assert_array_equal(
      np.bincount(cells[:, 0], cells[:, 2]), np.bincount(labels)
    )
    correct = cells[cells[:, 0] == cells[:, 1], 2].sum()
    self.assertEqual(correct / 500, metrics.score(outputs, labels)['accuracy'])
    images, confidence, accuracy = np.array(summary['reliability']).T
    self.assertAlmostEqual(
      float((images * np.abs(confidence - accuracy)).sum() / 500),
      metrics.calibration_error(outputs, labels),
    )
    json.dumps(summary)  # plain numbers


class TestScoresTest(absltest.TestCase):
  def test_accuracy_by_class_and_its_mean(self):
    # cat: 3 of 4, dog: 1 of 2; none is a fox.
    labels = np.array([0, 0, 1, 0, 1, 0])
    outputs = np.eye(3)[[0, 0, 1, 2, 0, 0]]
    scores = metrics.test_scores(outputs, labels, ('cat', 'dog', 'fox'))
    self.assertEqual(scores['accuracy_by_class'], {'cat': 0.75, 'dog': 0.5})
    self.assertEqual(scores['balanced_accuracy'], 0.625)
    self.assertAlmostEqual(scores['accuracy'], 4 / 6)
    json.dumps(scores)  # plain numbers


class FiniteTest(absltest.TestCase):
  def _predictor(self, given=''):
    image = keras.Input((8, 8, 1))
    x = keras.layers.GlobalMaxPooling2D()(image)
    # Not a number for an image that is black all over.
    x = keras.layers.Concatenate()([x / x, x / x])
    return predictors.KerasPredictor(keras.Model(image, x), given=given)

  def test_outputs_that_are_not_finite_are_refused_by_whose_they_are(self):
    examples = _examples(5)
    examples.images[3] = 0
    with self.assertRaisesRegex(
      errors.UsageError, r'^a\.keras gives .*not finite .* 1 of 5 images'
    ):
      metrics.evaluate(self._predictor('a.keras'), examples)
    with self.assertRaisesRegex(errors.TrainingError, 'the trained network'):
      metrics.evaluate(self._predictor(), examples)


if __name__ == '__main__':
  absltest.main()
