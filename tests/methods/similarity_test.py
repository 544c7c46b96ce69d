"""Similarity as a term: maps of any channels."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import similarity
from ft_tf.models import layers, zoo
from tests import networks


class SimilarityTest(absltest.TestCase):
  def test_last_maps_are_compared_whatever_their_channels(self):
    teacher, student = networks.pair()
    method = similarity.Similarity(
      teacher=teacher, student=student, gamma=3000.0
    )
    signal = method.signal(networks.said(teacher, ['group3']))
    adapted = method.adapt(networks.said(student, ['group3']))
    self.assertNotEqual(signal.shape, adapted.shape)
    np.testing.assert_allclose(
      method.loss(adapted, signal, None),
      losses.similarity(adapted, signal, adapted, signal),
      rtol=1e-6,
    )
    self.assertIsNone(method.adapter)

  def test_map_of_a_wide_resnet_is_the_raw_sum_of_its_last_group(self):
    spec = layers.Spec((8, 8, 1), 3, (0.5,), (0.25,))
    method = similarity.Similarity(
      teacher=zoo.build('wrn-10-1', spec),
      student=zoo.build('resnet8', spec),
      gamma=1.0,
    )
    self.assertEqual(method.teacher_layers, ('g3b1_add',))
    self.assertEqual(method.student_layers, ('group3',))


if __name__ == '__main__':
  absltest.main()
