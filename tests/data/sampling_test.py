"""Samples have the class proportions of all images, in any order."""

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf.data import example_sets, sampling


def _examples(labels):
  """Returns examples with labels; the pixel of each image is its position."""
  labels = np.asarray(labels, np.int64)
  images = np.arange(len(labels)).astype(np.uint8).reshape(-1, 1, 1, 1)
  return example_sets.Examples(images, labels)


class SampleTest(parameterized.TestCase):
  @parameterized.parameters('sorted', 'mixed', 'in_turn')
  def test_classes_have_their_share_in_any_order(self, order):
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    if order == 'mixed':
      labels = np.random.default_rng(5).permutation(labels)
    elif order == 'in_turn':
      labels = labels.reshape(10, 100).T.ravel()
    sample = sampling.sample(_examples(labels), 50)
    counts = np.bincount(sample.labels, minlength=3)
    np.testing.assert_allclose(counts, [35, 10, 5], atol=1)

  def test_every_prefix_has_the_shares_too(self):
    sample = sampling.sample(_examples(np.repeat(range(4), 50)), 100)
    for count in (4, 10, 31):
      counts = np.bincount(sample.labels[:count], minlength=4)
      np.testing.assert_allclose(counts, count / 4, atol=1)

  def test_images_stay_with_their_labels_and_none_comes_twice(self):
    every = _examples(np.repeat(range(5), 40))
    sample = sampling.sample(every, 60)
    places = sample.images.ravel()
    self.assertLen({*places}, 60)
    np.testing.assert_array_equal(sample.labels, every.labels[places])

  def test_within_a_class_any_image_may_come(self):
    # Not the first ones of each class, which may be one burst of a camera.
    places = sampling.sample_positions(_examples(np.repeat([0, 1], 100)), 20)
    self.assertGreater(places[places < 100].max(), 50)
    self.assertGreater(places.max(), 150)

  def test_a_seed_decides(self):
    every = _examples(np.repeat(range(3), 60))
    first, second, different = (
      sampling.sample_positions(every, 30, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    self.assertNotEqual({*first}, {*different})

  def test_fewer_images_than_wanted_are_all_returned(self):
    every = _examples([2, 0, 1])
    self.assertIs(sampling.sample(every, 3), every)
    self.assertCountEqual(sampling.sample_positions(every, 9), range(3))

  def test_sample_of_no_images_is_empty(self):
    none = _examples([])
    self.assertIs(sampling.sample(none, 5), none)
    self.assertEmpty(sampling.sample_positions(none, 5))

  def test_of_many_images_few_labels_are_read(self):
    class Counted(example_sets.Examples):
      def labels_at(self, indices):
        read.append(len(indices))
        return super().labels_at(indices)

    read = []
    labels = np.repeat(range(10), 1000)
    every = Counted(np.zeros((10_000, 1, 1, 1), np.uint8), labels)
    sample = sampling.sample(every, 100)
    self.assertEqual(read, [2000])
    np.testing.assert_allclose(np.bincount(sample.labels), 10, atol=2)


if __name__ == '__main__':
  absltest.main()
