"""The overhaul as a term: floors, connectors, weights of the groups."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import base, overhaul
from ft_tf.models import layers, taps, zoo

_SPEC = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))


def _networks():
  keras.utils.set_random_seed(0)
  return zoo.build('resnet14x0.5', _SPEC), zoo.build('resnet8x0.25', _SPEC)


def _said(network, layers_of, count=4):
  """Returns a network's outputs for some images."""
  images = np.random.default_rng(0).integers(256, size=(count, 16, 16, 1))
  return base.Outputs(
    *taps.logits_and_features(network, layers_of)(
      images.astype(np.uint8), training=False
    )
  )


class OverhaulTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.teacher, self.student = _networks()
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

  def test_floor_is_the_mean_negative_response_of_a_channel(self):
    feature = taps.features(self.teacher, ['g3b2_add'])(
      self.images, training=False
    )['g3b2_add'].numpy()
    said = _said(self.teacher, self.method.teacher_layers)
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
    signal = self.method.signal(_said(self.teacher, self.method.teacher_layers))
    adapted = self.method.adapt(_said(self.student, self.method.student_layers))
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
