"""One image file: whether it can be used, and its bytes for TensorFlow.

Pillow reads far more formats than TensorFlow, and forgives damage that
TensorFlow does not. A file that TensorFlow decodes to the same image is kept as
it is, all others are converted to PNG of 8 bits.
"""

import dataclasses
import functools
import hashlib
import io
import os
import stat

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, TiffImagePlugin

# What Pillow opens but does not decode by itself, vector graphics and video.
_NOT_IMAGES = {'BUFR', 'EPS', 'FLI', 'GRIB', 'HDF5', 'IPTC', 'MPEG', 'WMF'}
# Formats that a file without a suffix is looked into for: their first bytes
# are theirs alone.
_BY_CONTENT = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
HEIF_SUFFIXES = ('.heic', '.heics', '.heif', '.heifs', '.hif')
_HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1')
_HEIF = 'HEIC, which is not read here: convert it to JPEG'
_MOST_PIXELS = 100_000_000
_MOST_BYTES = 2**30
# What TensorFlow decodes as it stands; the rest is kept as PNG.
_PLAIN = {('JPEG', 'L'), ('JPEG', 'RGB'), ('PNG', 'L'), ('PNG', 'RGB')}
_ORIENTATION = 0x0112  # in EXIF
_BITS_PER_SAMPLE = 0x0102  # in TIFF
_GREY = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L', 'I;16N')
_WIDE = ('I', 'F')  # 32 bits, whose range is not known


@dataclasses.dataclass(frozen=True)
class Look:
  """What is known of a file once it has been decoded.

  Attributes:
    reason: Why it cannot be used; '' if it can. The rest is then empty.
    sha256: Of its bytes, in hexadecimal.
    grey: Whether it has no colours.
    highest: The highest value if its values have 16 bits, otherwise 0.
    frames: How many images the file holds; the first is used.
  """

  reason: str = ''
  sha256: str = ''
  grey: bool = False
  highest: int = 0
  frames: int = 1


@functools.cache
def _formats() -> tuple[str, ...]:
  """Returns the names of Pillow's formats that are read."""
  Image.init()
  return tuple(sorted(Image.OPEN.keys() - _NOT_IMAGES))


@functools.cache
def suffixes() -> frozenset[str]:
  """Returns the suffixes, in lower case, of the formats that are read."""
  formats = {*_formats(), 'MPO'}  # JPEG's of cameras with two lenses
  found = Image.registered_extensions().items()
  return frozenset(suffix for suffix, name in found if name in formats)


def is_image(path: str) -> bool:
  """Tells by its suffix whether a file is an image; without one, by its bytes.

  Whether it can be decoded is what `look` tells.
  """
  suffix = os.path.splitext(path)[1].lower()
  if suffix:
    return suffix in suffixes()
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      return False
    with Image.open(path, formats=_BY_CONTENT):
      return True
  except Exception:  # Pillow raises many kinds over a file of something else.
    return False


def look(path: str) -> Look:
  """Decodes a file, as Pillow and TensorFlow will, and tells what it is."""
  try:
    content = read(path)
    with _open(content) as image:
      return _look(image, content)
  except Image.UnidentifiedImageError:
    heif = content[4:8] == b'ftyp' and content[8:12] in _HEIF_BRANDS
    return Look(_HEIF if heif else 'not an image, or its beginning is damaged')
  except Image.DecompressionBombError:
    return Look('too many pixels')
  except tf.errors.OpError as error:
    message = ' '.join(error.message.split())
    return Look(f'damaged: TensorFlow cannot decode it ({message[:80]})')
  except FileNotFoundError:
    return Look('a link to a file that is missing, or just removed')
  except OSError as error:
    return Look(error.strerror or _first_line(error))
  except Exception as error:  # Pillow raises many kinds over a broken file.
    return Look(_first_line(error))


def read(path: str) -> bytes:
  """Returns a file's bytes.

  Raises:
    OSError: it is not a file of a size that an image has, or cannot be read.
  """
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode):  # To read a pipe would wait for ever.
    raise OSError('not a regular file')
  if not status.st_size:
    raise OSError('empty')
  if status.st_size > _MOST_BYTES:
    raise OSError(f'{status.st_size / 2**30:.1f} GiB are too many')
  with open(path, 'rb') as file:
    return file.read()


def sha256(content: bytes) -> str:
  return hashlib.sha256(content).hexdigest()


def encode(content: bytes, *, channels: int, bits: int) -> bytes:
  """Returns an image that TensorFlow decodes: upright, 8 bits, no alpha.

  Args:
    content: Of a file that can be used.
    channels: 1 or 3, of what is not kept as it is.
    bits: How many of 16 bits its values use: the highest 8 of these are kept.
  """
  with _open(content) as image:
    orientation = image.getexif().get(_ORIENTATION, 1)
    deep = _deep(image, content)
    if orientation == 1 and deep is None and _plain(image):
      return content
    if deep is not None:
      image = Image.fromarray((deep >> (bits - 8)).astype(np.uint8))
      image.getexif()[_ORIENTATION] = orientation
    image = ImageOps.exif_transpose(image)
    kept = io.BytesIO()
    image.convert('RGB' if channels == 3 else 'L').save(
      kept, 'png', compress_level=1
    )
    return kept.getvalue()


def _look(image: Image.Image, content: bytes) -> Look:
  if image.width * image.height > _MOST_PIXELS:
    return Look(f'{image.width}x{image.height} pixels are too many')
  frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
  image.load()
  deep = _deep(image, content)
  if deep is None and image.mode in _WIDE:
    return Look(f'pixels of 32 bits (mode {image.mode}): save it with 8 or 16')
  if image.format == 'PNG' or _plain(image):
    tf.io.decode_image(content, expand_animations=False)
  if isinstance(image, TiffImagePlugin.TiffImageFile) and deep is None:
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
    # Pillow drops the lower 8 bits of colours, and these may be all there is.
    if max(bits) > 8 and np.asarray(image).max() < 16:
      return Look('colours of 16 bits that use 12 or less: save it as PNG')
  if not _plain(image):
    image.convert('RGB')  # Some modes have no way there.
  return Look(
    sha256=sha256(content),
    grey=image.mode in _GREY if deep is None else deep.ndim == 2,
    highest=0 if deep is None else max(int(deep.max()), 1),
    frames=frames,
  )


def _deep(image: Image.Image, content: bytes) -> np.ndarray | None:
  """Returns values of 16 bits, `[H, W]` or `[H, W, 3]`; None of 8 bits."""
  if image.format == 'PNG' and content[24] == 16:  # the depth in its header
    # Pillow drops the lower 8 bits of colours.
    values = tf.io.decode_png(content, dtype=tf.uint16).numpy()
    colours = values.shape[-1] > 2
    return values[..., :3] if colours else values[..., 0]
  if image.mode.startswith('I;16'):
    return np.asarray(image).astype(np.uint16)
  if image.format == 'PPM' and image.mode == 'I':  # scaled to 65535 by Pillow
    return np.asarray(image).astype(np.uint16)
  return None


def _open(content: bytes) -> Image.Image:
  return Image.open(io.BytesIO(content), formats=_formats())


def _plain(image: Image.Image) -> bool:
  return (image.format, image.mode) in _PLAIN


def _first_line(error: Exception) -> str:
  lines = str(error).splitlines()
  return lines[0] if lines else repr(error)
