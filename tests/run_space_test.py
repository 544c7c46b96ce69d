"""What a compression is estimated to take, against what it does take."""

import os
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import errors, recipe_fit, run_dir, run_space, specs, teachers
from ft_tf.signals import cache, compiled, filling
from ft_tf.training import space
from tests import fixtures


class RunSpaceTest(parameterized.TestCase):
  def _parts(self, **values):
    recipe, dataset = fixtures.recipe(**values), fixtures.blobs()
    teacher = teachers.network(recipe, dataset, None)
    student = specs.build_student(recipe, dataset)
    fit = recipe_fit.check_parts(recipe, dataset, teacher, student)
    return fit, dataset, teacher, student

  def _check(self, path, signals=None, free=None, **values):
    fit, dataset, teacher, student = self._parts(**values)
    usage = mock.Mock(free=free if free is not None else 2**50)
    own = run_space.of_student(fit, dataset, teacher, student, signals)
    needed = [
      *run_space.of_teacher(fit.recipe, teacher, given=False, exports=True),
      *[space.of_training(own.trained, fit.recipe.student)] * 2,
      *[own.export] * 2,
    ]
    with mock.patch('shutil.disk_usage', return_value=usage):
      run_space.check(run_dir.RunDir(path), needed, [own], signals)

  @parameterized.parameters('ft+kd', 'ofd', 'sp')
  def test_teacher_outputs_are_as_wide_as_the_compiled_ones(self, method):
    fit, dataset, teacher, _ = self._parts(method=method)
    views, size = filling.estimate(fit.loss_terms, teacher, fit.recipe, dataset)
    signal = compiled.compile_signal(teacher, fit.loss_terms, 'float32')
    self.assertEqual(views, 3)
    self.assertEqual(size, cache.count_bytes(48, signal.width))

  def test_disk_that_is_too_small_is_refused_and_nothing_written(self):
    path = os.path.join(self.create_tempdir().full_path, 'run')
    with self.assertRaisesRegex(
      errors.UsageError,
      r'run will take about [\d.]+ MiB \(.*checkpoints [\d.]+ MiB.*exports '
      r'[\d.]+ MiB\).* 0\.1 MiB are free',
    ):
      self._check(path, free=100_000)
    self._check(path)
    self.assertFalse(os.path.exists(path))

  def test_cache_counts_too_and_its_limit_is_known_before(self):
    folder = self.create_tempdir().full_path
    signals = cache.Store(f'{folder}/signals', budget_gib=1.0)
    self._check(f'{folder}/run', signals)
    with self.assertRaisesRegex(errors.UsageError, 'teacher outputs .* MiB'):
      # The run alone would fit.
      self._check(f'{folder}/run', signals, free=2**21, student_epochs=9000)
    small = cache.Store(f'{folder}/signals', budget_gib=1e-6)
    with self.assertRaisesRegex(errors.UsageError, '--signal_cache_gib=1e-06'):
      self._check(f'{folder}/run', small)
    self.assertEmpty(os.listdir(folder))

  def test_students_share_the_outputs_of_equal_terms(self):
    signals = cache.Store(self.create_tempdir().full_path, budget_gib=1.0)
    kept = {}
    for method in ('ft', 'kd', 'ft+kd'):
      each = run_space.of_student(*self._parts(method=method), signals)
      kept[method] = each.signals
    self.assertEqual(kept['ft'] | kept['kd'], kept['ft+kd'])
    self.assertLen(kept['ft+kd'], 2)
    # Another paraphraser makes other factors of the same width.
    other = run_space.of_student(
      *self._parts(method='ft', paraphraser_epochs=7), signals
    )
    self.assertNoCommonElements(other.signals, kept['ft'])


if __name__ == '__main__':
  absltest.main()
