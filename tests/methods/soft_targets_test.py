"""Soft targets as terms: their weights and what they read."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import base, soft_targets


class SoftTargetsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.ours, self.theirs = np.float32(rng.normal(size=(2, 4, 3)))
    self.labels = np.array([0, 1, 2, 0])

  def _loss(self, method):
    adapted = method.adapt(base.Outputs(self.ours, {}))
    signal = method.signal(base.Outputs(self.theirs, {}))
    return method.loss(adapted, signal, self.labels)

  def test_weights_are_an_average_with_cross_entropy(self):
    method = soft_targets.SoftTargets(alpha=0.9, temperature=4.0)
    self.assertAlmostEqual(method.weight + method.labels_weight, 1)
    np.testing.assert_array_equal(
      self._loss(method), losses.soft_targets(self.ours, self.theirs, 4.0)
    )
    self.assertIsNone(method.adapter)

  def test_decoupled_parts_have_their_own_weights(self):
    method = soft_targets.DecoupledSoftTargets(
      alpha=2.0, beta=8.0, temperature=4.0
    )
    of_label, of_others = losses.decoupled_soft_targets(
      self.ours, self.theirs, self.labels, 4.0
    )
    np.testing.assert_allclose(
      self._loss(method), 2 * of_label + 8 * of_others, rtol=1e-6
    )
    self.assertEqual((method.weight, method.labels_weight), (1, 1))


if __name__ == '__main__':
  absltest.main()
