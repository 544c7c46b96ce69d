"""A vision transformer's tokens as the feature map of their grid."""

import math

import keras
from keras import ops


def grid(
  shape: tuple[int | None, ...], image_size: tuple[int | None, int | None]
) -> tuple[int, int] | None:
  """Returns the height and width of the grid that tokens form.

  Args:
    shape: The shape of a layer's output. Tokens are `[B, N, C]`, row by row,
      and a class token may be before them.
    image_size: Height and width of the images, to which the grid's are
      proportional.

  Returns:
    `(h, w)`, at least 2x2; None if no grid fits the shape.
  """
  if len(shape) != 3 or shape[1] is None or shape[2] is None:
    return None
  height, width = image_size
  if height is None or width is None:
    height = width = 1
  unit = math.gcd(height, width)
  rows, columns = height // unit, width // unit
  for count in (shape[1], shape[1] - 1):
    times = math.isqrt(count // (rows * columns)) if count > 0 else 0
    size = rows * times, columns * times
    if min(size) >= 2 and size[0] * size[1] == count:
      return size
  return None


def on_grid(
  tokens: keras.KerasTensor, size: tuple[int, int], first: int
) -> keras.KerasTensor:
  """Returns tokens `[B, N, C]` as a map `[B, h, w, C]`, without other tokens.

  Args:
    tokens: A tensor in a model's graph.
    size: `(h, w)` of the map.
    first: Number of other tokens before those of the map.
  """
  height, width = size
  places = tokens[:, first : first + height * width]
  return ops.reshape(places, (-1, height, width, tokens.shape[2]))
