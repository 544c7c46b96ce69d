"""The overhaul as a term: floors, connectors, weights of the groups."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import overhaul
from ft_tf.models import layers, taps, zoo
from tests import networks


class OverhaulTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.teacher, self.student = networks.pair()
    self.images = (
      np.random.default_rng(1)
      .integers(256, size=(200, 16, 16, 1))
      .astype(np.uint8)
    )
    self.method = overhaul.Overhaul(
      teacher=self.teacher,
      student=self.student,
      images=self.images,
      weight=1e-3,
    )

  def test_maps_are_those_before_each_groups_activation(self):
    self.assertEqual(
      self.method.teacher_layers, ('g1b2_add', 'g2b2_add', 'g3b2_add')
    )
    self.assertEqual(
      self.method.student_layers, ('g1b1_add', 'g2b1_add', 'g3b1_add')
    )

  def test_maps_of_a_wide_resnet_are_normalised_sums(self):
    # The authors' code: after batch norm, before ReLU.
    spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
    method = overhaul.Overhaul(
      teacher=zoo.build('wrn-10-1', spec),
      student=self.student,
      images=self.images[:2],
      weight=1.0,
    )
    self.assertEqual(method.teacher_layers, ('g2b1_bn1', 'g3b1_bn1', 'bn'))

  def test_floor_is_the_mean_negative_response_of_a_channel(self):
    feature = taps.features(self.teacher, ['g3b2_add'])(
      self.images, training=False
    )['g3b2_add'].numpy()
    said = networks.said(self.teacher, self.method.teacher_layers)
    signal = self.method.signal(said)[2].numpy()
    for channel in range(feature.shape[-1]):
      x = feature[..., channel]
      floor = x[x < 0].mean() if (x < 0).any() else 0
      np.testing.assert_allclose(
        signal[..., channel],
        np.maximum(said.features['g3b2_add'][..., channel], floor),
        atol=1e-4,
      )

  def test_loss_is_halved_from_each_group_to_the_one_before(self):
    signal = self.method.signal(
      networks.said(self.teacher, self.method.teacher_layers)
    )
    adapted = self.method.adapt(
      networks.said(self.student, self.method.student_layers)
    )
    each = [
      losses.partial_squared(ours, theirs)
      for ours, theirs in zip(adapted, signal, strict=True)
    ]
    np.testing.assert_allclose(
      self.method.loss(adapted, signal, None),
      each[0] / 4 + each[1] / 2 + each[2],
      rtol=1e-5,
    )

  def test_connectors_are_trained_beside_the_student(self):
    # Of each group a kernel without bias, scale and offset.
    self.assertLen(self.method.adapter.trainable_variables, 9)
    self.assertLen(self.method.adapter.non_trainable_variables, 6)


if __name__ == '__main__':
  absltest.main()
