"""Hints as a term: the middle maps and the regressor."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import base, hints
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


class HintsTest(absltest.TestCase):
  def test_regressor_takes_the_middle_map_to_the_teachers_channels(self):
    teacher, student = _networks()
    method = hints.Hints(teacher=teacher, student=student, weight=100.0)
    self.assertEqual(method.teacher_layers, ('group2',))
    self.assertEqual(method.student_layers, ('group2',))
    theirs, ours = _said(teacher, ['group2']), _said(student, ['group2'])
    signal, adapted = method.signal(theirs), method.adapt(ours)
    np.testing.assert_array_equal(signal, theirs.features['group2'])
    self.assertEqual(adapted.shape, signal.shape)
    np.testing.assert_allclose(
      method.loss(adapted, signal, None),
      losses.mean_squared(adapted, signal),
      rtol=1e-6,
    )
    # A kernel 8 -> 16 with bias, scale and offset.
    self.assertEqual(
      sum(np.prod(v.shape) for v in method.adapter.trainable_variables),
      8 * 16 + 3 * 16,
    )


if __name__ == '__main__':
  absltest.main()
