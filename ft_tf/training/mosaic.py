"""Feature maps of two networks one above the other, in a labelled picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAPS = 8  # of each network that are shown
TILE = 64  # pixels of a map's side
LEFT = 108  # pixels of the rows' labels
TOP = 20  # pixels of the columns' headings
GAP = 6  # pixels below the rows of an image
_TEXT = 13  # pixels of the font's size
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


def draw(
  images: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
  *,
  names: tuple[str, str],
) -> np.ndarray:
  """Returns maps of two networks and their differences, row by row.

  Each image has three rows: the maps of the first network, the same maps of the
  second, and the size of their difference. Its maps are brought to norm 1, and
  share one scale of grey.

  Args:
    images: `[N, H, W, 1 or 3]` uint8.
    first: The teacher's maps, `[N, h, w, C]`.
    second: Those to compare, of the same shape.
    names: What the labels call the two kinds of maps.

  Returns:
    `[TOP + N * (3 * TILE + GAP), LEFT + (1 + maps) * TILE, 3]` uint8; the maps
    are the first channels, `MAPS` at most.
  """
  shown = min(first.shape[-1], MAPS)
  block = 3 * TILE + GAP
  size = LEFT + (1 + shown) * TILE, TOP + len(images) * block
  canvas = Image.new('RGB', size, _PAPER)
  pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT)
  for column in range(1 + shown):
    heading = str(column) if column else 'input'
    pen.text((LEFT + column * TILE + 3, 2), heading, _INK, font)
  for number, (image, *pair) in enumerate(
    zip(images, first, second, strict=True)
  ):
    top = TOP + number * block
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    canvas.paste(_tile(image), (LEFT, top))
    rows = zip((*names, 'difference'), _to_grey(*pair), strict=True)
    for row, (name, maps) in enumerate(rows):
      y = top + row * TILE
      pen.text((3, y + TILE // 2 - _TEXT // 2), name, _INK, font)
      for channel in range(shown):
        grey = _tile(np.repeat(maps[..., channel, None], 3, axis=-1))
        canvas.paste(grey, (LEFT + (1 + channel) * TILE, y))
  return np.asarray(canvas)


def _to_grey(
  first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns two maps and their difference in grey, `[h, w, maps]` uint8."""
  pair = [each[..., :MAPS] for each in (first, second)]
  # Factors differ in norm; the loss compares them at norm 1.
  one, other = (m / max(np.linalg.norm(m), 1e-12) for m in pair)
  low, high = min(one.min(), other.min()), max(one.max(), other.max())

  def scale(values):
    values = np.minimum(values, high)
    return (255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)

  return scale(one), scale(other), scale(low + np.abs(one - other))


def _tile(image: np.ndarray) -> Image.Image:
  """Returns an image at the tile's size, with a dark edge."""
  tile = Image.new('RGB', (TILE, TILE), _INK)
  inner = Image.fromarray(np.ascontiguousarray(image)).resize(
    (TILE - 2, TILE - 2), Image.Resampling.NEAREST
  )
  tile.paste(inner, (1, 1))
  return tile
