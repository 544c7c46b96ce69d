"""A batch that does not fit: refused where that is certain, one line else."""

import os
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import errors, recipe_flags, run_dir, specs
from ft_tf.data import memory as machine
from ft_tf.models import zoo
from ft_tf.training import memory
from tests import fixtures, student_runs
from tests.faults import small_stage


class CountTest(absltest.TestCase):
  def test_inputs_of_kernels_count_once_each(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    first = keras.layers.Conv2D(4, 3, padding='same')(x)
    second = keras.layers.Conv2D(4, 1)(x)  # of the same tensor
    x = keras.layers.BatchNormalization()(first + second)
    x = keras.layers.Conv2D(2, 3, dtype='mixed_bfloat16')(x)
    model = keras.Model(image, x)
    self.assertEqual(memory.count_kept(model), 4 * 8 * 8 * 3 + 2 * 8 * 8 * 4)
    model.layers[-1].trainable = False
    self.assertEqual(memory.count_kept(model), 4 * 8 * 8 * 3)

  def test_it_is_less_than_a_step_takes(self):
    # Of a known network: every block's convolutions keep their inputs.
    recipe = fixtures.recipe()
    spec = specs.spec(recipe, fixtures.blobs())
    model = zoo.build('resnet8', spec)
    maps = sum(
      4 * layer.output.shape[1] * layer.output.shape[2] * layer.output.shape[3]
      for layer in model.layers
      if len(layer.output.shape) == 4
    )
    self.assertBetween(memory.count_kept(model), maps / 8, maps)


class CheckTest(student_runs.StudentCase):
  def test_batch_that_cannot_fit_is_refused_before_the_folder_is_made(self):
    recipe = recipe_flags.override(fixtures.recipe(), {'batch_size': 2**16})
    with (
      mock.patch.object(machine, 'total_bytes', return_value=2**26),
      self.assertRaisesRegex(
        errors.UsageError, r'^--batch_size=65536 .* has 64\.0 MiB: give less '
      ) as caught,
    ):
      self.train('a', recipe)
    self.assertFalse(os.path.exists(os.path.join(self.runs, 'a')))
    most = int(str(caught.exception).rpartition(' ')[2].replace(',', ''))
    self.assertBetween(most, 2, 2**16 - 1)

  def test_other_machines_take_their_share(self):
    recipe = recipe_flags.override(fixtures.recipe(), {'batch_size': 1024})
    strategy = mock.Mock(num_replicas_in_sync=4)
    strategy.extended.worker_devices = ('CPU:0',)
    with mock.patch.object(machine, 'total_bytes', return_value=256 * 64):
      memory.check(recipe, strategy, (8, 8, 1), [])
      strategy.num_replicas_in_sync = 3
      with self.assertRaisesRegex(errors.UsageError, '--batch_size=1024'):
        memory.check(recipe, strategy, (8, 8, 1), [])


class ExplainedTest(absltest.TestCase):
  def test_memory_that_runs_out_is_one_line(self):
    path = os.path.join(self.create_tempdir().full_path, 'run')
    for allocate in (
      lambda *_: np.empty(2**60, np.uint8),
      lambda *_: tf.zeros([2**45]),
    ):
      with (
        mock.patch.object(small_stage.SmallStage, 'prepare', allocate),
        self.assertRaisesRegex(
          errors.TrainingError, r'^there is not enough memory .*--batch_size='
        ) as caught,
      ):
        small_stage.run_stage(path)
      self.assertNotIn('\n', str(caught.exception))
    # The same command continues.
    self.assertEqual(small_stage.run_stage(path)['steps'], 9)
    self.assertIsNotNone(run_dir.RunDir(path).read('result.json'))


if __name__ == '__main__':
  absltest.main()
