"""A page's elements, and what holds for every page."""

import re
from html import parser

from absl.testing import absltest


class Elements(parser.HTMLParser):
  """Collects tags, ids and addresses.

  Attributes:
    tags: The names of all elements.
    ids: The ids of all elements.
    loads: The addresses that a browser loads without a click.
    links: The addresses of <a>.
    handlers: The names of attributes that hold a script.
  """

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.ids, self.loads = [], [], []
    self.links, self.handlers = [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ('src', 'href', 'xlink:href', 'srcset', 'data', 'poster'):
        (self.links if tag == 'a' else self.loads).append(value)
      if name == 'id':
        self.ids.append(value)
      if name.startswith('on'):
        self.handlers.append(name)


def plots(text: str) -> list[str]:
  """Returns the plots of a page."""
  return re.findall(r'<svg\b.*?</svg>', text, flags=re.S)


def check_page(case: absltest.TestCase, text: str) -> None:
  """Fails if a page loads something, runs a foreign script or repeats an id.

  Args:
    case: The test.
    text: The page.
  """
  elements = Elements(text)
  for load in elements.loads:
    case.assertRegex(load, '^(#|data:image/png;base64,)')
  for tag in ('link', 'iframe', 'object', 'embed', 'base', 'form'):
    case.assertNotIn(tag, elements.tags)
  case.assertNotIn('@import', text)
  case.assertEqual(elements.tags.count('script'), 1)  # It sorts the tables.
  case.assertEmpty(elements.handlers)
  case.assertLen(set(elements.ids), len(elements.ids))
  for plot in plots(text):
    ids = Elements(plot).ids
    references = re.findall(r'(?:href="|url\()#([^")]*)', plot)
    case.assertContainsSubset(references, ids)
  in_plots = sum(len(re.findall(r'url\(', plot)) for plot in plots(text))
  case.assertLen(re.findall(r'url\(', text), in_plots)
