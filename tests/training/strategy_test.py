"""The devices a run gets, and what is refused."""

import tensorflow as tf
from absl.testing import absltest

from ft_tf import errors
from ft_tf.training import strategy


class StrategyTest(absltest.TestCase):
  def test_replicas_are_as_many_as_asked_for(self):
    if tf.config.list_physical_devices('GPU'):
      self.skipTest('counts CPU devices')
    self.assertEqual(strategy.make(2).num_replicas_in_sync, 2)
    self.assertEqual(strategy.make().num_replicas_in_sync, 1)

  def test_negative_number_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--num_replicas=-1'):
      strategy.make(-1)

  def test_batch_that_does_not_split_is_refused(self):
    both = strategy.make(2)
    strategy.check_batch(both, 6)
    with self.assertRaisesRegex(errors.UsageError, 'a multiple of 2'):
      strategy.check_batch(both, 7)

  def test_new_devices_after_tensorflow_is_in_use_are_refused(self):
    if tf.config.list_physical_devices('GPU'):
      self.skipTest('splits the CPU')
    strategy.make(2)
    tf.config.list_logical_devices()
    with self.assertRaisesRegex(errors.UsageError, 'before anything else'):
      strategy.make(3)


if __name__ == '__main__':
  absltest.main()
