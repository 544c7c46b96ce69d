"""The study names the layer that loses most, and what repairs it."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.export import layer_study
from ft_tf.quantisation import twin as twins
from tests import quantised_networks


class StudyTest(absltest.TestCase):
  def test_layers_are_sorted_and_measured_both_ways(self):
    images, _ = quantised_networks.images(64)
    study = layer_study.study(quantised_networks.trained(), images)
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
    student, (images, _) = (
      quantised_networks.trained(),
      quantised_networks.images(64),
    )
    twin = twins.build(student)
    twin.observe(images)
    study = layer_study.study(student, images, ranges=twin.ranges_by_place())
    difference = np.abs(
      twin.model(images, training=False) - student(images, training=False)
    )
    self.assertAlmostEqual(
      study['quantised']['mean_logit_difference'], difference.mean(), 3
    )

  def test_layer_that_loses_most_is_named_and_repairs(self):
    student = quantised_networks.spoiled()
    images, _ = quantised_networks.images(128)
    study = layer_study.study(
      student, images, weight_scales='tensor', restore=0.97
    )
    self.assertEqual(study['layers'][0]['layer'], 'expand')
    self.assertLess(study['quantised']['agreement'], 0.9)
    self.assertEqual(study['repair'], ['expand'])
    self.assertGreaterEqual(study['repaired']['agreement'], 0.97)

  def test_nothing_is_repaired_where_nothing_is_lost(self):
    images, _ = quantised_networks.images(32)
    study = layer_study.study(quantised_networks.trained(), images, restore=0.5)
    self.assertEmpty(study['repair'])

  def test_all_layers_in_float_agree(self):
    images, _ = quantised_networks.images(32)
    study = layer_study.study(quantised_networks.trained(), images, restore=1.0)
    self.assertEqual(study['repaired']['agreement'], 1.0)

  def test_unknown_layers_are_refused(self):
    image = keras.Input((8, 8, 3))
    y = keras.layers.Softmax(name='unknown')(keras.layers.Flatten()(image))
    with self.assertRaisesRegex(errors.UsageError, 'unknown'):
      layer_study.study(keras.Model(image, y), np.zeros((2, 8, 8, 3), np.uint8))


if __name__ == '__main__':
  absltest.main()
