"""Known values of what follows from a confusion matrix."""

import numpy as np
from absl.testing import absltest

from ft_tf.report import predictions, summary

# cat: 3 of 4 right; dog: 1 of 2; none of the images is a fox.
_VALUE = {
  'classes': ['cat', 'dog', 'fox'],
  'confusion': [[0, 0, 3], [0, 2, 1], [1, 0, 1], [1, 1, 1]],
  'reliability': [[2, 0.5, 1.0], [4, 0.9, 0.5]],
}


def _run(method, value):
  return summary.Run(method, {'method': method, 'seed': 0}, [], None, value)


class PredictionsTest(absltest.TestCase):
  def test_images_and_accuracy_by_class(self):
    parsed = predictions.parse(_VALUE)
    np.testing.assert_array_equal(parsed.images, [4, 2, 0])
    np.testing.assert_array_equal(parsed.accuracy, [0.75, 0.5, np.nan])
    self.assertEqual(parsed.balanced_accuracy, 0.625)

  def test_matrix_has_labels_as_rows(self):
    np.testing.assert_array_equal(
      predictions.parse(_VALUE).matrix(), [[3, 0, 1], [1, 1, 0], [0, 0, 0]]
    )

  def test_calibration_error_is_weighted_by_images(self):
    self.assertAlmostEqual(
      predictions.parse(_VALUE).calibration_error, (2 * 0.5 + 4 * 0.4) / 6
    )

  def test_confused_pairs_come_by_falling_number(self):
    value = {**_VALUE, 'confusion': [[0, 0, 3], [0, 1, 1], [1, 0, 5]]}
    parsed = predictions.parse(value)
    self.assertEqual(
      parsed.confused_pairs(5),
      [('dog', 'cat', 5, 1.0), ('cat', 'dog', 1, 0.25)],
    )
    self.assertLen(parsed.confused_pairs(1), 1)

  def test_no_mistakes_give_no_pairs(self):
    value = {**_VALUE, 'confusion': [[0, 0, 3]]}
    self.assertEmpty(predictions.parse(value).confused_pairs(5))

  def test_mean_is_over_the_runs_of_a_method(self):
    other = {**_VALUE, 'confusion': [[0, 0, 1], [1, 0, 1]]}
    runs = [_run('ft', _VALUE), _run('ft', other), _run('kd', None)]
    np.testing.assert_allclose(
      predictions.mean_accuracy(runs, 'ft'), [0.875, 0.25, np.nan]
    )
    self.assertIsNone(predictions.mean_accuracy(runs, 'kd'))
    self.assertIsNone(predictions.mean_accuracy(runs, 'at'))

  def test_mean_over_a_part_of_the_runs_is_not_given(self):
    runs = [_run('ft', _VALUE), _run('ft', None)]
    self.assertIsNone(predictions.mean_accuracy(runs, 'ft'))


if __name__ == '__main__':
  absltest.main()
