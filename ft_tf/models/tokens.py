"""A vision transformer's tokens as the feature map that they are of."""

import math

import keras
from keras import ops


def grid(
  shape: tuple[int | None, ...], image_size: tuple[int | None, int | None]
) -> tuple[int, int] | None:
  """Returns the height and width of the grid that tokens lie on.

  Args:
    shape: Of a layer's output; tokens are `[B, N, C]`, row by row, perhaps with
      one token, the class's, before them.
    image_size: Height and width of the images, whose shape the grid has.

  Returns:
    The grid, of 2x2 places or more; None if the output is not of tokens.
  """
  if len(shape) != 3 or None in shape[1:]:
    return None
  rows, columns = image_size if None not in image_size else (1, 1)
  unit = math.gcd(rows, columns)
  rows, columns = rows // unit, columns // unit
  for count in (shape[1], shape[1] - 1):
    times = math.isqrt(count // (rows * columns)) if count > 0 else 0
    size = rows * times, columns * times
    if min(size) >= 2 and size[0] * size[1] == count:
      return size
  return None


def on_grid(
  tokens: keras.KerasTensor, size: tuple[int, int], first: int
) -> keras.KerasTensor:
  """Returns tokens `[B, N, C]` as a map `[B, h, w, C]`, the others left out.

  Args:
    tokens: Of a model's graph.
    size: As of `grid`.
    first: Number of tokens before those of the grid.
  """
  height, width = size
  places = tokens[:, first : first + height * width]
  return ops.reshape(places, (-1, height, width, tokens.shape[2]))
