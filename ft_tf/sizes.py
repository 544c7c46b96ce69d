"""The size of images as flags and recipes have it: 96, 96x160, or 0.

A square size is the integer of its side, which it always was, so that the
recipes of earlier runs stay the same. Any other size is a text, height first.
0 stands for no size of its own.
"""

import numbers
import re
from typing import Any

Size = int | str
# What messages ask for.
LARGEST = 8192
FORMS = (
  f'0 or more, at most {LARGEST}, such as 96, or height and width, such as '
  '96x160'
)

_TEXT = re.compile(r'(\d+)(?:x(\d+))?')


def read(given: Any) -> Size:
  """Returns a size in the form of recipes.

  Args:
    given: A number of pixels, `(height, width)`, or a text such as '96' or
      '96x160'.

  Raises:
    ValueError: it is none of these.
  """
  if isinstance(given, (tuple, list)):
    given = 'x'.join(map(str, given))
  if isinstance(given, numbers.Integral):
    given = str(int(given))
  match = _TEXT.fullmatch(given) if isinstance(given, str) else None
  if match is None:
    raise ValueError(f'{given!r} is not a size')
  height, width = int(match[1]), int(match[2] or match[1])
  if match[2] and not (height and width):
    raise ValueError(f'{given!r} has no pixels')
  if max(height, width) > LARGEST:
    raise ValueError(f'{given!r} is larger than {LARGEST}')
  return of(height, width)


def of(height: int, width: int) -> Size:
  """Returns the size of images of a height and width in pixels."""
  return height if height == width else f'{height}x{width}'


def height_and_width(size: Size) -> tuple[int, int]:
  """Returns the height and width of a size in pixels; `(0, 0)` for 0."""
  if isinstance(size, int):
    return size, size
  height, width = size.split('x')
  return int(height), int(width)
