"""The skeleton of a stage: what identifies a run, and when it is claimed."""

import os

from absl.testing import absltest

from ft_tf import errors, run_dir
from ft_tf.training import stage
from tests import fixtures


class IdentityTest(absltest.TestCase):
  def test_other_stages_numbers_do_not_count(self):
    one = stage.identity('teacher', fixtures.recipe())
    self.assertEqual(one, stage.identity('teacher', fixtures.recipe(beta=1.0)))
    other = stage.identity('teacher', fixtures.recipe(teacher_epochs=4))
    self.assertNotEqual(one, other)

  def test_content_of_a_file_counts_and_its_place_does_not(self):
    folder = self.create_tempdir()
    a, b, c = (
      stage.identity(
        'student',
        fixtures.recipe(),
        teacher=run_dir.digest(folder.create_file(name, content).full_path),
      )
      for name, content in (('a', 'x'), ('b', 'x'), ('c', 'y'))
    )
    self.assertEqual(a, b)
    self.assertNotEqual(a, c)


class ClaimTest(absltest.TestCase):
  def test_batch_that_does_not_split_is_refused_and_nothing_written(self):
    run = run_dir.RunDir(os.path.join(self.create_tempdir().full_path, 'new'))
    recipe = fixtures.recipe(batch_size=15)
    with (
      self.assertRaisesRegex(errors.UsageError, '--batch_size=15'),
      stage.claim(run, {}, fixtures.strategy(2), recipe, fixtures.blobs()),
    ):
      pass
    self.assertFalse(os.path.exists(run.path))


if __name__ == '__main__':
  absltest.main()
