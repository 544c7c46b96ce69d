"""The study names the layer that loses most, and what repairs it."""

import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.export import layer_study
from ft_tf.quantisation import twin as twins
from tests import quantised_networks


class StudyTest(absltest.TestCase):
  """The trained network is studied twice, for all tests of it.

  Once with little to restore, and once with all.
  """

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.images, _ = quantised_networks.images(64)
    cls.student = quantised_networks.trained()
    cls.twin = twins.build(cls.student)
    cls.twin.observe(cls.images)
    cls.lenient = layer_study.study(cls.twin, cls.images, restore=0.5)
    cls.strict = layer_study.study(cls.twin, cls.images, restore=1.0)

  def test_layers_are_sorted_and_measured_both_ways(self):
    study = self.strict
    self.assertEqual(study['examples'], 64)
    names = [row['layer'] for row in study['layers']]
    self.assertContainsSubset(
      ['normalize', 'expand', 'scale', 'residual'], names
    )
    self.assertLen(set(names), len(names))
    losses = [
      row['only_quantised']['mean_logit_difference'] for row in study['layers']
    ]
    self.assertEqual(losses, sorted(losses, reverse=True))
    self.assertGreater(losses[0], 0)
    whole = study['quantised']['mean_logit_difference']
    for row in study['layers']:
      self.assertLess(row['only_quantised']['mean_logit_difference'], 2 * whole)
      self.assertLessEqual(row['only_float']['agreement'], 1)

  def test_all_layers_quantised_are_the_twin(self):
    difference = np.abs(
      self.twin.model(self.images, training=False)
      - self.student(self.images, training=False)
    )
    self.assertAlmostEqual(
      self.lenient['quantised']['mean_logit_difference'], difference.mean(), 3
    )

  def test_layer_that_loses_most_is_named_and_repairs(self):
    images, _ = quantised_networks.images(128)
    twin = twins.build(quantised_networks.spoiled(), weight_scales='tensor')
    twin.observe(images)
    study = layer_study.study(twin, images, restore=0.97)
    self.assertEqual(study['layers'][0]['layer'], 'expand')
    self.assertLess(study['quantised']['agreement'], 0.9)
    self.assertEqual(study['repair'], ['expand'])
    self.assertGreaterEqual(study['repaired']['agreement'], 0.97)

  def test_nothing_is_repaired_where_nothing_is_lost(self):
    self.assertEmpty(self.lenient['repair'])

  def test_all_layers_in_float_agree(self):
    self.assertEqual(self.strict['repaired']['agreement'], 1.0)

  def test_weights_that_are_not_finite_are_refused(self):
    bias = self.student.get_layer('logits').bias
    self.addCleanup(bias.assign, bias.numpy())
    bias.assign(np.full(bias.shape, np.nan))
    with self.assertRaisesRegex(errors.UsageError, 'logits/bias is not finite'):
      layer_study.study(self.twin, self.images)


if __name__ == '__main__':
  absltest.main()
