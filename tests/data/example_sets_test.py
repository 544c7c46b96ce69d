"""Labelled images in memory, and their statistics."""

import numpy as np
from absl.testing import absltest

from ft_tf.data import example_sets


class StatisticsTest(absltest.TestCase):
  def test_constant_channel_has_deviation_1(self):
    images = np.full((3, 4, 4, 2), 51, np.uint8)
    images[0, ..., 1] = 255
    examples = example_sets.Examples(images, np.arange(3))
    mean, std = example_sets.statistics(examples)
    self.assertEqual(mean, (0.2, 0.467))
    self.assertEqual(std, (1.0, 0.377))


class ExamplesTest(absltest.TestCase):
  def test_take_keeps_images_and_labels_together(self):
    examples = example_sets.Examples(
      np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), np.array([7, 8, 9])
    )
    taken = examples.take(np.array([2, 0]))
    self.assertLen(taken, 2)
    np.testing.assert_array_equal(taken.labels, [9, 7])
    np.testing.assert_array_equal(taken.images[:, 0, 0, 0], [8, 0])


if __name__ == '__main__':
  absltest.main()
