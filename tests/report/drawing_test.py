"""Colours that follow the page, and text that is left as it is."""

import re

from absl.testing import absltest

from ft_tf.report import drawing


def _luminance(color):
  """Returns the relative luminance of '#rrggbb' (WCAG 2.1)."""
  values = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [
    v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values
  ]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first, second):
  low, high = sorted(map(_luminance, (first, second)))
  return (high + 0.05) / (low + 0.05)


class DrawingTest(absltest.TestCase):
  @drawing.style()
  def _plot(self, name='a'):
    plot, axes = drawing.new()
    axes.plot([0, 1], color=drawing.STUDENT)
    axes.axvline(0.5, color='black')
    axes.set_yticks([0], [name])
    return drawing.to_svg(plot)

  def test_every_method_has_a_colour_of_its_own(self):
    colors = drawing.choose_colors(['kd', 'at', 'kd'])
    self.assertEqual(colors.keys(), {'teacher', 'scratch', 'ft', 'kd', 'at'})
    self.assertLen(set(colors.values()), 5)

  def test_lines_differ_where_colours_repeat(self):
    methods = [f'ft,beta={i}' for i in range(40)]
    colors = drawing.choose_colors(methods)
    dashes = drawing.choose_dashes(methods)
    self.assertLen({(colors[m], dashes[m]) for m in methods}, 40)

  def test_colours_stand_out_on_light_and_dark_pages(self):
    # WCAG 2.1, 1.4.11 asks for 3 to 1; the pages are #fff and #14191d.
    for _, light, dark in drawing.COLORS:
      self.assertGreater(_contrast(light, '#ffffff'), 3, light)
      self.assertGreater(_contrast(dark, '#14191d'), 3, dark)

  def test_plot_takes_its_colours_from_the_page(self):
    svg = self._plot()
    self.assertIn('stroke: var(--student)', svg)
    self.assertIn('stroke: currentColor', svg)
    self.assertEqual(
      {*re.findall('#[0-9a-f]{6}', svg)},
      {'#b0b0b0'},  # the grid
    )

  def test_text_is_not_taken_for_a_colour_formula_or_id(self):
    for name in ('#000000', '$x_{$', ' id="x"', 'url(#x)', '鳥'):
      svg = drawing.prefix_ids(self._plot(name), 'p1-')
      self.assertIn(f'>{name}</text>', svg)

  def test_prefix_comes_before_ids_and_references(self):
    svg = drawing.prefix_ids(
      '<g id="a"><use xlink:href="#a" clip-path="url(#b)"/></g>', 'p1-'
    )
    self.assertEqual(
      svg,
      '<g id="p1-a"><use xlink:href="#p1-a" clip-path="url(#p1-b)"/></g>',
    )


if __name__ == '__main__':
  absltest.main()
