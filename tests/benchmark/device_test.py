"""Every runtime computes the same network; the figures become a table."""

import importlib.util

import keras
import numpy as np
import pytest
from absl.testing import absltest

from ft_tf.benchmark import device, jobs, runtimes, sections
from ft_tf.export import formats
from ft_tf.models import layers, zoo
from tests import networks

_MISSING = [
  name
  for name in sections.COMPARED_WITH['device']
  if importlib.util.find_spec(name) is None
]


class DeviceTest(absltest.TestCase):
  def test_figures_become_a_table(self):
    figures = {
      'gigaoperations': 0.5,
      'xnnpack_parts': {'fp32': 1, 'int8': 20},
      'runtimes': {
        'LiteRT int8': {
          'p10_ms': 0.25,
          'p50_ms': 0.5,
          'speed_vs_litert_float32': 2.0,
          'difference': 0.0123,
          'gigaoperations_per_second': 2000.0,
        }
      },
    }
    text = device.to_markdown(
      {**figures, 'student': 'vgg8', 'image_size': 32, 'convolution': figures}
    )
    self.assertIn('vgg8, 32x32, one image, one thread, 0.5 G operations', text)
    self.assertIn('1 in fp32, 20 in int8', text)
    self.assertEqual(
      text.count('| LiteRT int8 | 0.250 | 0.500 | 2.00 | 2,000 | 0.012 |'), 2
    )

  def test_every_runtime_gives_the_logits_of_keras(self):
    if _MISSING:
      self.skipTest(f'not installed: {", ".join(_MISSING)}')
    spec = layers.Spec((16, 16, 3), 5, (0.5,) * 3, (0.25,) * 3)
    keras.utils.set_random_seed(0)
    student = networks.disturb(zoo.build('resnet8x0.25', spec))
    images = networks.images(32, 16, 3)
    expected = student.predict(images, verbose=0)
    folder = self.create_tempdir().full_path
    runners = list(runtimes.open_all(formats.Source(student, images), folder))
    self.assertLen(runners, 8)
    for runner in runners:
      with self.subTest(runner.name):
        wrong = np.abs(runner.predict(images) - expected).mean()
        share = wrong / expected.std()
        self.assertLess(share, 0.1 if 'int8' in runner.name else 0.01)
        runner.invoke()

  @pytest.mark.slow
  def test_student_and_convolution_are_measured(self):
    if _MISSING:
      self.skipTest(f'not installed: {", ".join(_MISSING)}')
    found = device.measure(
      jobs.Job(name='', student='resnet8x0.25', image_size=16), rounds=1
    )
    self.assertCountEqual(found['runtimes'], found['convolution']['runtimes'])
    for each in found['convolution']['runtimes'].values():
      self.assertGreater(each['gigaoperations_per_second'], 1)
      self.assertLessEqual(each['p10_ms'], each['p50_ms'])
    self.assertEqual(found['xnnpack_parts'], {'fp32': 1, 'fp16': 1, 'int8': 1})


if __name__ == '__main__':
  absltest.main()
