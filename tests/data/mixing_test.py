"""Mixed images and labels by hand; who is mixed with whom."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from scipy import stats

from ft_tf.data import chance, mixing
from tests import fixtures


def _data(**values):
  return dataclasses.replace(fixtures.recipe().data, **values)


def _pair(count=1, size=(4, 6), channels=1):
  """Returns images of 200 and partners of 100."""
  shape = (count, *size, channels)
  return np.full(shape, 200, np.uint8), np.full(shape, 100, np.uint8)


def _mix(images, partners, numbers, mixup_alpha=0.0, cutmix_alpha=0.0):
  mixed, share = mixing.mix(
    tf.constant(images),
    tf.constant(partners),
    tf.constant(numbers, tf.float32),
    mixup_alpha=mixup_alpha,
    cutmix_alpha=cutmix_alpha,
  )
  return mixed.numpy(), share.numpy()


class MixTest(parameterized.TestCase):
  @parameterized.parameters((0.25, 125), (0.5, 150), (0.999, 200))
  def test_mixup_is_the_mean_weighted_by_the_share(self, quantile, value):
    # Beta(1, 1) is uniform: the share is the quantile itself.
    mixed, share = _mix(*_pair(), [[quantile, 0.7, 0, 0]], mixup_alpha=1.0)
    self.assertEqual(mixed.dtype, np.uint8)
    np.testing.assert_array_equal(mixed, np.full_like(mixed, value))
    self.assertAlmostEqual(float(share[0]), quantile, places=6)

  @parameterized.parameters(
    # (row, column of the middle): rows and columns that the box covers. Its
    # sides are half of 4 and of 6: the share is 3/4, but for what is cut off.
    (0.5, 0.5, (1, 3), (2, 5)),
    (0.0, 0.0, (0, 1), (0, 2)),
    (0.99, 0.99, (2, 4), (4, 6)),
  )
  def test_cutmix_puts_a_box_of_the_partner_into_the_image(
    self, row, column, rows, columns
  ):
    images, partners = _pair(channels=3)
    mixed, share = _mix(
      images, partners, [[0.75, 0.2, row, column]], cutmix_alpha=1.0
    )
    expected = images.copy()
    expected[:, slice(*rows), slice(*columns)] = 100
    np.testing.assert_array_equal(mixed, expected)
    self.assertAlmostEqual(float(share[0]), (expected == 200).mean(), places=6)

  def test_share_is_the_area_that_is_left_whatever_the_box(self):
    count = 500
    numbers = np.random.default_rng(0).random((count, 4))
    mixed, share = _mix(*_pair(count, (9, 14)), numbers, cutmix_alpha=1.0)
    np.testing.assert_allclose(
      share, (mixed == 200).mean(axis=(1, 2, 3)), atol=1e-6
    )
    self.assertSetEqual(set(np.unique(mixed)), {100, 200})
    self.assertLess(share.min(), 0.2)

  def test_half_are_mixed_by_each_if_both_are_on(self):
    numbers = np.random.default_rng(0).random((400, 4))
    numbers[:, 0] = 0.3
    mixed, share = _mix(*_pair(400), numbers, mixup_alpha=1.0, cutmix_alpha=1.0)
    blended = ((mixed > 100) & (mixed < 200)).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(blended, numbers[:, 1] < 0.5)
    np.testing.assert_allclose(share[blended], 0.3, atol=1e-6)
    self.assertAlmostEqual(blended.mean(), 0.5, delta=0.1)


class BetaTest(parameterized.TestCase):
  @parameterized.parameters(0.05, 0.2, 0.8, 1.0, 4.0, 100.0)
  def test_quantiles_are_those_of_scipy(self, alpha):
    quantiles = np.linspace(0, 0.999, 200).astype(np.float32)
    found = mixing.beta_quantile(quantiles, np.full(200, alpha, np.float32))
    expected = stats.beta.ppf(quantiles, alpha, alpha)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    self.assertBetween(found.numpy().min(), 0, 1)
    self.assertBetween(found.numpy().max(), 0, 1)


class PartnersTest(parameterized.TestCase):
  @parameterized.parameters((1, 1), (7, 7), (48, 48), (48, 31), (5, 1), (5, 0))
  def test_each_example_is_the_partner_of_one_of_its_kind(
    self, count, labelled
  ):
    partners = mixing.choose_partners(count, labelled, _data(), 3).numpy()
    self.assertEqual(partners.dtype, np.int64)
    self.assertCountEqual(partners[:labelled], range(labelled))
    self.assertCountEqual(partners[labelled:], range(labelled, count))

  def test_partners_depend_on_view_and_view_seed(self):
    first, again, other_view, other_seed = (
      mixing.choose_partners(100, 100, _data(view_seed=seed), view).numpy()
      for seed, view in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    np.testing.assert_array_equal(first, again)
    for other in (other_view, other_seed):
      self.assertLess((first == other).mean(), 0.1)


class ChanceTest(absltest.TestCase):
  def test_crops_have_the_numbers_that_they_always_had(self):
    found = chance.draw(chance.CROP, [5, 3], 7, tf.constant(2, tf.int64))
    expected = tf.random.stateless_uniform([5, 3], seed=[7, 2], alg='philox')
    np.testing.assert_array_equal(found, expected)

  def test_purposes_have_numbers_of_their_own(self):
    purposes = chance.CROP, chance.OPERATIONS, chance.PARTNER, chance.MIXTURE
    drawn = [chance.draw(each, [1000], 0, 0).numpy() for each in purposes]
    correlation = np.corrcoef(drawn) - np.eye(4)
    self.assertLess(np.abs(correlation).max(), 0.2)


class LabelsTest(absltest.TestCase):
  def test_loss_is_the_mean_over_labels_by_share(self):
    def loss(labels):
      return tf.cast(labels * 10, tf.float32)

    batch = {'label': tf.constant([1, 2])}
    np.testing.assert_array_equal(mixing.over_labels(batch, loss), [10, 20])
    batch['partner_label'] = tf.constant([3, 2])
    batch['share'] = tf.constant([0.75, 0.1])
    np.testing.assert_allclose(mixing.over_labels(batch, loss), [15, 20])


if __name__ == '__main__':
  absltest.main()
