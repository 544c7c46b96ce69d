"""Students of further seeds by one compiled program, equal to the last bit."""

import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf.models import model_files
from ft_tf.training import loop, programs, student_stage
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

  def test_shared_program_changes_no_bit_and_other_recipes_have_their_own(self):
    values = {'method': 'ft+kd', 'student': self._random_student()}
    compiled = self._check(**values)
    (program,) = compiled._kept.values()
    self.assertEqual(program.train_steps.experimental_get_tracing_count(), 1)
    other = fixtures.short_recipe(student_learning_rate=0.05, **values)
    with (
      mock.patch.object(loop, 'run', side_effect=KeyboardInterrupt),
      self.assertRaises(KeyboardInterrupt),
    ):
      self.train('other', other, compiled=compiled)
    self.assertLen(compiled._kept, 2)

  @parameterized.parameters(
    {'method': 'ft+kd', 'student_ema': 0.9},
    {'method': 'scratch', 'student_optimizer': 'adamw'},
    {'method': 'ft', 'beta': 'auto'},
  )
  @pytest.mark.slow
  def test_nor_does_it_with_any_state_that_steps_move(self, **values):
    self._check(**values)

  def _check(self, **values):
    """Compares a student by another seed's program with one by its own.

    Returns:
      What the two seeds share.
    """
    shared, runs = programs.Programs(), []
    for name, seed, compiled in (
      ('first', 0, shared),
      ('shared', 1, shared),
      ('alone', 1, programs.Programs()),
    ):
      recipe = fixtures.short_recipe(seed=seed, student_epochs=2, **values)
      run, _ = self.train(name, recipe, compiled=compiled)
      runs.append(run)
    _, *runs = runs
    for file in ('model.keras', student_stage.BEST):
      one, other = (
        model_files.load(os.path.join(run.path, file)).get_weights()
        for run in runs
      )
      for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    rows = [
      [
        {k: v for k, v in row.items() if k not in _OF_TIME}
        for row in run.metrics()
      ]
      for run in runs
    ]
    self.assertEqual(*rows)
    return shared


_OF_TIME = (
  'compile_seconds',
  'images_per_second',
  'input_wait',
  'wall_seconds',
)


if __name__ == '__main__':
  absltest.main()
