"""Self-contained HTML pages, rendered from this folder's templates."""

import importlib.resources
from typing import Any

import jinja2

from ft_tf import run_dir

# Templates that every page includes.
_SHARED = ('style.html.jinja', 'made.html.jinja')


def write(path: str, template: str, **values: Any) -> None:
  """Renders a template and writes the page, whole or not at all.

  Args:
    path: The HTML file to write.
    template: The name of a template in this folder.
    **values: The variables of the template.

  Raises:
    jinja2.UndefinedError: the template uses a variable that is not given.
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
  text = environment.get_template(template).render(**values)
  with run_dir.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(text)
