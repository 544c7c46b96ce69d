"""Self-contained HTML pages, rendered from this folder's templates."""

import html
import importlib.resources
import itertools
from typing import Any

import jinja2

from ft_tf import storage
from ft_tf.report import commands, drawing

# Templates that every page includes or imports.
_SHARED = (
  'style.html.jinja',
  'macros.html.jinja',
  'made.html.jinja',
  'sort.html.jinja',
)


def write(path: str, template: str, **values: Any) -> None:
  """Renders a template and writes the page, whole or not at all.

  Args:
    path: The HTML file to write.
    template: The name of a template in this folder.
    **values: The variables of the template.

  Raises:
    LookupError: the template uses a variable that is not given.
  """
  folder = importlib.resources.files('ft_tf.report')
  environment = jinja2.Environment(
    loader=jinja2.DictLoader(
      {
        name: folder.joinpath(name).read_text('utf-8')
        for name in (template, *_SHARED)
      }
    ),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  numbers = itertools.count(1)
  environment.filters['shell'] = commands.to_shell
  environment.filters['plot'] = lambda svg, title: _embed(
    svg, title, f'plot{next(numbers)}-'
  )
  environment.globals['colors'] = drawing.COLORS
  try:
    text = environment.get_template(template).render(**values)
  except jinja2.UndefinedError as error:
    # As Python says it of a value that a file of the run lacks.
    raise LookupError(str(error)) from error
  with storage.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(text)


def _embed(svg: str, title: str, prefix: str) -> str:
  """Returns a plot for a page, named for screen readers.

  Args:
    svg: An <svg> element of `drawing.to_svg`.
    title: What the plot shows.
    prefix: Comes before each id.
  """
  svg = drawing.prefix_ids(svg, prefix)
  label = html.escape(title)
  return svg.replace('<svg ', f'<svg role="img" aria-label="{label}" ', 1)
