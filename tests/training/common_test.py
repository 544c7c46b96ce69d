"""What identifies a run, and what is counted as a parameter."""

import contextlib
import io
import os

import numpy as np
from absl.testing import absltest

from ft_tf import errors, run_dir
from ft_tf.data import datasets
from ft_tf.models import layers, zoo
from ft_tf.training import common
from tests import fixtures


class IdentityTest(absltest.TestCase):
  def test_other_stages_numbers_do_not_count(self):
    one = common.identity('teacher', fixtures.recipe())
    self.assertEqual(one, common.identity('teacher', fixtures.recipe(beta=1.0)))
    other = common.identity('teacher', fixtures.recipe(teacher_epochs=4))
    self.assertNotEqual(one, other)

  def test_content_of_a_file_counts_and_its_place_does_not(self):
    folder = self.create_tempdir()
    paths = [
      folder.create_file(n, c).full_path
      for n, c in (('a', 'x'), ('b', 'x'), ('c', 'y'))
    ]
    a, b, c = (
      common.identity('student', fixtures.recipe(), teacher=path)
      for path in paths
    )
    self.assertEqual(a, b)
    self.assertNotEqual(a, c)


class WorkTest(absltest.TestCase):
  def test_batch_that_does_not_split_is_refused_and_nothing_written(self):
    run = run_dir.RunDir(os.path.join(self.create_tempdir().full_path, 'new'))
    recipe = fixtures.recipe(batch_size=15)
    with (
      self.assertRaisesRegex(errors.UsageError, '--batch_size=15'),
      common.work(run, {}, fixtures.strategy(2), recipe, fixtures.blobs()),
    ):
      pass
    self.assertFalse(os.path.exists(run.path))


class SpecTest(absltest.TestCase):
  def test_statistics_of_another_number_of_channels_are_refused(self):
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    with self.assertRaisesRegex(errors.UsageError, 'has 1 channels.*--mean'):
      common.spec(recipe, fixtures.blobs())


class StatisticsTest(absltest.TestCase):
  def test_images_own_stand_where_the_recipes_cannot_apply(self):
    dataset = fixtures.blobs()
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      settled = common.settle_statistics(recipe, dataset)
    mean, std = datasets.statistics(dataset.train)
    self.assertEqual((settled.data.mean, settled.data.std), (mean, std))
    self.assertRegex(said.getvalue(), rf'^mean and std: {mean[0]} and .*\n\Z')
    self.assertEqual(common.spec(settled, dataset).mean, mean)
    # As if they had been typed: nothing else changes, and it stays so.
    typed = fixtures.recipe(mean=mean, std=std)
    self.assertEqual(settled, typed)
    self.assertIs(common.settle_statistics(typed, dataset), typed)


class ParametersTest(absltest.TestCase):
  def test_moving_statistics_do_not_count_and_freezing_changes_nothing(self):
    model = zoo.build(
      'resnet20', layers.Spec((32, 32, 3), 10, (0.5,) * 3, (0.5,) * 3)
    )
    self.assertEqual(common.parameters(model), 272_474)
    model.trainable = False
    self.assertEqual(common.parameters(model), 272_474)


class HitsTest(absltest.TestCase):
  def test_known_value(self):
    logits = np.float32([[1, 0], [0, 1], [3, 2]])
    self.assertEqual(float(common.hits(logits, np.int64([0, 1, 1]))), 2)


if __name__ == '__main__':
  absltest.main()
