"""The learning rate by step against values worked out by hand."""

import numpy as np
from absl.testing import absltest

from ft_tf import catalogue, recipes
from ft_tf.training import schedule


class RateTest(absltest.TestCase):
  def test_rate_drops_at_each_step_given(self):
    rate = schedule.Rate(1.0, drop_steps=(3, 5), drop_factor=0.1)
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(7)],
      [1, 1, 1, 0.1, 0.1, 0.01, 0.01],
      rtol=1e-6,
    )

  def test_rate_rises_linearly_when_warming_up(self):
    rate = schedule.Rate(0.4, drop_steps=(), drop_factor=0.1, warmup_steps=4)
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(6)], [0.1, 0.2, 0.3, 0.4, 0.4, 0.4]
    )

  def test_cosine_falls_from_the_warm_up_to_nothing(self):
    rate = schedule.Rate(0.2, warmup_steps=2, cosine_steps=4)
    # (1 + cos(pi s / 4)) / 2 for s = 0 .. 4, from step 2 on.
    np.testing.assert_allclose(
      [float(rate(s)) for s in range(8)],
      [0.1, 0.2, 0.2, 0.1707107, 0.1, 0.0292893, 0, 0],
      atol=1e-6,
    )

  def test_one_cycle_of_a_recipe_ends_with_its_last_step(self):
    stage = catalogue.short(catalogue.digits()).student
    rate = schedule.by_step(stage, steps_per_epoch=12.5)
    self.assertEqual((rate.warmup_steps, rate.cosine_steps), (38, 87))
    self.assertEqual(rate.drop_steps, ())
    self.assertAlmostEqual(float(rate(37)), 0.2, places=6)
    self.assertAlmostEqual(float(rate(125)), 0.0, places=6)

  def test_epochs_of_a_recipe_become_steps(self):
    stage = recipes.Teacher(
      model='resnet20', epochs=10, drop_epochs=(2, 4), warmup_epochs=0.5
    )
    rate = schedule.by_step(stage, steps_per_epoch=390.625)
    self.assertEqual(rate.drop_steps, (781, 1562))
    self.assertEqual(rate.warmup_steps, 195)


if __name__ == '__main__':
  absltest.main()
