"""Image files: whether they can be used, and their bytes for TensorFlow.

Pillow reads more formats than TensorFlow, and reads damaged files that
TensorFlow refuses. A file that TensorFlow decodes to the same image is kept
unchanged; a JPEG that has to be turned gets a mark that `decoding` reads; all
others are converted to 8-bit PNG.
"""

import dataclasses
import functools
import hashlib
import io
import os
import stat
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps, TiffImagePlugin

from ft_tf.data import decoding

# Formats that Pillow opens but cannot decode alone, vector graphics and video.
_NOT_IMAGES = {'BUFR', 'EPS', 'FLI', 'GRIB', 'HDF5', 'IPTC', 'MPEG', 'WMF'}
# Formats that are recognised in files without a suffix, because no other file
# begins with the same bytes.
_BY_CONTENT = ('AVIF', 'BMP', 'GIF', 'JPEG', 'PNG', 'TIFF', 'WEBP')
HEIF_SUFFIXES = ('.heic', '.heics', '.heif', '.heifs', '.hif')
_HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1')
_HEIF = 'HEIC is not supported: convert it to JPEG'
_MOST_PIXELS = 100_000_000
_MOST_BYTES = 2**30
# Format and mode of files that TensorFlow decodes to the same image.
_PLAIN = {('JPEG', 'L'), ('JPEG', 'RGB'), ('PNG', 'L'), ('PNG', 'RGB')}
# Those that it decodes to the same image if it is told to be accurate. MPO is
# JPEG followed by more, such as a second view or the brightness of HDR.
_ACCURATE = {(kind, mode) for kind in ('JPEG', 'MPO') for mode in ('L', 'RGB')}
# The scale at which a JPEG is inspected: all its bytes are read, so that damage
# shows, but fewer pixels are computed.
_SCALE = 8
_ORIENTATION = 0x0112  # in EXIF
_BITS_PER_SAMPLE = 0x0102  # in TIFF
_GREY = ('1', 'L', 'LA', 'I', 'I;16', 'I;16B', 'I;16L', 'I;16N')
_WIDE = ('I', 'F')  # 32 bits; the range of the values is unknown


class Status(NamedTuple):
  """What the file system says of a file; it differs once a file has changed.

  Attributes:
    size: In bytes.
    mtime_ns: The time of the last change of the bytes, which programs can set.
    ctime_ns: The time of the last change of bytes, name or time, which they
      cannot set.
  """

  size: int
  mtime_ns: int
  ctime_ns: int


