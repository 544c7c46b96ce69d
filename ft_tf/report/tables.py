"""Tables of text cells as Markdown and LaTeX."""

import re
from collections.abc import Sequence

_SPECIAL = {
  '\\': r'\textbackslash{}',
  **{c: rf'\{c}' for c in '&%$#_{}'},
  '~': r'\textasciitilde{}',
  '^': r'\textasciicircum{}',
}
_LONGEST_NAME = 80
_MARKDOWN = {
  **{c: f'\\{c}' for c in '\\`*_[]#!'},
  **{c: f'&#{ord(c)};' for c in '&<>|~$@'},
}


def to_markdown(header: list[str], rows: list[list[str]]) -> str:
  """Returns a Markdown table, aligned so that a terminal shows it well.

  Args:
    header: The column names. The first column holds text and is aligned to the
      left, the others hold numbers and are aligned to the right.
    rows: The cells of each row, as many as the header has.
  """
  lines = [header, *rows]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

  def join(line):
    first = line[0].ljust(widths[0])
    rest = [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
    return '| ' + ' | '.join([first, *rest]) + ' |'

  rule = (
    '|'
    + '-' * (widths[0] + 2)
    + '|'
    + '|'.join('-' * (w + 1) + ':' for w in widths[1:])
    + '|'
  )
  return '\n'.join([join(lines[0]), rule, *map(join, lines[1:])])


def to_latex(header: list[str], rows: list[list[str]]) -> str:
  """Returns a LaTeX tabular for the booktabs package.

  Args:
    header: As of `to_markdown`.
    rows: As of `to_markdown`.
  """

  def join(line):
    return ' & '.join(map(_escape, line)) + r' \\'

  return '\n'.join(
    [
      r'\begin{tabular}{l' + 'r' * (len(header) - 1) + '}',
      r'\toprule',
      join(header),
      r'\midrule',
      *map(join, rows),
      r'\bottomrule',
      r'\end{tabular}',
    ]
  )


def _escape(text: str) -> str:
  return ''.join(_SPECIAL.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
  """Returns a name as one line of Markdown that shows it and does no more.

  Classes and models are named by whoever made them: a name must not become a
  link, an element of HTML, or another cell of a table. What every reader of
  Markdown knows stands behind a backslash, the rest as an entity of HTML.
  """
  shown = ''.join(c if c.isprintable() else ' ' for c in text)
  escaped = ''.join(_MARKDOWN.get(c, c) for c in ' '.join(shown.split()))
  # Addresses become links without any mark.
  escaped = re.sub(r':(?=\S)', '&#58;', escaped)
  return re.sub(r'(www)\.', r'\1&#46;', escaped, flags=re.IGNORECASE)


def show_name(name: str) -> str:
  """Returns a name from outside, cut short, as of `escape_markdown`."""
  if len(name) > _LONGEST_NAME:
    name = f'{name[: _LONGEST_NAME - 1]}…'
  return escape_markdown(name)


def show_names(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table, as of `to_markdown`, whose cells hold names."""
  return to_markdown(
    [*map(show_name, header)], [[*map(show_name, row)] for row in rows]
  )
