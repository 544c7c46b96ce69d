"""Attention transfer as a term: which maps it pairs."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import attention_transfer, base
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


class AttentionTransferTest(absltest.TestCase):
  def test_every_group_has_its_share(self):
    teacher, student = _networks()
    method = attention_transfer.AttentionTransfer(
      teacher=teacher, student=student, beta=1000.0
    )
    groups = ('group1', 'group2', 'group3')
    self.assertEqual(method.teacher_layers, groups)
    self.assertEqual(method.student_layers, groups)
    theirs, ours = _said(teacher, groups), _said(student, groups)
    signal, adapted = method.signal(theirs), method.adapt(ours)
    # One value for each place: what is kept is small.
    self.assertEqual([s.shape[1] for s in signal], [256, 64, 16])
    expected = sum(
      losses.mean_squared(
        losses.attention(ours.features[g]), losses.attention(theirs.features[g])
      )
      for g in groups
    )
    np.testing.assert_allclose(
      method.loss(adapted, signal, None), expected, rtol=1e-6
    )


if __name__ == '__main__':
  absltest.main()
