"""The latency figures are in order and of the threads asked for."""

import os

import numpy as np
from absl.testing import absltest

from ft_tf.export import convert, latency
from ft_tf.models import layers, zoo


class LatencyTest(absltest.TestCase):
  def test_percentiles_are_in_order_and_in_milliseconds(self):
    model = zoo.build(
      'resnet8x0.25', layers.Spec((8, 8, 1), 3, (0.5,), (0.25,))
    )
    path = os.path.join(self.create_tempdir().full_path, 'm.tflite')
    with open(path, 'wb') as file:
      file.write(convert.tflite_float32(model))
    figures = latency.measure(path, np.zeros((8, 8, 1), np.uint8), threads=1)
    self.assertEqual(figures['threads'], 1)
    self.assertEqual(figures['runs'], 200)
    self.assertGreater(figures['p50'], 0)
    self.assertLessEqual(figures['p50'], figures['p90'])
    self.assertLessEqual(figures['p90'], figures['p99'])


if __name__ == '__main__':
  absltest.main()
