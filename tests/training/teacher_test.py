"""The teacher's stage learns."""

from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.training import loop, teacher
from tests import fixtures


class TrainTeacherTest(absltest.TestCase):
  def test_loss_halves_and_the_test_images_are_told_apart(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    result = teacher.train_teacher(
      fixtures.recipe(teacher_epochs=15, teacher_drop_epochs=(10,)),
      fixtures.blobs(),
      run=run,
      strategy=fixtures.strategy(),
      options=loop.Options(log_steps=3),
    )
    rows = run.metrics()
    self.assertLess(rows[-1]['loss'], rows[0]['loss'] / 2)
    self.assertGreater(result['accuracy'], 0.8)
    self.assertEqual(result['method'], 'teacher')

  def test_two_replicas_equal_one_when_batch_norm_is_synchronised(self):
    results = [
      teacher.train_teacher(
        fixtures.recipe(teacher_epochs=1, sync_batch_norm=True),
        fixtures.blobs(),
        run=run_dir.RunDir(self.create_tempdir().full_path),
        strategy=fixtures.strategy(replicas),
        options=loop.Options(),
      )
      for replicas in (1, 2)
    ]
    # Three steps: float32 sums in another order grow through batch norm.
    self.assertAlmostEqual(results[0]['loss'], results[1]['loss'], delta=2e-3)


if __name__ == '__main__':
  absltest.main()
