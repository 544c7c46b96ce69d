"""Plots as SVG: a line and a band per method, a row per gain."""

import re
from xml.etree import ElementTree

from absl.testing import absltest, parameterized

from ft_tf.report import comparison_table, paired, plots, summary


def _run(method, seed, accuracies, field='validation_accuracy'):
  """Returns a run that also logs its loss within epochs, as training does."""
  metrics = []
  for epoch, value in enumerate(accuracies, start=1):
    metrics += [
      {'step': 10 * epoch - 5, 'epoch': epoch - 0.5, 'loss': 1.0},
      {'step': 10 * epoch, 'epoch': epoch, 'loss': 1.0, field: value},
    ]
  result = {'method': method, 'seed': seed, 'accuracy': accuracies[-1]}
  return summary.Run(f'{method}-{seed}', result, metrics, None)


def _export(size, accuracy):
  return {
    f'student_{kind}.tflite': {'bytes': size // divisor, 'accuracy': accuracy}
    for kind, divisor in (('fp32', 1), ('fp16', 2), ('int8', 4))
  }


def _texts(svg):
  ElementTree.fromstring(svg)
  return re.findall(r'<text[^>]*>([^<]*)</text>', svg)


def _numbers(svg):
  return [float(t) for t in _texts(svg) if re.fullmatch(r'-?\d+(\.\d+)?', t)]


def _lines(svg, color):
  """Returns the number of lines of a colour, including the legend."""
  return len(re.findall(rf'fill: none; stroke: var\({color}\)', svg))


def _bands(svg, color):
  return len(re.findall(rf'style="fill: var\({color}\); fill-opacity', svg))


class MeansTest(absltest.TestCase):
  def _means(self, *runs, **kwargs):
    return plots.plot_means(
      runs, 'validation_accuracy', 'validation accuracy, %', **kwargs
    )

  def test_plot_is_one_svg_element_with_its_labels(self):
    svg = self._means(_run('ft', 0, [0.5, 0.6]))
    root = ElementTree.fromstring(svg)
    self.assertEqual(root.tag, '{http://www.w3.org/2000/svg}svg')
    self.assertIn('epoch', _texts(svg))
    self.assertIn('validation accuracy, %', _texts(svg))

  def test_every_method_is_one_line_and_a_band_if_it_has_seeds(self):
    svg = self._means(
      _run('scratch', 0, [0.3, 0.4]),
      _run('ft', 0, [0.5, 0.6]),
      _run('ft', 1, [0.55, 0.65]),
    )
    self.assertEqual(_lines(svg, '--student'), 2)  # The plot's, the legend's.
    self.assertEqual(_lines(svg, '--baseline'), 2)
    self.assertEqual(_bands(svg, '--student'), 1)
    self.assertEqual(_bands(svg, '--baseline'), 0)
    self.assertEqual(_texts(svg).count('student, factor transfer'), 1)
    self.assertEqual(_texts(svg).count('baseline (no teacher)'), 1)

  def test_percent_multiplies_by_a_hundred(self):
    runs = [_run('ft', 0, [0.5, 0.6])]
    self.assertGreater(max(_numbers(self._means(*runs, percent=True))), 50)
    self.assertLess(max(_numbers(self._means(*runs))), 3)

  def test_band_of_an_accuracy_ends_at_a_hundred_percent(self):
    # Mean 0.95, deviation 0.071.
    runs = [_run('ft', 0, [0.9, 0.9]), _run('ft', 1, [1.0, 1.0])]
    self.assertLessEqual(max(_numbers(self._means(*runs, percent=True))), 100)

  def test_run_without_the_field_is_left_out(self):
    svg = self._means(
      _run('ft', 0, [0.5, 0.6]), _run('scratch', 0, [1.0], field='other')
    )
    self.assertNotIn('baseline (no teacher)', _texts(svg))
    self.assertEqual(_lines(svg, '--baseline'), 0)

  def test_value_that_was_not_finite_is_left_out(self):
    # JSON has no NaN: such a value is null.
    svg = self._means(_run('ft', 0, [0.5, None, 0.6]))
    self.assertEqual(_lines(svg, '--student'), 2)

  def test_no_run_with_the_field_gives_no_plot(self):
    self.assertEqual(self._means(), '')
    self.assertEqual(self._means(_run('ft', 0, [1.0], field='other')), '')


class AccuracyBySizeTest(absltest.TestCase):
  def test_exported_methods_and_formats_are_named_once(self):
    svg = plots.plot_accuracy_by_size(
      [
        summary.Row('teacher', (0.9,), 10, _export(4_000_000, 0.9)),
        summary.Row('scratch', (0.7,), 10, None),
        summary.Row('ft', (0.8,), 10, _export(200_000, 0.8)),
      ]
    )
    texts = _texts(svg)
    for text in (
      'teacher',
      'student, factor transfer',
      'float32',
      'float16',
      'int8',
      'TFLite file, KiB',
      'test accuracy, %',
    ):
      self.assertEqual(texts.count(text), 1, text)
    self.assertNotIn('baseline (no teacher)', texts)  # It was not exported.
    self.assertEqual(_lines(svg, '--student'), 2)  # The plot's, the legend's.
    self.assertEqual(_lines(svg, '--baseline'), 0)

  def test_no_export_gives_no_plot(self):
    self.assertEqual(
      plots.plot_accuracy_by_size([summary.Row('scratch', (0.7,), 10, None)]),
      '',
    )


class GainsTest(parameterized.TestCase):
  def _row(self, method, gain):
    return comparison_table.Row(method, (0.9,), 10, None, (), gain)

  def test_each_arm_with_a_gain_is_a_row_with_its_verdict(self):
    svg = plots.plot_gains(
      [
        self._row('teacher', None),
        self._row('scratch', None),
        self._row('kd', paired.Gain(-0.02, -0.03, -0.01, 5, 0.01, 2)),
        self._row('ft', paired.Gain(0.01, -0.01, 0.03, 5, 0.4, 2)),
        self._row('at', paired.Gain(0.02, 0.01, 0.03, 5, 0.01, 2)),
        self._row('sp', paired.Gain(0.02, None, None, 1, None, 2)),
      ]
    )
    texts = [' '.join(text.split()) for text in _texts(svg)]
    rows = ('student, kd', 'student, factor transfer', 'student, at')
    self.assertContainsSubset((*rows, 'student, sp'), texts)
    self.assertNotIn('baseline (no teacher)', texts)
    for text in (
      '-2.00 worse',
      '+1.00 no clear difference',
      '+2.00 better',
      '+2.00 no clear difference',
    ):
      self.assertIn(text, texts)

  @parameterized.parameters(
    (paired.Gain(0.02, 0.01, 0.03, 5, 0.01, 1), True),
    (paired.Gain(0.02, -0.01, 0.05, 5, 0.4, 1), False),
  )
  def test_marker_is_filled_only_where_the_difference_is_clear(
    self, gain, filled
  ):
    svg = plots.plot_gains([self._row('ft', gain)])
    self.assertEqual('fill: var(--page)' in svg, not filled)

  def test_no_gain_gives_no_plot(self):
    self.assertEqual(plots.plot_gains([self._row('scratch', None)]), '')


if __name__ == '__main__':
  absltest.main()
