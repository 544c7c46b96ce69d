"""Links between pages, run folders and files, relative to the page."""

import os
import urllib.parse
from collections.abc import Iterable
from typing import NamedTuple

from ft_tf import run_dir

COMPARISON_PAGE = 'comparison.html'
_LEVELS = 3  # folders above a compression that may hold a comparison


class Link(NamedTuple):
  """A link: its address, relative to the page's folder, and its text."""

  address: str
  text: str


def to(path: str, text: str | None = None) -> Link:
  """Returns a link to a relative path; the text is the path if None."""
  parts = path.split(os.sep)
  if parts[0] != os.pardir:
    parts.insert(0, os.curdir)  # so that no name is taken for 'scheme:'
  address = '/'.join(map(urllib.parse.quote, parts))
  return Link(address, path if text is None else text)


def existing(root: run_dir.RunDir, paths: Iterable[str]) -> list[Link]:
  """Returns links to those of some paths that are in a folder."""
  return [
    to(path) for path in paths if os.path.exists(os.path.join(root.path, path))
  ]


def comparison_above(root: run_dir.RunDir) -> Link | None:
  """Returns a link to the page of the comparison that a folder is part of."""
  path = COMPARISON_PAGE
  for _ in range(_LEVELS):
    path = os.path.join(os.pardir, path)
    if os.path.exists(os.path.join(root.path, path)):
      return to(path, COMPARISON_PAGE)
  return None


def reports_below(root: run_dir.RunDir) -> list[Link]:
  """Returns links to the reports of compressions inside a folder."""
  names = sorted(os.listdir(root.path))
  return existing(root, [os.path.join(name, 'report.html') for name in names])
