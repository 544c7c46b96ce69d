"""Images decoded in a graph: upright, and large photos at a smaller scale."""

import io

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image, ImageOps

from ft_tf.data import decoding, image_ops
from tests import fixtures


def _photo(height, width):
  """Returns an image with detail of every size, `[H, W, 3]` uint8."""
  rng = np.random.default_rng(0)
  image = fixtures.gradient(height, width).astype(np.float32)
  for size in (4, 16, 64):
    noise = rng.normal(0, 30, (size, size, 3)).astype(np.float32)
    image += tf.image.resize(noise, (height, width), 'bicubic').numpy()
  return np.clip(image, 0, 255).astype(np.uint8)


def _jpeg(image, orientation=1):
  exif = Image.Exif()
  exif[0x0112] = orientation
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'jpeg', quality=92, exif=exif)
  return file.getvalue()


def _png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'png')
  return tf.constant(file.getvalue())


class OrientationTest(parameterized.TestCase):
  @parameterized.parameters(range(1, 9))
  def test_marked_jpeg_is_what_pillow_makes_of_it(self, orientation):
    jpeg = _jpeg(_photo(30, 50), orientation)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))
    marked = tf.constant(decoding.mark(jpeg, orientation))
    image = image_ops.make_evaluation_image(marked, wanted.shape, 'stretch')
    np.testing.assert_array_equal(image, wanted)


class ReducedTest(parameterized.TestCase):
  @parameterized.parameters(
    (399, 800, 1),
    (400, 800, 2),
    (800, 1599, 2),
    (800, 1600, 4),
    (1600, 3200, 8),
  )
  def test_smallest_scale_is_chosen_that_leaves_them(
    self, height, width, ratio
  ):
    self.assertEqual(
      int(decoding.choose_ratio(tf.constant([height, width]), (100, 200, 3))),
      ratio,
    )

  @parameterized.product(
    size=((600, 800), (803, 605)),
    kind=('stretch', 'crop'),
    orientation=(1, 6),
  )
  def test_difference_is_small(self, size, kind, orientation):
    jpeg = _jpeg(_photo(*size), orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg)))
    whole = image_ops.make_evaluation_image(
      _png(np.asarray(upright)), (64, 64, 3), kind
    )
    given = decoding.mark(jpeg, orientation) if orientation > 1 else jpeg
    reduced = image_ops.make_evaluation_image(
      tf.constant(given), (64, 64, 3), kind
    )
    difference = np.abs(np.subtract(whole, reduced, dtype=int))
    self.assertLess(difference.mean(), 1)
    self.assertLess(difference.max(), 10)

  def test_random_part_is_the_same_part(self):
    image = _photo(600, 800)
    jpeg, png = tf.constant(_jpeg(image)), _png(image)
    for chance in np.random.default_rng(1).random((8, 3), np.float32):
      parts = [
        image_ops.crop_randomly(each, tf.constant(chance), (48, 64, 3))
        for each in (jpeg, png)
      ]
      difference = np.abs(np.subtract(*parts, dtype=int))
      self.assertLess(difference.mean(), 2)

  def test_grey_photos_stay_grey(self):
    file = io.BytesIO()
    Image.fromarray(_photo(400, 400)).convert('L').save(file, 'jpeg')
    jpeg = tf.constant(file.getvalue())
    image = image_ops.make_evaluation_image(jpeg, (40, 40, 1), 'stretch')
    self.assertEqual(image.shape, (40, 40, 1))


if __name__ == '__main__':
  absltest.main()
