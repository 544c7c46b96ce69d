"""Hints as a term: the middle maps and the regressor."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import hints
from tests import networks


class HintsTest(absltest.TestCase):
  def test_regressor_takes_the_middle_map_to_the_teachers_channels(self):
    teacher, student = networks.pair()
    method = hints.Hints(teacher=teacher, student=student, weight=100.0)
    self.assertEqual(method.teacher_layers, ('group2',))
    self.assertEqual(method.student_layers, ('group2',))
    theirs, ours = (
      networks.said(teacher, ['group2']),
      networks.said(student, ['group2']),
    )
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
