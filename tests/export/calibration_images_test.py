"""The images that int8 takes its ranges from: how many, and which are none."""

import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.data import datasets, example_sets
from ft_tf.export import calibration_images
from tests import fixtures


class _Noise(fixtures.Blobs):
  """Images of which no two are the same."""

  def read(self, split):
    del split
    count = calibration_images.COUNT + 500
    images = np.random.default_rng(0).integers(
      256, size=(count, *self.image_shape), dtype=np.uint8
    )
    return example_sets.Examples(images, np.arange(count) % 3)


class CalibrationImagesTest(absltest.TestCase):
  def test_as_many_training_images_as_it_takes_are_chosen_once_each(self):
    dataset = datasets.Dataset(_Noise(), validation_examples=8)
    chosen = {image.tobytes() for image in calibration_images.choose(dataset)}
    self.assertLen(chosen, calibration_images.COUNT)
    train = {image.tobytes() for image in dataset.train.images}
    self.assertContainsSubset(chosen, train)

  def test_images_that_are_too_few_are_refused(self):
    calibration_images.check_count(20)
    with self.assertRaisesRegex(errors.UsageError, '19 are too few: give 20'):
      calibration_images.check_count(19)


if __name__ == '__main__':
  absltest.main()
