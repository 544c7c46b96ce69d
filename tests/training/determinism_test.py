"""`--deterministic`: two runs are equal bit for bit, and it is no other run."""

import numpy as np
from absl.testing import absltest
from tensorflow.python.framework import config

from ft_tf.models import model_files
from tests import fixtures, student_runs
from tests.faults import small_stage


class DeterminismTest(student_runs.StudentCase):
  def setUp(self):
    super().setUp()
    # TensorFlow's own way back, which it has for tests alone.
    self.addCleanup(config.disable_op_determinism)

  def _train(self, name, **options):
    recipe = fixtures.short_recipe(
      student_epochs=1,
      flip=True,
      pad=2,
      mixup_alpha=0.2,
      rand_augment_magnitude=5,
    )
    run, result = self.train(name, recipe, **options)
    rows = [(row['loss'], row['cross_entropy']) for row in run.metrics()]
    # What is not known is not 0: a clock is no deterministic operation.
    self.assertNotIn('input_wait', run.metrics()[-1])
    return model_files.load(run.model).get_weights(), rows, result

  def test_two_runs_are_equal_bit_for_bit(self):
    weights, rows, result = self._train('a', deterministic=True)
    self.assertTrue(config.is_op_determinism_enabled())
    again, rows_again, _ = self._train('b', deterministic=True)
    for one, other in zip(weights, again, strict=True):
      np.testing.assert_array_equal(one, other)
    self.assertEqual(rows, rows_again)
    # It is no part of the run's identity: this is the complete run.
    self.assertEqual(self._train('a')[2], result)

  def test_it_is_off_unless_asked_for(self):
    small_stage.run_stage(self.runs)
    self.assertFalse(config.is_op_determinism_enabled())


if __name__ == '__main__':
  absltest.main()
