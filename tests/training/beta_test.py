"""The weight that --beta=auto gives the factor loss, and that it is kept."""

import os

from absl.testing import absltest

from ft_tf import run_dir
from tests import fixtures, student_runs


class BetaTest(student_runs.StudentCase):
  def test_beta_auto_gives_the_factor_loss_its_share_of_the_gradient(self):
    recipe = fixtures.short_recipe(
      beta='auto', beta_ratio=0.5, student_epochs=1
    )
    run, _ = self.train('a', recipe, log_steps=1)
    beta = run.read('beta.json')['factor_transfer']
    rows = run.metrics()
    for row in rows:
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + beta * row['factor_transfer'],
        places=4,
      )
    # The same student with that beta, given, has that ratio before any step.
    recipe = fixtures.short_recipe(
      beta=beta, beta_elements=0, student_epochs=1, student_learning_rate=1e-12
    )
    run, _ = self.train('b', recipe)
    ratio = run.metrics()[-1]['gradient_ratio_factor_transfer']
    self.assertAlmostEqual(ratio, 0.5, places=2)

  def test_beta_auto_is_not_measured_again_by_a_run_that_continues(self):
    run = run_dir.RunDir(os.path.join(self.runs, 'a'))
    os.makedirs(run.path)
    run.write('beta.json', 3.0)
    _, _ = self.train('a', fixtures.short_recipe(beta='auto'))
    for row in run.metrics():
      self.assertAlmostEqual(
        row['loss'],
        row['cross_entropy'] + 3 * row['factor_transfer'],
        places=4,
      )


if __name__ == '__main__':
  absltest.main()
