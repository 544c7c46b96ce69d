"""Gradient norms against those worked out by hand."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf.training import gradients


class MeasureTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    inputs = keras.Input((2,))
    norm = keras.layers.BatchNormalization(name='norm')
    dense = keras.layers.Dense(1, use_bias=False, name='dense')
    self.student = keras.Model(inputs, dense(norm(inputs)))
    self.other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    self.x = tf.constant([[3.0, 1.0], [1.0, 5.0]])

  def _measure(self, forward, terms):
    return gradients.compile_measure(
      forward,
      student=self.student,
      models=[self.student, self.other],
      terms=terms,
    )({'image': self.x})

  def test_ratio_and_cosine_are_those_worked_out_by_hand(self):
    kernel = self.student.get_layer('dense').kernel

    def forward(batch):
      del batch
      w = tf.reshape(kernel.value, [-1])
      # Gradients (1, 0), (3, 4), (0, 2) and none.
      return {
        'cross_entropy': w[0],
        'slanted': 3 * w[0] + 4 * w[1],
        'across': 2 * w[1],
        'none': tf.reduce_sum(self.other.weights[0].value),
      }

    found = self._measure(forward, ['slanted', 'across', 'none'])
    for name, expected in {
      'slanted': (5, 0.6),
      'across': (2, 0),
      'none': (0, 0),
    }.items():
      np.testing.assert_allclose(found[name], expected, atol=1e-6)

  def test_nothing_moves(self):
    before = self.student.get_weights()

    def forward(batch):
      y = self.student(batch['image'], training=True)
      return {'cross_entropy': tf.reduce_sum(y), 'term': tf.reduce_sum(y * y)}

    self._measure(forward, ['term'])
    for now, then in zip(self.student.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)


if __name__ == '__main__':
  absltest.main()
