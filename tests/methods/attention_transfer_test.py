"""Attention transfer as a term: which maps it pairs."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import attention_transfer
from ft_tf.models import layers, zoo
from tests import networks


class AttentionTransferTest(absltest.TestCase):
  def test_every_group_has_its_share(self):
    teacher, student = networks.pair()
    method = attention_transfer.AttentionTransfer(
      teacher=teacher, student=student, beta=1000.0
    )
    groups = ('group1', 'group2', 'group3')
    self.assertEqual(method.teacher_layers, groups)
    self.assertEqual(method.student_layers, groups)
    theirs, ours = (
      networks.said(teacher, groups),
      networks.said(student, groups),
    )
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

  def test_maps_of_wide_resnets_are_the_raw_sums_of_the_groups(self):
    # As in the authors' code, whose weight it has.
    spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
    teacher, student = zoo.build('wrn-16-1', spec), zoo.build('resnet8', spec)
    method = attention_transfer.AttentionTransfer(
      teacher=teacher, student=student, beta=1.0
    )
    self.assertEqual(method.teacher_layers, ('group1', 'group2', 'g3b2_add'))
    self.assertEqual(method.student_layers, ('group1', 'group2', 'group3'))
    signal = method.signal(networks.said(teacher, method.teacher_layers))
    self.assertEqual([s.shape[1] for s in signal], [256, 64, 16])


if __name__ == '__main__':
  absltest.main()
