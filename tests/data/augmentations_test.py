"""RandAugment: each operation against Pillow's, one image at a time."""

import math

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image, ImageEnhance, ImageOps

from ft_tf.data import augmentations
from tests import fixtures

_ENHANCERS = {
  'color': ImageEnhance.Color,
  'contrast': ImageEnhance.Contrast,
  'brightness': ImageEnhance.Brightness,
  'sharpness': ImageEnhance.Sharpness,
}


def _images(count=6, size=(20, 30), channels=3):
  """Returns dark gradients with noise, so that all operations change them."""
  rng = np.random.default_rng(0)
  images = np.stack([fixtures.gradient(*size)] * count)[..., :channels]
  return (images // 2 + rng.integers(20, 60, images.shape)).astype(np.uint8)


def _run(name, images, sign=1, magnitude=30):
  signs = np.full(len(images), sign, np.float32)
  changed = augmentations.OPERATIONS[name](
    tf.constant(images), tf.constant(signs), magnitude / augmentations.MOST
  )
  return changed.numpy()


def _pillow(images, function):
  """Returns the images as a function of Pillow changes them."""
  changed = []
  for image in images:
    grey = image.shape[-1] == 1
    one = Image.fromarray(image[..., 0] if grey else image)
    changed.append(np.asarray(function(one)).reshape(image.shape))
  return np.stack(changed)


def _numbers(name, sign=1, count=6):
  """Returns the random numbers that choose an operation and its sign."""
  place = list(augmentations.OPERATIONS).index(name)
  chance = [(place + 0.5) / len(augmentations.OPERATIONS), (3 + 2 * sign) / 6]
  return np.tile(np.float32(chance), (count, 1, 1))


class OperationsTest(parameterized.TestCase):
  def test_there_are_the_papers_14(self):
    self.assertLen(augmentations.OPERATIONS, 14)

  @parameterized.product(
    name=list(_ENHANCERS), sign=(-1, 1), magnitude=(9, 30), channels=(1, 3)
  )
  def test_enhancements_equal_pillows(self, name, sign, magnitude, channels):
    images = _images(channels=channels)
    factor = 1 + sign * 0.9 * magnitude / 30
    expected = _pillow(
      images, lambda image: _ENHANCERS[name](image).enhance(factor)
    )
    changed = _run(name, images, sign, magnitude)
    difference = np.abs(changed.astype(int) - expected)
    # Pillow cuts fractions off where these are rounded.
    self.assertLessEqual(difference.max(), 1)
    if channels == 3:
      self.assertGreater(np.abs(changed.astype(int) - images).max(), 5)

  @parameterized.parameters(1, 3)
  def test_contrast_of_all_values_equals_pillows(self, channels):
    images = _images(channels=channels)
    expected = _pillow(images, ImageOps.autocontrast)
    changed = _run('auto_contrast', images)
    self.assertLessEqual(np.abs(changed.astype(int) - expected).max(), 1)
    np.testing.assert_array_equal(changed.min(axis=(1, 2)), 0)
    np.testing.assert_array_equal(changed.max(axis=(1, 2)), 255)

  @parameterized.product(size=((20, 30), (3, 5), (64, 48)), channels=(1, 3))
  def test_equalized_images_equal_pillows(self, size, channels):
    images = _images(size=size, channels=channels)
    np.testing.assert_array_equal(
      _run('equalize', images), _pillow(images, ImageOps.equalize)
    )

  @parameterized.parameters((1, 8), (9, 7), (15, 6), (30, 4))
  def test_posterized_images_equal_pillows(self, magnitude, bits):
    images = _images()
    np.testing.assert_array_equal(
      _run('posterize', images, magnitude=magnitude),
      _pillow(images, lambda image: ImageOps.posterize(image, bits)),
    )

  @parameterized.parameters((1, 246.5), (15, 127.5), (20, 85), (30, 0))
  def test_solarized_images_equal_pillows(self, magnitude, threshold):
    images = _images()
    np.testing.assert_array_equal(
      _run('solarize', images, magnitude=magnitude),
      _pillow(images, lambda image: ImageOps.solarize(image, threshold)),
    )

  @parameterized.product(
    name=('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y'),
    sign=(-1, 1),
    magnitude=(9, 30),
    channels=(1, 3),
  )
  def test_geometry_equals_pillows(self, name, sign, magnitude, channels):
    images = _images(channels=channels)
    height, width = images.shape[1:3]
    strength = sign * magnitude / 30
    shear = 0.3 * strength
    angle = math.radians(30 * strength)
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = height / 2, width / 2
    coefficients = {
      'rotate': (
        *(cos, -sin, x - cos * x + sin * y),
        *(sin, cos, y - sin * x - cos * y),
      ),
      'shear_x': (1, shear, 0, 0, 1, 0),
      'shear_y': (1, 0, 0, shear, 1, 0),
      'translate_x': (1, 0, int(150 / 331 * width * strength), 0, 1, 0),
      'translate_y': (1, 0, 0, 0, 1, int(150 / 331 * height * strength)),
    }[name]
    expected = _pillow(
      images,
      lambda image: image.transform(
        image.size,
        Image.Transform.AFFINE,
        coefficients,
        Image.Resampling.BILINEAR,
      ),
    )
    changed = _run(name, images, sign, magnitude)
    # At the edge of what is seen Pillow repeats pixels; here black is blended.
    seen = _run(name, np.full_like(images, 255), sign, magnitude)
    difference = np.abs(changed.astype(int) - expected)
    self.assertLessEqual(difference[seen == 255].max(), 1)
    self.assertGreater((seen == 255).mean(), 0.4)
    np.testing.assert_array_equal(changed[seen == 0], 0)
    self.assertGreater((seen == 0).mean(), 0)

  @parameterized.product(
    name=list(augmentations.OPERATIONS),
    size=((1, 1), (2, 7), (16, 5)),
    channels=(1, 3),
  )
  def test_small_and_constant_images_and_none_at_all(
    self, name, size, channels
  ):
    for images in (
      np.full((2, *size, channels), 77, np.uint8),
      _images(3, size, channels),
      np.zeros((0, *size, channels), np.uint8),
    ):
      changed = _run(name, images)
      self.assertEqual(changed.shape, images.shape)
      self.assertEqual(changed.dtype, np.uint8)
    np.testing.assert_array_equal(_run('identity', images), images)

  @parameterized.parameters('auto_contrast', 'equalize', 'contrast', 'color')
  def test_constant_grey_images_stay(self, name):
    images = np.full((2, 9, 9, 3), 77, np.uint8)
    np.testing.assert_array_equal(_run(name, images), images)


class EqualizeTest(absltest.TestCase):
  def test_tensorflow_has_no_reason_to_complain_of_the_processor(self):
    function = tf.function(augmentations.equalize, autograph=False)
    images, signs = tf.TensorSpec([None, 8, 6, 3], tf.uint8), tf.TensorSpec([])
    graph = function.get_concrete_function(images, signs, 0.5).graph
    # Of 8 bits it would, and it computes a cast before it behind it.
    self.assertNotIn(
      'Transpose', [each.type for each in graph.get_operations()]
    )


class RandAugmentTest(parameterized.TestCase):
  @parameterized.product(
    name=list(augmentations.OPERATIONS), sign=(-1, 1), channels=(1, 3)
  )
  def test_number_chooses_the_operation_and_its_sign(
    self, name, sign, channels
  ):
    images = _images(channels=channels)
    changed = augmentations.rand_augment(
      images, _numbers(name, sign), magnitude=9
    )
    np.testing.assert_array_equal(changed, _run(name, images, sign, 9))

  def test_operations_follow_each_other(self):
    images = _images()
    numbers = np.concatenate([_numbers('rotate'), _numbers('equalize')], axis=1)
    changed = augmentations.rand_augment(images, numbers, magnitude=20)
    rotated = _run('rotate', images, magnitude=20)
    np.testing.assert_array_equal(changed, _run('equalize', rotated))

  @parameterized.parameters(((13, 17), 1), ((12, 12), 3))
  def test_an_image_does_not_depend_on_its_batch(self, size, channels):
    count = 43
    images = _images(count, size, channels)
    rng = np.random.default_rng(1)
    numbers = rng.random((count, 2, 2)).astype(np.float32)
    run = tf.function(
      lambda *batch: augmentations.rand_augment(*batch, magnitude=14),
      input_signature=[
        tf.TensorSpec((None, *size, channels), tf.uint8),
        tf.TensorSpec((None, 2, 2), tf.float32),
      ],
    )
    whole = run(images, numbers).numpy()
    order = rng.permutation(count)
    shuffled = run(images[order], numbers[order])
    np.testing.assert_array_equal(shuffled, whole[order])
    for i in (0, 20, 42):
      alone = run(images[i : i + 1], numbers[i : i + 1])
      np.testing.assert_array_equal(alone[0], whole[i])
    changed = (whole != images).any(axis=(1, 2, 3))
    self.assertGreater(changed.mean(), 0.85)

  def test_all_operations_are_chosen_alike(self):
    numbers = tf.random.stateless_uniform([14_000], seed=[1, 2])
    counts = np.bincount(np.int32(numbers * 14))
    self.assertLen(counts, 14)
    # Binomial: five standard deviations of 30.
    self.assertLess(np.abs(counts - 1000).max(), 150)


if __name__ == '__main__':
  absltest.main()
