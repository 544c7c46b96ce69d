"""What a student knows: alignment of known features, figures of a run."""

import itertools
import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import factors, knowledge, recipes, run_dir, specs, teachers
from ft_tf.evaluation import metrics
from ft_tf.models import model_files, zoo
from ft_tf.training import loop, paraphraser, student
from tests import fixtures


class CkaTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.rng = np.random.default_rng(0)
    self.x = self.rng.normal(size=(200, 6))

  def test_rotation_scale_and_offset_change_nothing(self):
    rotation, _ = np.linalg.qr(self.rng.normal(size=(6, 6)))
    self.assertAlmostEqual(
      knowledge.cka(self.x, 3 * self.x @ rotation + 7), 1, places=6
    )

  def test_unrelated_features_are_near_zero_whatever_their_size(self):
    # The biased estimator has 0.83 here.
    one, two = self.rng.normal(size=(2, 300, 1500))
    self.assertLess(abs(knowledge.cka(one, two)), 0.02)
    # And so after ReLU, as feature maps are.
    one, two = np.maximum(one, 0), np.maximum(two, 0)
    self.assertLess(abs(knowledge.cka(one, two)), 0.02)

  def test_mean_over_unrelated_features_is_zero(self):
    # Few examples: single values are far from 0, and on both sides of it.
    values = [
      knowledge.cka(*self.rng.normal(size=(2, 8, 50))) for _ in range(1000)
    ]
    self.assertLess(abs(np.mean(values)), 0.03)
    self.assertLess(np.min(values), -0.2)

  def test_related_features_are_found_among_many_unrelated_ones(self):
    shared = self.rng.normal(size=(300, 500))
    one, two = self.rng.normal(size=(2, 300, 500))
    # HSIC is the squared norm of the covariances: 500, and 1,000 of each with
    # itself.
    found = knowledge.cka(
      np.concatenate([shared, one], axis=1),
      np.concatenate([shared, two], axis=1),
    )
    self.assertAlmostEqual(found, 0.5, delta=0.05)

  def test_value_is_that_of_the_definition(self):
    # Song et al. 2012: an average over all different i, j, q and r.
    one, two = self.rng.normal(size=(7, 2)), self.rng.normal(size=(7, 5)) ** 2

    def hsic(first, second):
      k, m = first @ first.T, second @ second.T
      return np.mean(
        [
          k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q]
          for i, j, q, r in itertools.permutations(range(7), 4)
        ]
      )

    expected = hsic(one, two) / np.sqrt(hsic(one, one) * hsic(two, two))
    self.assertAlmostEqual(knowledge.cka(one, two), expected)
    self.assertLess(abs(expected), 0.9)

  def test_known_value_when_worked_out_by_hand(self):
    # Without diagonal and with rows of sum 0, a matrix of four examples has one
    # value for each way to make two pairs of them: (-1, 2, -1) / 6 and
    # (2, -1, -1) / 6 here, of the pairs 01, 02 and 03.
    one = np.float64([[0], [1], [0], [1]])
    two = np.float64([[0], [0], [1], [1]])
    self.assertAlmostEqual(knowledge.cka(one, two), -0.5)
    self.assertAlmostEqual(knowledge.cka(one, one), 1)

  @parameterized.parameters(0.0, 0.1, -1e4)
  def test_features_that_are_all_the_same_have_nothing_in_common(self, value):
    same = np.full((200, 3), value, np.float32)
    self.assertEqual(knowledge.cka(self.x, same), 0)
    self.assertEqual(knowledge.cka(same, same), 0)

  def test_constant_elements_change_nothing(self):
    more = np.concatenate([np.full((200, 4), 1e6), self.x], axis=1)
    other = self.rng.normal(size=(200, 2)) + self.x[:, :2]
    self.assertAlmostEqual(
      knowledge.cka(more, other), knowledge.cka(self.x, other), places=6
    )

  @parameterized.parameters(1, 2, 3)
  def test_few_examples_have_no_estimate(self, count):
    self.assertIsNone(knowledge.cka(self.x[:count], self.x[:count]))

  def test_shuffled_value_is_that_of_unrelated_features(self):
    found = knowledge._alignments('it', self.x, self.x[:, :3])
    self.assertEqual(found['it'], knowledge.cka(self.x, self.x[:, :3]))
    order = np.random.default_rng(0).permutation(200)
    self.assertAlmostEqual(
      found['it_shuffled'], knowledge.cka(self.x, self.x[order, :3])
    )
    self.assertLess(abs(found['it_shuffled']), 0.05)
    self.assertGreater(found['it'], 0.5)

  def test_shapes_of_the_two_may_differ(self):
    self.assertAlmostEqual(
      knowledge.cka(self.x, self.x.reshape(200, 1, 2, 3)), 1
    )


class LookTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.run_dir = run_dir.RunDir(os.path.join(folder, 'run'))
    paths = [
      os.path.join(folder, f'{name}.keras')
      for name in ('teacher', 'paraphraser')
    ]
    keras.utils.set_random_seed(5)
    teacher = zoo.build(
      'short', specs.spec(fixtures.short_recipe(), fixtures.blobs())
    )
    teacher.save(paths[0])
    network = factors.Paraphraser(0.5)
    network.build(teacher.get_layer('group3').output.shape)
    network.save(paths[1])
    self.teacher = teachers.load(paths[0], fixtures.blobs())
    self.paraphraser = paraphraser.load(paths[1])

  def _look(self, method):
    recipe = fixtures.short_recipe(method=method)
    learned_from = {'teacher': self.teacher, 'paraphrasers': ()}
    if recipes.needs_paraphraser(method):
      learned_from['paraphrasers'] = (self.paraphraser,)
    student.train_student(
      recipe,
      fixtures.blobs(),
      run=self.run_dir,
      strategy=fixtures.strategy(),
      options=loop.Options(),
      **learned_from,
    )
    return (
      recipe,
      learned_from,
      knowledge.look(self.run_dir, recipe, fixtures.blobs(), **learned_from),
    )

  @pytest.mark.slow
  def test_figures_of_a_student_by_factor_transfer(self):
    recipe, learned_from, found = self._look('ft+kd')
    for name in ('feature_cka', 'factor_cka', 'feature_factor_cka'):
      self.assertBetween(found[name], -1, 1)
      self.assertBetween(found[f'{name}_shuffled'], -1, 1)
    self.assertBetween(found['probe_accuracy'], 0.3, 1)
    self.assertEqual(self.run_dir.read('knowledge.json'), found)
    with mock.patch.object(metrics, 'in_batches', side_effect=AssertionError):
      again = knowledge.look(
        self.run_dir, recipe, fixtures.blobs(), **learned_from
      )
    self.assertEqual(again, found)

  @parameterized.parameters('scratch', 'ofd')
  def test_without_factors_there_are_none_to_compare(self, method):
    _, _, found = self._look(method)
    self.assertEqual(
      set(found), {'feature_cka', 'feature_cka_shuffled', 'probe_accuracy'}
    )

  def test_figures_of_an_older_version_are_computed_again(self):
    older = {'feature_cka': 0.8, 'probe_accuracy': 0.5}
    learned_from = {'teacher': self.teacher, 'paraphrasers': ()}
    arguments = (self.run_dir, fixtures.short_recipe(), fixtures.blobs())
    os.makedirs(self.run_dir.path)
    with mock.patch.object(model_files, 'load', side_effect=InterruptedError):
      self.run_dir.write('knowledge.json', older)
      with self.assertRaises(InterruptedError):
        knowledge.look(*arguments, **learned_from)
      newer = {**older, 'feature_cka_shuffled': None}
      self.run_dir.write('knowledge.json', newer)
      self.assertEqual(knowledge.look(*arguments, **learned_from), newer)


if __name__ == '__main__':
  absltest.main()
