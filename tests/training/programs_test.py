"""Students of further seeds by one compiled program, equal to the last bit."""

import os

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf.models import model_files
from ft_tf.training import programs, student_stage
from tests import fixtures, student_runs


class ProgramsTest(student_runs.StudentCase):
  def _random_student(self):
    """Saves a student with random layers; returns its file."""
    image = keras.Input((8, 8, 1), dtype='uint8')
    y = keras.layers.Rescaling(1 / 255)(image)
    y = keras.layers.Conv2D(8, 3, strides=2, padding='same')(y)
    y = keras.layers.Dropout(0.3)(keras.ops.relu(y))
    y = keras.layers.GlobalAveragePooling2D()(y)
    path = os.path.join(self.runs, 'random.keras')
    keras.Model(image, keras.layers.Dense(3)(y)).save(path)
    return path

  def test_shared_program_changes_no_bit(self):
    self._check(method='kd', student=self._random_student())

  @parameterized.parameters(
    {'method': 'ft+kd', 'student_ema': 0.9},
    {'method': 'scratch', 'student_optimizer': 'adamw'},
    {'method': 'ft', 'beta': 'auto'},
  )
  @pytest.mark.slow
  def test_nor_does_it_with_any_state_that_steps_move(self, **values):
    self._check(**values)

  def _check(self, **values):
    """Compares students of two seeds, by a shared program and by their own."""
    compiled = programs.Programs()
    for seed in (0, 1):
      recipe = fixtures.short_recipe(seed=seed, student_epochs=2, **values)
      runs = {}
      for name, kept in (
        ('shared', compiled),
        ('alone', programs.Programs()),
      ):
        runs[name], _ = self.train(f'{name}-{seed}', recipe, compiled=kept)
      for file in ('model.keras', student_stage.BEST):
        one, other = (
          model_files.load(os.path.join(run.path, file)).get_weights()
          for run in runs.values()
        )
        for mine, theirs in zip(one, other, strict=True):
          np.testing.assert_array_equal(mine, theirs)
      rows = [
        [
          {k: v for k, v in row.items() if k not in _OF_TIME}
          for row in run.metrics()
        ]
        for run in runs.values()
      ]
      self.assertEqual(*rows)

  def test_seeds_share_a_program_and_other_recipes_do_not(self):
    compiled = programs.Programs()
    for values in (
      {'seed': 0},
      {'seed': 1},
      {'seed': 1, 'student_learning_rate': 0.05},
    ):
      self.train(
        str(values), fixtures.short_recipe(**values), compiled=compiled
      )
    kept = [*compiled._kept.values()]
    self.assertLen(kept, 2)
    for program in kept:
      self.assertEqual(program.train_steps.experimental_get_tracing_count(), 1)


_OF_TIME = (
  'compile_seconds',
  'images_per_second',
  'input_wait',
  'wall_seconds',
)


if __name__ == '__main__':
  absltest.main()
