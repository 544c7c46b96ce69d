"""What a student knows: alignment of known features, figures of a run."""

import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import evaluation, factors, knowledge, run_dir
from ft_tf.models import zoo
from ft_tf.training import common, loop, student
from tests import fixtures


class CkaTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(0)
    self.x = self.rng.normal(size=(200, 6))

  def test_rotation_scale_and_offset_change_nothing(self):
    rotation, _ = np.linalg.qr(self.rng.normal(size=(6, 6)))
    self.assertAlmostEqual(
      knowledge.cka(self.x, 3 * self.x @ rotation + 7), 1, places=6
    )

  def test_unrelated_features_are_near_zero(self):
    other = self.rng.normal(size=(200, 6))
    self.assertLess(knowledge.cka(self.x, other), 0.1)

  def test_known_value_when_worked_out_by_hand(self):
    # Centred (-1, 0, 1) and (1, -2, 1)/..: orthogonal; with itself 1.
    one = np.float64([[-1], [0], [1]])
    two = np.float64([[1], [-2], [1]])
    self.assertAlmostEqual(knowledge.cka(one, two), 0)
    # Half of two equal parts: <G1, G2> / |G1| |G2| = 1 / sqrt 2.
    both = np.concatenate([one / np.sqrt(2), two / np.sqrt(6)], axis=1)
    self.assertAlmostEqual(knowledge.cka(one, both), 1 / np.sqrt(2))

  def test_features_that_are_all_the_same_have_nothing_in_common(self):
    self.assertEqual(knowledge.cka(self.x, np.ones((200, 3))), 0)

  def test_shapes_of_the_two_may_differ(self):
    self.assertAlmostEqual(
      knowledge.cka(self.x, self.x.reshape(200, 1, 2, 3)), 1
    )


class LookTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.run_dir = run_dir.RunDir(os.path.join(folder, 'run'))
    self.teacher = os.path.join(folder, 'teacher.keras')
    self.paraphraser = os.path.join(folder, 'paraphraser.keras')
    keras.utils.set_random_seed(5)
    teacher = zoo.build(
      'resnet8x0.25', common.spec(fixtures.recipe(), fixtures.blobs())
    )
    teacher.save(self.teacher)
    paraphraser = factors.Paraphraser(0.5)
    paraphraser.build(teacher.get_layer('group3').output.shape)
    paraphraser.save(self.paraphraser)

  def _look(self, method):
    recipe = fixtures.recipe(method=method)
    files = {'teacher': self.teacher, 'paraphrasers': (self.paraphraser,)}
    student.train_student(
      recipe,
      fixtures.blobs(),
      run=self.run_dir,
      strategy=fixtures.strategy(),
      options=loop.Options(),
      **files,
    )
    return (
      recipe,
      files,
      knowledge.look(self.run_dir, recipe, fixtures.blobs(), **files),
    )

  @pytest.mark.slow
  def test_figures_of_a_student_by_factor_transfer(self):
    recipe, files, found = self._look('ft+kd')
    for name in ('feature_cka', 'factor_cka', 'feature_factor_cka'):
      self.assertBetween(found[name], 0, 1)
    self.assertBetween(found['probe_accuracy'], 0.3, 1)
    self.assertEqual(self.run_dir.read('knowledge.json'), found)
    with mock.patch.object(
      evaluation, 'in_batches', side_effect=AssertionError
    ):
      again = knowledge.look(self.run_dir, recipe, fixtures.blobs(), **files)
    self.assertEqual(again, found)

  @parameterized.parameters('scratch', 'ofd')
  def test_without_factors_there_are_none_to_compare(self, method):
    _, _, found = self._look(method)
    self.assertEqual(set(found), {'feature_cka', 'probe_accuracy'})


if __name__ == '__main__':
  absltest.main()
