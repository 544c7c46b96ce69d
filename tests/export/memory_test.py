"""The arena is that of the activations; a process tells what a file takes."""

import os
import signal
import subprocess
import sys
from unittest import mock

import keras
from absl.testing import absltest

from ft_tf import errors
from ft_tf.export import convert, memory
from ft_tf.models import layers, zoo
from tests import networks

_IMAGE = 16 * 16 * 3


class MemoryTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    spec = layers.Spec((16, 16, 3), 3, (0.5,) * 3, (0.25,) * 3)
    cls.model = networks.disturb(zoo.build('resnet8', spec))

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _write(self, name, content):
    path = os.path.join(self.folder, name)
    with open(path, 'wb') as file:
      file.write(content)
    return path

  def test_arena_has_the_maps_that_live_at_a_time(self):
    path = self._write(
      'fp32.tflite',
      convert.tflite_float32(convert.float32_twin(self.model, 'uint8')),
    )
    # A residual block of 16 channels holds its input, a map and its output.
    maps = 3 * 16 * 16 * 16 * 4
    found = memory.arena_bytes(path)
    self.assertBetween(found, maps, maps + 2 * _IMAGE * 4)

  def test_arena_of_int8_is_about_a_quarter(self):
    twin = convert.float32_twin(self.model, 'float32')
    real = self._write('fp32.tflite', convert.tflite_float32(twin))
    integer = self._write(
      'int8.tflite', convert.tflite_int8(twin, networks.images(8, 16, 3))
    )
    ratio = memory.arena_bytes(real) / memory.arena_bytes(integer)
    self.assertBetween(ratio, 3, 4.5)

  def test_blocks_of_memory_are_added_without_the_gaps(self):
    self.assertEqual(memory._covered([]), 0)
    self.assertEqual(memory._covered([(1000, 1100), (1050, 1200)]), 200)
    self.assertEqual(memory._covered([(1000, 1100), (1128, 1200)]), 200)
    self.assertEqual(memory._covered([(9000, 9010), (1000, 1100)]), 110)

  def test_process_grows_by_the_weights_at_least(self):
    path = self._write(
      'fp32.tflite',
      convert.tflite_float32(convert.float32_twin(self.model, 'uint8')),
    )
    grown = memory.peak_bytes(path)
    if sys.platform != 'linux':
      self.assertIsNone(grown)
      return
    self.assertBetween(grown, os.path.getsize(path), 10**8)

  def test_system_that_does_not_tell_gives_none(self):
    done = subprocess.CompletedProcess([], 0, stdout='unknown\n')
    with mock.patch.object(subprocess, 'run', return_value=done):
      self.assertIsNone(memory.peak_bytes('m.tflite'))

  def test_file_that_crashes_its_runtime_is_refused_in_a_line(self):
    crashed = subprocess.CompletedProcess([], -signal.SIGSEGV)
    with (
      mock.patch.object(subprocess, 'run', return_value=crashed),
      self.assertRaisesRegex(errors.UsageError, r'm\.tflite.*SIGSEGV.*give a'),
    ):
      memory.check_survives('m.tflite')
    # What LiteRT refuses itself, it says itself.
    memory.check_survives(self._write('broken.tflite', b'not a model'))

  def test_process_that_fails_is_named(self):
    path = self._write('broken.tflite', b'not a model')
    with self.assertRaisesRegex(errors.TrainingError, 'broken.tflite'):
      memory.peak_bytes(path)


if __name__ == '__main__':
  absltest.main()
