"""Hints as a term: the middle maps and the regressor."""

import numpy as np
from absl.testing import absltest

from ft_tf import losses
from ft_tf.methods import hints
from ft_tf.models import layers, zoo
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

  def test_hint_of_a_wide_resnet_is_the_raw_sum_of_its_group(self):
    spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
    method = hints.Hints(
      teacher=zoo.build('wrn-10-2', spec),
      student=zoo.build('wrn-10-1', spec),
      weight=1.0,
    )
    self.assertEqual(method.teacher_layers, ('group2',))
    self.assertEqual(method.student_layers, ('group2',))
    self.assertEqual(method.adapter.input_shape, (None, 8, 8, 32))
    self.assertEqual(method.adapter.output_shape, (None, 8, 8, 64))


if __name__ == '__main__':
  absltest.main()
