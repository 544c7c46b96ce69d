"""Feature maps of two networks side by side in one labelled picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAPS = 8  # of each network that are shown
_TILE = 64  # pixels of a map's side
_LINE = 16  # pixels of a line of the headings
_TEXT = 12  # pixels of the font's size
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


def draw(
  images: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
  *,
  names: tuple[str, str],
) -> np.ndarray:
  """Returns images, two kinds of maps and their differences, with headings.

  Each image's maps are brought to norm 1, and share one scale of grey.

  Args:
    images: `[N, H, W, 1 or 3]` uint8.
    first: The teacher's maps, `[N, h, w, C]`.
    second: Those to compare, of the same shape.
    names: What the headings call the two kinds of maps.

  Returns:
    `[heading + N * tile, (1 + 3 * maps) * tile, 3]` uint8; maps are the first
    channels, 8 at most.
  """
  rows = []
  for image, *pair in zip(images, first, second, strict=True):
    maps: list[np.ndarray] = [each[..., :MAPS] for each in pair]
    # Factors differ in norm; the loss compares them at norm 1.
    maps = [m / max(np.linalg.norm(m), 1e-12) for m in maps]
    low = min(m.min() for m in maps)
    high = max(m.max() for m in maps)
    tiles = [_tile(np.broadcast_to(image, (*image.shape[:2], 3)))]
    for each in (*maps, low + np.abs(maps[0] - maps[1])):
      each = np.minimum(each, high)
      scaled = 255 * (each - low) / max(high - low, 1e-12)
      grey = scaled.astype(np.uint8)
      tiles += [
        _tile(np.repeat(grey[..., i : i + 1], 3, axis=-1))
        for i in range(grey.shape[-1])
      ]
    rows.append(np.concatenate(tiles, axis=1))
  shown = min(first.shape[-1], MAPS)
  return np.concatenate([_headings((*names, 'difference'), shown), *rows])


def _headings(groups: tuple[str, ...], maps: int) -> np.ndarray:
  """Returns two lines of text: the groups of columns, the maps' numbers."""
  size = ((1 + len(groups) * maps) * _TILE, 2 * _LINE)
  picture = Image.new('RGB', size, _PAPER)
  pen = ImageDraw.Draw(picture)
  font = ImageFont.load_default(_TEXT)
  pen.text((3, 1), 'input', _INK, font)
  for number, name in enumerate(groups):
    left = (1 + number * maps) * _TILE
    pen.line((left, 0, left, size[1]), _INK)
    text = name
    while text and pen.textlength(text, font) > maps * _TILE - 6:
      text = text[:-1]
    pen.text((left + 4, 1), text, _INK, font)
    for channel in range(maps):
      place = (left + channel * _TILE + 4, 1 + _LINE)
      pen.text(place, str(channel + 1), _INK, font)
  return np.asarray(picture)


def _tile(image: np.ndarray) -> np.ndarray:
  """Returns an image at the tile's size, with a dark edge."""
  side = _TILE - 2
  resized = Image.fromarray(np.ascontiguousarray(image)).resize(
    (side, side), Image.Resampling.NEAREST
  )
  return np.pad(np.asarray(resized), ((1, 1), (1, 1), (0, 0)))
