"""The embedded digits, compared with scikit-learn's copy."""

import os
import socket
import tempfile
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized
from sklearn import datasets as sklearn_datasets

from ft_tf import catalogue
from ft_tf.data import datasets, sources


def _rows(images, labels):
  """Returns examples as sorted rows: TFDS shuffles within a split."""
  rows = np.concatenate(
    [np.reshape(labels, (-1, 1)), np.reshape(images, (len(labels), -1))],
    axis=1,
  )
  return rows[np.lexsort(rows.T[::-1])]


class DigitsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    folder = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))
    cls.addClassCleanup(folder.cleanup)
    cls._folder = folder.name
    offline = AssertionError('the digits used the network')
    with mock.patch.object(socket.socket, 'connect', side_effect=offline):
      cls._source = sources.Source('digits', data_dir=cls._folder)
      cls._train = cls._source.read('train')
      cls._test = cls._source.read('test')
    cls._sklearn = sklearn_datasets.load_digits()

  def test_splits_have_600_and_1197_images_of_8x8(self):
    self.assertEqual(self._train.images.shape, (600, 8, 8, 1))
    self.assertEqual(self._test.images.shape, (1197, 8, 8, 1))
    self.assertEqual(self._source.image_shape, (8, 8, 1))

  def test_labels_are_the_ten_digits(self):
    self.assertEqual(self._source.label_names, [str(d) for d in range(10)])
    for examples in (self._train, self._test):
      self.assertEqual(set(examples.labels), set(range(10)))

  @parameterized.parameters('train', 'test')
  def test_images_and_labels_are_scikit_learns(self, split):
    # The file's first 600 are train, the rest test; 16 is white.
    part = slice(600) if split == 'train' else slice(600, None)
    examples = {'train': self._train, 'test': self._test}[split]
    expected = np.rint(self._sklearn.images[part] * 255 / 16)
    np.testing.assert_array_equal(
      _rows(examples.images, examples.labels),
      _rows(expected, self._sklearn.target[part]),
    )

  def test_grey_levels_spread_over_all_of_a_byte(self):
    self.assertEqual(self._train.images.dtype, np.uint8)
    np.testing.assert_array_equal(
      np.unique(self._train.images), np.rint(np.arange(17) * 255 / 16)
    )

  def test_no_image_is_in_both_splits(self):
    train = {image.tobytes() for image in self._train.images}
    test = {image.tobytes() for image in self._test.images}
    self.assertEmpty(train & test)

  def test_read_again_gives_the_same_order(self):
    again = sources.Source('digits', data_dir=self._folder).read('train')
    np.testing.assert_array_equal(again.images, self._train.images)
    np.testing.assert_array_equal(again.labels, self._train.labels)

  def test_recipes_mean_and_deviation_are_those_of_the_training_images(self):
    data = catalogue.digits().data
    train = datasets.Dataset.from_recipe(data, self._folder).train
    values = train.images / 255
    np.testing.assert_allclose(data.mean, [values.mean()], atol=1.5e-3)
    np.testing.assert_allclose(data.std, [values.std()], atol=1.5e-3)

  def test_recipe_does_not_flip_since_a_mirrored_digit_is_none(self):
    self.assertFalse(catalogue.digits().data.flip)


if __name__ == '__main__':
  absltest.main()
