"""Images decoded, cropped and made smaller."""

import fractions
import functools
import io

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf.data import image_ops
from tests import fixtures


def _png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'png')
  return tf.constant(file.getvalue())


class MiddleTest(parameterized.TestCase):
  @parameterized.parameters((64, 96), (96, 64), (64, 64), (30, 200))
  def test_is_pillows_resize_and_centre_crop(self, height, width):
    # torchvision: the shorter side to 256, then 224 of the middle; here 64, 56.
    image = fixtures.gradient(height, width)
    scale = 64 / min(height, width)
    resized = Image.fromarray(image).resize(
      (round(width * scale), round(height * scale)), Image.Resampling.BILINEAR
    )
    left, top = ((side - 56) // 2 for side in resized.size)
    expected = np.array(resized.crop((left, top, left + 56, top + 56)))
    middle = image_ops.crop_middle(_png(image), (56, 56, 3)).numpy()
    self.assertLess(np.abs(middle.astype(int) - expected.astype(int)).max(), 6)

  # In the last two, 7/8 of a side ends in a half.
  @parameterized.parameters(
    (64, 96, (24, 40)),
    (96, 64, (24, 40)),
    (60, 100, (24, 40)),
    (301, 122, (40, 24)),
    (3, 200, (40, 24)),
    (12, 20, (24, 40)),
    (90, 60, (60, 40)),
  )
  def test_has_the_aspect_ratio_of_the_result(self, height, width, size):
    rows, columns = size
    # Exact, and halves rounded to the even number.
    largest = min(
      fractions.Fraction(height, rows), fractions.Fraction(width, columns)
    )
    tall, wide = (round(largest * side * 7 / 8) for side in size)
    top, left = (height - tall) // 2, (width - wide) // 2
    image = fixtures.gradient(height, width)
    part = Image.fromarray(image[top : top + tall, left : left + wide])
    wanted = part.resize((columns, rows), Image.Resampling.BILINEAR)
    middle = image_ops.crop_middle(_png(image), (rows, columns, 3)).numpy()
    self.assertLess(
      np.abs(middle.astype(int) - np.array(wanted).astype(int)).max(), 2
    )

  def test_narrow_image_has_a_middle(self):
    image = np.full((1, 300, 3), 77, np.uint8)
    middle = image_ops.crop_middle(_png(image), (40, 10, 3))
    np.testing.assert_array_equal(middle, np.full((40, 10, 3), 77))

  def test_grey_images_stay_grey(self):
    image = np.full((20, 30), 77, np.uint8)
    middle = image_ops.crop_middle(_png(image), (8, 8, 1))
    np.testing.assert_array_equal(middle, np.full((8, 8, 1), 77))


@functools.cache
def _corners(count, size=(100, 100), result=(32, 32)):
  """Returns the corners (top, bottom, left, right) of random parts, 0..1."""
  image = _png(fixtures.gradient(*size))
  chances = np.random.default_rng(0).random((count, 3)).astype(np.float32)

  @tf.function  # Eager, 400 parts take seconds.
  def random_parts():
    return tf.map_fn(
      lambda chance: image_ops.crop_randomly(image, chance, (*result, 3)),
      chances,
      fn_output_signature=tf.uint8,
    )

  parts = random_parts()
  ends = [parts[:, 0, :, 0], parts[:, -1, :, 0]]
  ends += [parts[:, :, 0, 1], parts[:, :, -1, 1]]
  return [np.mean(end, axis=1) / 255 for end in ends]


class RandomPartTest(absltest.TestCase):
  def test_area_and_aspect_ratio_are_within_bounds_and_cover_them(self):
    top, bottom, left, right = _corners(400)
    # A border pixel shows the middle of its 1/32 of the part.
    height, width = (bottom - top) * 32 / 31, (right - left) * 32 / 31
    area, aspect = height * width, width / height
    self.assertGreater(area.min(), 0.08 * 0.9)
    self.assertLess(area.max(), 1.03)
    self.assertLess(area.min(), 0.15)
    self.assertGreater(area.max(), 0.85)
    self.assertGreater(aspect.min(), 3 / 4 * 0.93)
    self.assertLess(aspect.max(), 4 / 3 * 1.07)
    self.assertLess(aspect.min(), 0.8)
    self.assertGreater(aspect.max(), 1.25)

  def test_aspect_ratio_is_about_that_of_the_result(self):
    top, bottom, left, right = _corners(400, (120, 100), (20, 40))
    # In pixels of the image.
    height = 120 * (bottom - top) * 20 / 19
    width = 100 * (right - left) * 40 / 39
    aspect, area = width / height, width * height / 12000
    self.assertGreater(aspect.min(), 2 * 3 / 4 * 0.93)
    self.assertLess(aspect.max(), 2 * 4 / 3 * 1.07)
    self.assertLess(aspect.min(), 1.6)
    self.assertGreater(aspect.max(), 2.5)
    # The widest part of 2 to 1 or so has 50 x 100 pixels.
    self.assertGreater(area.max(), 0.45)

  def test_parts_reach_every_side_of_the_image(self):
    top, bottom, left, right = _corners(400)
    for least in (top.min(), left.min()):
      self.assertLess(least, 0.05)
    for most in (bottom.max(), right.max()):
      self.assertGreater(most, 0.95)

  def test_image_that_no_part_fits_is_seen_whole(self):
    # 8 % of 1,000 x 10 pixels at 4/3 would be 33 pixels wide.
    top, bottom, left, right = _corners(5, size=(1000, 10))
    for least in (top, left):
      self.assertLess(least.max(), 0.1)
    for most in (bottom, right):
      self.assertGreater(most.min(), 0.9)


class ShrinkTest(parameterized.TestCase):
  @parameterized.parameters((6, 6), (5, 11), (23, 16))
  def test_is_resize(self, *size):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(3, 24, 16, 3)).astype(np.uint8)
    shrunk = image_ops.shrink(tf.constant(images), size).numpy()
    wanted = np.stack([image_ops.resize(image, size) for image in images])
    self.assertEqual(shrunk.dtype, np.uint8)
    # What lies half way between two values may be rounded to either.
    np.testing.assert_allclose(shrunk.astype(int), wanted.astype(int), atol=1)
    self.assertLess((shrunk != wanted).mean(), 1e-3)

  def test_xla_compiles_it(self):
    images = tf.constant(fixtures.gradient(24, 24)[None])
    compiled = tf.function(
      lambda some: image_ops.shrink(some, (7, 7)), jit_compile=True
    )
    np.testing.assert_allclose(
      np.float32(compiled(images)),
      np.float32(image_ops.shrink(images, (7, 7))),
      atol=1,
    )


if __name__ == '__main__':
  absltest.main()
