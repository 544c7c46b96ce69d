"""Which classes are shown, and what the plots of predictions hold."""

import base64
import io
import re

import matplotlib.image
import numpy as np
from absl.testing import absltest

from ft_tf.report import prediction_plots, predictions


def _texts(svg):
  return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


class ChooseClassesTest(absltest.TestCase):
  def test_few_classes_keep_their_order(self):
    self.assertEqual(
      prediction_plots.choose_classes(np.array([0.5, np.nan, 0.1])), [0, 2]
    )

  def test_many_classes_leave_the_lowest(self):
    accuracy = np.linspace(1, 0, 100)
    self.assertEqual(
      prediction_plots.choose_classes(accuracy), list(range(99, 79, -1))
    )


class PlotsTest(absltest.TestCase):
  def test_every_class_and_network_is_named(self):
    svg = prediction_plots.plot_by_class(
      ['cat', 'a' * 40],
      {
        'teacher': np.array([0.9, 0.8]),
        'baseline': np.array([0.5, np.nan]),
        'student': np.array([0.7, 0.6]),
      },
    )
    self.assertContainsSubset(
      ['cat', 'a' * 23 + '…', 'teacher', 'baseline', 'student'], _texts(svg)
    )

  def test_reliability_names_the_calibration_errors(self):
    value = {'classes': ['a'], 'confusion': [[0, 0, 4]]}
    svg = prediction_plots.plot_reliability(
      {
        'student': predictions.parse({**value, 'reliability': [[4, 0.8, 0.5]]}),
        'teacher': predictions.parse({**value, 'reliability': [[4, 0.9, 1]]}),
      }
    )
    texts = _texts(svg)
    self.assertIn('student, ECE 30.0 %', texts)
    self.assertIn('teacher, ECE 10.0 %', texts)

  def test_shades_are_roots_of_the_shares_of_a_row(self):
    svg = prediction_plots.plot_confusion(
      predictions.parse(
        {
          'classes': ['a', 'b', 'c'],
          'confusion': [[0, 0, 3], [0, 1, 1], [1, 2, 5]],
          'reliability': [],
        }
      )
    )
    png = base64.b64decode(re.search('base64,([^"]*)', svg)[1])
    pixels = matplotlib.image.imread(io.BytesIO(png))
    shades = np.sqrt([[0.75, 0.25, 0], [0, 0, 1], [0, 0, 0]])
    if not np.allclose(pixels[..., 3], shades, atol=0.01):
      # Matplotlib stores the rows from the bottom in some releases.
      shades = shades[::-1]
    np.testing.assert_allclose(pixels[..., 3], shades, atol=0.01)


if __name__ == '__main__':
  absltest.main()
