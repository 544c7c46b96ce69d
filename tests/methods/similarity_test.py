"""Similarity as a term: maps of any channels."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import base, similarity
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


class SimilarityTest(absltest.TestCase):
  def test_last_maps_are_compared_whatever_their_channels(self):
    teacher, student = _networks()
    method = similarity.Similarity(
      teacher=teacher, student=student, gamma=3000.0
    )
    signal = method.signal(_said(teacher, ['group3']))
    adapted = method.adapt(_said(student, ['group3']))
    self.assertNotEqual(signal.shape, adapted.shape)
    np.testing.assert_allclose(
      method.loss(adapted, signal, None),
      losses.similarity(adapted, signal, adapted, signal),
      rtol=1e-6,
    )
    self.assertIsNone(method.adapter)


if __name__ == '__main__':
  absltest.main()
