"""File names and numbers in the text of messages."""

import os
from collections.abc import Sequence

NAMED = 3  # files that a message lists


def printable(name: str) -> str:
  """Returns a name with escapes in place of unprintable characters."""
  return ''.join(
    c
    if c.isprintable()
    else os.fsencode(c).decode('ascii', 'backslashreplace')
    if '\udc80' <= c <= '\udcff'  # a byte that is not UTF-8
    else c.encode('unicode_escape').decode()
    for c in name
  )


def count(number: int, noun: str) -> str:
  """Returns '1 image' or '2 images'."""
  return f'{number} {noun}' + 's' * (number != 1)


def abbreviate(names: Sequence[str]) -> str:
  """Returns the first names, and how many more there are."""
  more = len(names) - NAMED
  return ', '.join(map(printable, names[:NAMED])) + (
    f' and {more} more' if more > 0 else ''
  )
