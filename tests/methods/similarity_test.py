"""Similarity as a term: maps of any channels."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import similarity
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


if __name__ == '__main__':
  absltest.main()
