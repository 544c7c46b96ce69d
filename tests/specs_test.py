"""What a network is built for, and what is counted as a parameter."""

import contextlib
import io

from absl.testing import absltest

from ft_tf import errors, specs
from ft_tf.data import example_sets
from ft_tf.models import layers, zoo
from tests import fixtures


class SpecTest(absltest.TestCase):
  def test_statistics_of_another_number_of_channels_are_refused(self):
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    with self.assertRaisesRegex(errors.UsageError, 'has 1 channels.*--mean'):
      specs.spec(recipe, fixtures.blobs())


class StatisticsTest(absltest.TestCase):
  def test_images_own_stand_where_the_recipes_cannot_apply(self):
    dataset = fixtures.blobs()
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      settled = specs.settle_statistics(recipe, dataset)
    mean, std = example_sets.statistics(dataset.train)
    self.assertEqual((settled.data.mean, settled.data.std), (mean, std))
    self.assertRegex(
      printed.getvalue(), rf'^mean and std: {mean[0]} and .*\n\Z'
    )
    self.assertEqual(specs.spec(settled, dataset).mean, mean)
    # As if they had been typed: nothing else changes, and it stays so.
    typed = fixtures.recipe(mean=mean, std=std)
    self.assertEqual(settled, typed)
    self.assertIs(specs.settle_statistics(typed, dataset), typed)


class ParametersTest(absltest.TestCase):
  def test_moving_statistics_do_not_count_and_freezing_changes_nothing(self):
    model = zoo.build(
      'resnet20', layers.Spec((32, 32, 3), 10, (0.5,) * 3, (0.5,) * 3)
    )
    self.assertEqual(specs.count_parameters(model), 272_474)
    model.trainable = False
    self.assertEqual(specs.count_parameters(model), 272_474)


if __name__ == '__main__':
  absltest.main()
