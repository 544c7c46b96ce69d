"""What all plots share: the colours, and the way to an <svg> element.

A plot takes its colours from the page: black becomes the page's text colour and
the colours of the methods become CSS variables, so that a plot is as readable
on a dark page as on a light one. Its text stays text.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
from matplotlib import axes as plot_axes
from matplotlib import figure

# The CSS variable of a colour, and its value on light and dark pages.
_FIXED = {
  'teacher': ('--teacher', '#5b6770', '#a3b0ba'),
  'scratch': ('--baseline', '#c2571a', '#f0935a'),
  'ft': ('--student', '#1763a6', '#5fa8ec'),
}
_FURTHER = tuple(
  (f'--method-{number}', light, dark)
  for number, (light, dark) in enumerate(
    (
      ('#2f8f5b', '#5cc48b'),
      ('#8a4fbf', '#bd8ff0'),
      ('#c23b6b', '#f07fa5'),
      ('#8c6d1f', '#d3b04e'),
      ('#1f8693', '#57c7d4'),
      ('#5c7a1e', '#a5c860'),
      ('#a8583f', '#e59a80'),
      ('#4c566a', '#a9b4cc'),
      ('#94588d', '#d59ecf'),
      ('#7a3b2e', '#cf9384'),
    )
  )
)
COLORS = (*_FIXED.values(), *_FURTHER)
BACKGROUND = '#fffffe'  # the page's; no plot has another use for it
TEACHER, BASELINE, STUDENT = (light for _, light, _ in _FIXED.values())
_TAG = re.compile('<[^>]*>')  # not the text between tags, which is the user's
_STYLE: dict[Any, Any] = {
  'svg.fonttype': 'none',  # text, not outlines
  'text.parse_math': False,  # a class name may contain $
  'font.family': 'sans-serif',
  'font.sans-serif': ['DejaVu Sans'],  # Matplotlib brings it along
  'font.size': 10,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.6,
}


def choose_colors(methods: Iterable[str]) -> dict[str, str]:
  """Returns a colour for each method; teacher, scratch and ft have fixed ones.

  The colours repeat after ten further methods.
  """
  further = _further(methods)
  return {
    **{method: light for method, (_, light, _) in _FIXED.items()},
    **{m: _FURTHER[i % len(_FURTHER)][1] for i, m in enumerate(further)},
  }


def choose_dashes(methods: Iterable[str]) -> dict[str, str]:
  """Returns a line style for each method, where colours repeat another one."""
  return {
    **dict.fromkeys(_FIXED, '-'),
    **{
      m: ('-', '--', ':', '-.')[i // len(_FURTHER) % 4]
      for i, m in enumerate(_further(methods))
    },
  }


def _further(methods: Iterable[str]) -> list[str]:
  return [m for m in dict.fromkeys(methods) if m not in _FIXED]


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Holds the plots' style, while a plot is made and written."""
  with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
    # Only the widths of such letters are unknown; a browser has them.
    warnings.filterwarnings('ignore', message='Glyph .* missing from font')
    yield


def new(
  width: float = 5.2, height: float = 3.2
) -> tuple[figure.Figure, plot_axes.Axes]:
  """Returns an empty plot with a grid, and its axes; sizes in inches."""
  plot = figure.Figure(figsize=(width, height), layout='constrained')
  axes = plot.subplots()
  axes.grid(alpha=0.3, linewidth=0.6)
  axes.set_axisbelow(True)
  return plot, axes


def to_svg(plot: figure.Figure) -> str:
  """Returns the plot as an <svg> element that a page can contain."""
  buffer = io.StringIO()
  plot.savefig(buffer, format='svg', transparent=True, metadata={'Date': None})
  text = buffer.getvalue()
  colors = {'#000000': 'currentColor', BACKGROUND: 'var(--page)'}
  colors |= {light: f'var({variable})' for variable, light, _ in COLORS}

  def recolor(tag):
    return re.sub(
      '#[0-9a-f]{6}', lambda color: colors.get(color[0], color[0]), tag[0]
    )

  return _TAG.sub(recolor, text[text.index('<svg') :])


def prefix_ids(svg: str, prefix: str) -> str:
  """Puts a prefix before every id of a plot, and in the references to them.

  Matplotlib gives the same ids in every plot, and ids must be unique on a page.
  """

  def rename(tag):
    return re.sub(
      r'(\bid="|\bhref="#|url\(#)', lambda start: start[0] + prefix, tag[0]
    )

  return _TAG.sub(rename, svg)
