"""Image files of many formats: converted for TensorFlow, or refused."""

import io
import os
import socket
import struct

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf.data import image_files

_NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _saved(image, kind, **options) -> bytes:
  file = io.BytesIO()
  if isinstance(image, np.ndarray):
    image = Image.fromarray(image)
  image.save(file, kind, **options)
  return file.getvalue()


def _png(values) -> bytes:
  return tf.io.encode_png(values).numpy()


def _decoded(content, channels=3) -> np.ndarray:
  return tf.io.decode_image(
    content, channels=channels, expand_animations=False
  ).numpy()


class _Case(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _file(self, content, name='a.png'):
    path = os.path.join(self.folder, name)
    with open(path, 'wb') as file:
      file.write(content)
    return path

  def _inspect(self, content, name='a.png'):
    return image_files.inspect(self._file(content, name))


class InspectTest(_Case):
  def _damaged(self):
    """Yields names and files that either Pillow or TensorFlow reads."""
    png = _saved(_NOISE, 'png')
    start = png.index(b'IDAT')
    (size,) = struct.unpack('>I', png[start - 4 : start])
    end = start + 4 + size
    yield 'no end', png[:-12]
    yield 'half an end', png[:-5]
    yield 'checksum', png[:end] + b'\0\1\2\3' + png[end + 4 :]
    yield 'cut', png[: len(png) // 2]
    grey = _png(np.arange(600, dtype=np.uint16).reshape(20, 30, 1))
    yield 'no end, 16 bits', grey[:-12]
    palette = _saved(Image.fromarray(_NOISE).convert('P'), 'png')
    yield 'no end, palette', palette[:-12]
    yield 'cut jpeg', _saved(_NOISE, 'jpeg')[:-60]
    yield 'cut gif', _saved(_NOISE, 'gif')[:300]

  def test_damage_is_a_reason_even_if_one_library_reads_it(self):
    for name, content in self._damaged():
      with self.subTest(name):
        inspection = self._inspect(content)
        self.assertNotEmpty(inspection.reason)
        self.assertNotIn('\n', inspection.reason)

  @parameterized.parameters(
    (b'', 'empty'),
    (b'<html>not found</html>', 'not an image'),
    (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC .* convert it to JPEG'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'not an image'),
  )
  def test_other_content_is_a_reason(self, content, reason):
    self.assertRegex(self._inspect(content, 'a.jpg').reason, f'^{reason}')

  def test_pipes_and_devices_are_a_reason_at_once(self):
    pipe = os.path.join(self.folder, 'pipe.jpg')
    os.mkfifo(pipe)
    plug = os.path.join(self.folder, 'plug.jpg')
    self.enter_context(socket.socket(socket.AF_UNIX)).bind(plug)
    for path in (pipe, plug, '/dev/zero'):
      self.assertEqual(image_files.inspect(path).reason, 'not a regular file')
    self.assertFalse(image_files.is_image('/dev/zero'))

  def test_broken_links_and_unreadable_files_are_reasons(self):
    path = os.path.join(self.folder, 'a.jpg')
    os.symlink('nowhere', path)
    self.assertRegex(
      image_files.inspect(path).reason, 'link to a file .* missing'
    )
    os.remove(path)
    os.symlink('a.jpg', path)
    self.assertRegex(image_files.inspect(path).reason, 'symbolic links')
    path = self._file(_saved(_NOISE, 'png'))
    denied = PermissionError(13, 'Permission denied')
    with absltest.mock.patch('builtins.open', side_effect=denied):
      self.assertEqual(image_files.inspect(path).reason, 'Permission denied')

  @parameterized.parameters(np.float32, np.int32)
  def test_values_of_32_bits_are_a_reason(self, kind):
    content = _saved(np.ones((9, 9), kind), 'tiff')
    self.assertRegex(self._inspect(content).reason, '32-bit pixels')

  def test_huge_images_are_a_reason(self):
    content = _saved(Image.new('1', (20_000, 10_000)), 'png')
    self.assertRegex(self._inspect(content).reason, 'too many')

  def test_colours_of_16_bits_that_pillow_cuts_off_are_a_reason(self):
    # A TIFF of one strip: [2, 3] pixels of three values each.
    def tiff(values):
      data = values.astype('<u2').tobytes()
      tags = [
        (256, 3, 1, 3),
        (257, 3, 1, 2),
        (258, 3, 3, 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 3, 1, 2),
        (279, 4, 1, len(data)),
      ]
      return (
        b'II*\0'
        + struct.pack('<I', 14 + len(data))
        + data
        + struct.pack('<3H', 16, 16, 16)
        + struct.pack('<H', len(tags))
        + b''.join(struct.pack('<HHII', *tag) for tag in tags)
        + bytes(4)
      )

    values = np.linspace(0, 4095, 18)
    inspection = self._inspect(tiff(values), 'a.tif')
    self.assertRegex(inspection.reason, 'use 12 bits or less: save it as PNG')
    content = tiff(16 * values)
    self.assertEqual(self._inspect(content, 'a.tif').reason, '')
    image = _decoded(image_files.encode(content, channels=3, bits=0))
    self.assertEqual(image.max(), 255)

  def test_files_without_a_suffix_are_told_by_their_bytes(self):
    for kind in ('png', 'jpeg', 'gif', 'tiff', 'webp'):
      path = self._file(_saved(_NOISE, kind), f'0001_{kind}')
      self.assertTrue(image_files.is_image(path), kind)
    for content in (b'', b'P1 is a text', b'read me', b'BM'):
      self.assertFalse(image_files.is_image(self._file(content, 'README')))


class EncodeTest(_Case):
  def _encode(self, content, channels=3, bits=0):
    self.assertEqual(self._inspect(content).reason, '')
    return image_files.encode(content, channels=channels, bits=bits)

  @parameterized.parameters('png', 'jpeg')
  def test_files_that_tensorflow_decodes_are_unchanged(self, kind):
    content = _saved(_NOISE, kind)
    self.assertEqual(self._encode(content), content)

  @parameterized.parameters(
    'gif', 'bmp', 'ppm', 'webp', 'tiff', 'ico', 'tga', 'pcx', 'qoi', 'jpeg2000'
  )
  def test_every_format_keeps_its_colours(self, kind):
    image = Image.new('RGB', (32, 32), (255, 0, 0))
    options = {'lossless': True} if kind == 'webp' else {}
    content = _saved(image, kind, **options)
    self.assertFalse(self._inspect(content).grey)
    np.testing.assert_array_equal(
      _decoded(self._encode(content)), np.asarray(image)
    )

  @parameterized.parameters('1', 'L', 'LA', 'P', 'RGBA', 'CMYK', 'YCbCr')
  def test_every_mode_becomes_grey_or_colour(self, mode):
    original = Image.new('RGB', (8, 8), (102, 102, 102)).convert(mode)
    content = _saved(
      original, {'CMYK': 'jpeg', 'YCbCr': 'jpeg'}.get(mode, 'png')
    )
    self.assertEqual(self._inspect(content).grey, mode in ('1', 'L', 'LA'))
    expected = np.asarray(original.convert('RGB'))
    for channels in (1, 3):
      image = _decoded(self._encode(content, channels), channels)
      self.assertEqual(image.shape, (8, 8, channels))
      np.testing.assert_allclose(image, expected[..., :channels], atol=2)

  def test_first_image_of_several_is_taken_and_counted(self):
    frames = [Image.new('RGB', (9, 9), (60 * i, 0, 0)) for i in (1, 2, 3)]
    for kind in ('gif', 'png', 'tiff', 'webp'):
      options = {'lossless': True} if kind == 'webp' else {}
      content = _saved(
        frames[0], kind, save_all=True, append_images=frames[1:], **options
      )
      with self.subTest(kind):
        self.assertEqual(self._inspect(content).frames, 3)
        image = _decoded(self._encode(content))
        np.testing.assert_array_equal(image[4, 4], (60, 0, 0))

  @parameterized.parameters(1, 2, 3, 4)
  def test_values_of_16_bits_keep_the_bits_that_are_used(self, channels):
    values = np.linspace(0, 4095, 64).astype(np.uint16)
    values = np.repeat(values.reshape(8, 8, 1), channels, axis=2)
    if channels in (2, 4):
      values[..., -1] = 65535  # alpha, which is ignored
    content = _png(values)
    inspection = self._inspect(content)
    self.assertEqual(
      (inspection.highest, inspection.grey), (4095, channels < 3)
    )
    image = _decoded(self._encode(content, 1 if channels < 3 else 3, 12))
    np.testing.assert_array_equal(image[..., 0], values[..., 0] >> 4)
    self.assertLen(np.unique(image), 64)

  def test_values_of_16_bits_of_other_formats(self):
    values = np.arange(0, 60_000, 1000, dtype=np.uint16).reshape(6, 10)
    expected = (values >> 8).astype(np.uint8)
    plain = b'P5 10 6 65535\n' + values.astype('>u2').tobytes()
    for content in (_saved(values, 'tiff'), plain):
      self.assertEqual(self._inspect(content).highest, 59_000)
      image = _decoded(self._encode(content, 1, 16), 1)
      np.testing.assert_array_equal(image[..., 0], expected)

  @parameterized.parameters('8', '16')
  def test_images_are_turned_upright(self, bits):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    values = np.zeros((6, 10), np.uint8 if bits == '8' else np.uint16)
    values[:, :5] = 200  # the left half is bright
    content = _saved(values, 'png', exif=exif)
    image = _decoded(self._encode(content, 1, 8), 1)[..., 0]
    self.assertEqual(image.shape, (10, 6))
    np.testing.assert_array_equal(image[:5], 200)
    np.testing.assert_array_equal(image[5:], 0)


if __name__ == '__main__':
  absltest.main()
