"""Plots as SVG: a line per run, a legend entry per method."""

import re
from xml.etree import ElementTree

from absl.testing import absltest

from ft_tf.report import plots, summary

_COLORS = plots.choose_colors(['kd', 'at', 'kd'])
_FT, _SCRATCH = _COLORS['ft'], _COLORS['scratch']


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
  """Returns the texts of a plot, which matplotlib writes as comments."""
  return re.findall(r'<!-- (.*?) -->', svg)


def _numbers(svg):
  return [float(t) for t in _texts(svg) if re.fullmatch(r'-?\d+(\.\d+)?', t)]


def _lines(svg, color):
  """Returns the number of lines of a colour, including the legend."""
  colors = re.findall(r'<path [^>]*style="fill: none; stroke: (#\w+)', svg)
  return colors.count(color)


class CurvesTest(absltest.TestCase):
  def _curves(self, *runs, **kwargs):
    return plots.plot_runs(
      runs, 'validation_accuracy', 'validation accuracy, %', **kwargs
    )

  def test_plot_is_one_svg_element_that_parses(self):
    svg = self._curves(_run('ft', 0, [0.5, 0.6]))
    root = ElementTree.fromstring(svg)
    self.assertEqual(root.tag, '{http://www.w3.org/2000/svg}svg')
    self.assertIn('epoch', _texts(svg))
    self.assertIn('validation accuracy, %', _texts(svg))

  def test_every_run_is_a_line_and_every_method_once_in_the_legend(self):
    svg = self._curves(
      _run('scratch', 0, [0.3, 0.4]),
      _run('ft', 0, [0.5, 0.6]),
      _run('ft', 1, [0.55, 0.65]),
    )
    self.assertEqual(_lines(svg, _FT), 3)
    self.assertEqual(_lines(svg, _SCRATCH), 2)
    self.assertEqual(_texts(svg).count('student, factor transfer'), 1)
    self.assertEqual(_texts(svg).count('baseline (no teacher)'), 1)

  def test_percent_multiplies_by_a_hundred(self):
    runs = [_run('ft', 0, [0.5, 0.6])]
    self.assertGreater(max(_numbers(self._curves(*runs, percent=True))), 50)
    self.assertLess(max(_numbers(self._curves(*runs))), 3)

  def test_run_without_the_field_is_left_out(self):
    svg = self._curves(
      _run('ft', 0, [0.5, 0.6]), _run('scratch', 0, [1.0], field='other')
    )
    self.assertNotIn('baseline (no teacher)', _texts(svg))
    self.assertEqual(_lines(svg, _SCRATCH), 0)

  def test_no_run_with_the_field_gives_no_plot(self):
    self.assertEqual(self._curves(), '')
    self.assertEqual(self._curves(_run('ft', 0, [1.0], field='other')), '')

  def test_plot_of_every_method_has_a_colour_of_its_own(self):
    self.assertEqual(_COLORS.keys(), {'teacher', 'scratch', 'ft', 'kd', 'at'})
    self.assertLen(set(_COLORS.values()), 5)


class BandsTest(absltest.TestCase):
  def test_every_method_is_one_line_and_one_band(self):
    svg = plots.plot_means(
      [
        _run('scratch', 0, [0.3, 0.4]),
        _run('ft', 0, [0.5, 0.6]),
        _run('ft', 1, [0.55, 0.65]),
      ],
      'validation_accuracy',
      'validation accuracy, %',
      percent=True,
    )
    ElementTree.fromstring(svg)
    self.assertEqual(_lines(svg, _FT), 2)  # The plot's and the legend's.
    self.assertEqual(_lines(svg, _SCRATCH), 2)
    self.assertEqual(_texts(svg).count('student, factor transfer'), 1)

  def test_no_run_with_the_field_gives_no_plot(self):
    self.assertEqual(plots.plot_means([_run('ft', 0, [1.0])], 'other', ''), '')


class AccuracyBySizeTest(absltest.TestCase):
  def test_exported_methods_and_formats_are_named_once(self):
    svg = plots.plot_accuracy_by_size(
      [
        summary.Row('teacher', (0.9,), 10, _export(4_000_000, 0.9)),
        summary.Row('scratch', (0.7,), 10, None),
        summary.Row('ft', (0.8,), 10, _export(200_000, 0.8)),
      ]
    )
    ElementTree.fromstring(svg)
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
    self.assertEqual(_lines(svg, _FT), 2)  # The plot's and the legend's.
    self.assertEqual(_lines(svg, _SCRATCH), 0)

  def test_plot_without_an_export_still_parses(self):
    svg = plots.plot_accuracy_by_size(
      [summary.Row('scratch', (0.7,), 10, None)]
    )
    ElementTree.fromstring(svg)


if __name__ == '__main__':
  absltest.main()
