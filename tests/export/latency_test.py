"""Latency figures: in order, taken in turn, of one image and of all files."""

import os
import sys
from unittest import mock

import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.evaluation import device_files
from ft_tf.export import convert, latency, memory, processor
from ft_tf.models import layers, zoo
from tests import networks


class _Fake:
  """Stands for an opened file: writes down when it runs."""

  def __init__(self, path, log):
    self.image_shape = (8, 8, 1)
    self._path, self._log = path, log

  def __call__(self, images):
    del images
    self._log.append(self._path)

  def invoke(self):
    self._log.append(self._path)


class LatencyTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.small = zoo.build(
      'resnet8x0.25', layers.Spec((8, 8, 1), 3, (0.5,), (0.25,))
    )
    cls.large = zoo.build(
      'resnet8', layers.Spec((32, 32, 3), 3, (0.5,) * 3, (0.25,) * 3)
    )

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _write(self, name, content):
    path = os.path.join(self.folder, name)
    with open(path, 'wb') as file:
      file.write(content)
    return path

  def test_percentiles_are_in_order_and_in_milliseconds(self):
    path = self._write('m.tflite', convert.tflite_float32(self.small))
    figures = latency.measure(path, np.zeros((8, 8, 1), np.uint8), threads=1)
    self.assertEqual(figures['threads'], 1)
    self.assertEqual(figures['runs'], 200)
    self.assertGreater(figures['p50'], 0)
    self.assertLessEqual(figures['p50'], figures['p90'])
    self.assertLessEqual(figures['p90'], figures['p95'])
    self.assertLessEqual(figures['p95'], figures['p99'])

  def test_all_files_and_the_teacher_have_their_figures(self):
    images = networks.images(8, 8, 1)
    files = {
      'fp32': self._write('fp32.tflite', convert.tflite_float32(self.small)),
      'int8': self._write(
        'int8.tflite',
        convert.tflite_int8(
          convert.float32_twin(self.small, 'float32'), images
        ),
      ),
    }
    teacher = self._write('teacher.tflite', convert.tflite_float32(self.large))
    found = latency.measure_all(files, images[0], teacher, threads=(1, 1000))
    self.assertEqual(found['threads'], [1])
    self.assertCountEqual(found['files'], files)
    for entry in (*found['files'].values(), found['teacher']):
      self.assertGreater(entry['1']['first_ms'], 0)
      self.assertLessEqual(entry['1']['p50'], entry['1']['p99'])
      self.assertEqual(entry['xnnpack_parts'], 1)
      self.assertGreater(entry['arena_bytes'], 0)
    # More than 100 times the operations.
    self.assertGreater(
      found['teacher']['1']['p50'], found['files']['fp32']['1']['p50']
    )
    self.assertIn(found['fastest'], files)
    self.assertEqual(found['processor'], processor.describe())

  def test_files_are_measured_in_turn(self):
    log = []
    with (
      mock.patch.object(
        device_files, 'open_file', lambda path, threads: _Fake(path, log)
      ),
      mock.patch.object(memory, 'peak_bytes', return_value=1),
    ):
      found = latency.measure_all(
        {'a': 'a.onnx', 'b': 'b.onnx'},
        np.zeros((8, 8, 1), np.uint8),
        threads=(1,),
      )
    self.assertIsNone(found['teacher'])
    blocks = [log[0]]
    for path in log:
      if path != blocks[-1]:
        blocks.append(path)
    # First runs, warm-up, and 40 rounds of both.
    self.assertLen(blocks, 2 * 42)
    self.assertEqual(found['files']['a']['1']['runs'], 200)

  def test_first_runs_are_not_among_the_warm_ones(self):
    clock = iter(range(10**6))
    with mock.patch.object(latency.time, 'perf_counter', lambda: next(clock)):
      with mock.patch.object(
        device_files, 'open_file', lambda path, threads: _Fake(path, [])
      ):
        figures = latency.measure('a.onnx', np.zeros((8, 8, 1), np.uint8))
    # Every run takes a second by this clock, and a block has five at most.
    self.assertEqual(figures['p50'], 1000)
    self.assertEqual(figures['runs'], 200)

  def test_onnx_without_its_runtime_is_refused_with_the_command(self):
    path = self._write('m.onnx', b'')
    with mock.patch.dict(sys.modules, {'onnxruntime': None}):
      with self.assertRaisesRegex(errors.UsageError, 'pip install onnxruntime'):
        latency.measure(path, np.zeros((8, 8, 1), np.uint8))


if __name__ == '__main__':
  absltest.main()