def status_of(status: os.stat_result) -> Status:
  return Status(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
  """The properties of an image file, which decoding shows.

  Attributes:
    reason: Why the file cannot be used; '' if it can be. The other attributes
      of a file with a reason are not set.
    sha256: The SHA-256 of the file's bytes, in hexadecimal.
    grey: Whether the image has no colours.
    highest: The highest value if the values have 16 bits, otherwise 0.
    frames: How many images the file holds; the first is used.
    height: Of the image in pixels, as the file has it.
    width: Of the image in pixels, as the file has it.
    form: What TensorFlow is given: PLAIN, MARKED or CONVERTED.
    orientation: As of EXIF; 1 is upright.
  """

  reason: str = ''
  sha256: str = ''
  grey: bool = False
  highest: int = 0
  frames: int = 1
  height: int = 0
  width: int = 0
  form: str = ''
  orientation: int = 1


# The file's bytes; these after a mark (`decoding.mark`); or a PNG of them.
PLAIN, MARKED, CONVERTED = 'plain', 'marked', 'converted'


@functools.cache
def _formats() -> tuple[str, ...]:
  """Returns the Pillow names of the supported formats."""
  Image.init()
  return tuple(sorted(Image.OPEN.keys() - _NOT_IMAGES))


@functools.cache
def known_suffixes() -> frozenset[str]:
  """Returns the file suffixes of the supported formats, in lower case."""
  formats = {*_formats(), 'MPO'}  # JPEG of cameras with two lenses
  return frozenset(
    suffix
    for suffix, name in Image.registered_extensions().items()
    if name in formats
  )


def is_image(path: str) -> bool:
  """Returns whether a file is an image by its suffix, or else by its bytes.

  The file may still be damaged; `inspect` decodes it.
  """
  suffix = os.path.splitext(path)[1].lower()
  if suffix:
    return suffix in known_suffixes()
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      return False
    with Image.open(path, formats=_BY_CONTENT):
      return True
  except Exception:  # Pillow raises many kinds over a file of something else.
    return False


def inspect(path: str) -> Inspection:
  """Decodes a file with Pillow and TensorFlow; returns its properties."""
  try:
    content, _ = read(path)
  except FileNotFoundError:
    return Inspection('a link to a file that is missing, or just removed')
  except OSError as error:
    return Inspection(error.strerror or _first_line(error))
  return inspect_bytes(content)


def inspect_bytes(content: bytes) -> Inspection:
  """Decodes the bytes of a file as `inspect` does."""
  try:
    with _open(content) as image:
      return _inspect(image, content)
  except Image.UnidentifiedImageError:
    heif = content[4:8] == b'ftyp' and content[8:12] in _HEIF_BRANDS
    return Inspection(
      _HEIF if heif else 'not an image, or the beginning of the file is damaged'
    )
  except Image.DecompressionBombError:
    return Inspection('too many pixels')
  except tf.errors.OpError as error:
    message = ' '.join(error.message.split())
    return Inspection(f'damaged: TensorFlow cannot decode it ({message[:80]})')
  except Exception as error:  # Pillow raises many kinds over a broken file.
    return Inspection(_first_line(error))


def read(path: str) -> tuple[bytes, Status]:
  """Returns a file's bytes, and its status from before they were read.

  Raises:
    OSError: it is not a regular file, is empty or too large, or cannot be read.
  """
  if not stat.S_ISREG(os.stat(path).st_mode):  # A pipe may wait for ever.
    raise OSError('not a regular file')
  with open(path, 'rb') as file:
    status = os.fstat(file.fileno())
    if not status.st_size:
      raise OSError('empty')
    if status.st_size > _MOST_BYTES:
      raise OSError(f'{status.st_size / 2**30:.1f} GiB are more than 1 GiB')
    return file.read(), status_of(status)


def sha256(content: bytes) -> str:
  """Returns the SHA-256 of bytes, in hexadecimal."""
  return hashlib.sha256(content).hexdigest()


def for_tensorflow(
  content: bytes, inspection: Inspection, *, channels: int, bits: int
) -> bytes:
  """Returns what `decoding` takes: upright, 8 bits, no alpha.

  Args:
    content: The bytes of a file that can be used.
    inspection: What is known of them.
    channels: As of `encode`.
    bits: As of `encode`.
  """
  if inspection.form == PLAIN:
    return content
  if inspection.form == MARKED:
    return decoding.mark(content, inspection.orientation)
  with warnings.catch_warnings(action='ignore'):
    return encode(content, channels=channels, bits=bits)


def encode(content: bytes, *, channels: int, bits: int) -> bytes:
  """Returns a file that TensorFlow decodes: upright, 8 bits, no alpha.

  Args:
    content: The bytes of a file that can be used.
    channels: Channels of a converted image, 1 or 3.
    bits: How many of 16 bits the values use; the highest 8 of these are kept.
  """
  with _open(content) as image:
    orientation = _orientation(image)
    values_16 = _read_16_bits(image, content)
    if orientation == 1 and values_16 is None and _is_plain(image):
      return content
    if values_16 is not None:
      image = Image.fromarray((values_16 >> (bits - 8)).astype(np.uint8))
      image.getexif()[_ORIENTATION] = orientation
    image = ImageOps.exif_transpose(image)
    png = io.BytesIO()
    # It is decoded at once, so that to compress it would only take time.
    image.convert('RGB' if channels == 3 else 'L').save(
      png, 'png', compress_level=0
    )
    return png.getvalue()


def _inspect(image: Image.Image, content: bytes) -> Inspection:
  width, height = image.size
  if width * height > _MOST_PIXELS:
    return Inspection(f'{width}x{height} pixels are too many')
  frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
  orientation = _orientation(image)
  accurate = (image.format, image.mode) in _ACCURATE
  if accurate:
    image.draft(None, (width // _SCALE, height // _SCALE))
  image.load()
  values_16 = _read_16_bits(image, content)
  if values_16 is None and image.mode in _WIDE:
    return Inspection(
      f'32-bit pixels (mode {image.mode}): save it with 8 or 16 bits'
    )
  if accurate:
    tf.io.decode_jpeg(content, ratio=_SCALE)
  elif image.format == 'PNG':
    tf.io.decode_image(content, expand_animations=False)
  if isinstance(image, TiffImagePlugin.TiffImageFile) and values_16 is None:
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (8,))
    # Pillow drops the lower 8 bits of colours, which may hold all information.
    if max(bits) > 8 and np.asarray(image).max() < 16:
      return Inspection(
        '16-bit colours that use 12 bits or less: save it as PNG'
      )
  if not _is_plain(image):
    image.convert('RGB')  # Pillow cannot convert some modes.
  form = CONVERTED
  if orientation == 1 and values_16 is None and _is_plain(image):
    form = PLAIN  # Other orientations than 1 to 8 have no meaning.
  elif accurate:
    form = MARKED
  return Inspection(
    sha256=sha256(content),
    grey=image.mode in _GREY if values_16 is None else values_16.ndim == 2,
    highest=0 if values_16 is None else max(int(values_16.max()), 1),
    frames=frames,
    height=height,
    width=width,
    form=form,
    orientation=orientation if orientation in range(1, 9) else 1,
  )


def _orientation(image: Image.Image) -> int:
  return image.getexif().get(_ORIENTATION, 1)


def _read_16_bits(image: Image.Image, content: bytes) -> np.ndarray | None:
  """Returns 16-bit values `[H, W]` or `[H, W, 3]`; None if there are none."""
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


def _is_plain(image: Image.Image) -> bool:
  return (image.format, image.mode) in _PLAIN


def _first_line(error: Exception) -> str:
  lines = str(error).splitlines()
  return lines[0] if lines else repr(error)
