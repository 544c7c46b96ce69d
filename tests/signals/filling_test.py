"""Kept signals: who takes them, and that a student learns the same."""

import contextlib
import io
import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest

from ft_tf.signals import cache
from ft_tf.training import loop, paraphraser
from tests import fixtures, student_runs


class FillingTest(student_runs.StudentCase):
  store = None

  def _signals(self, recipe, store):
    """Returns what is said while signals are kept; nothing is trained."""
    with (
      mock.patch.object(loop, 'run', side_effect=KeyboardInterrupt),
      contextlib.redirect_stderr(io.StringIO()) as said,
      self.assertRaises(KeyboardInterrupt),
    ):
      number = len(os.listdir(self.runs))
      self.train(f'signals-{number}', recipe, store)
    return said.getvalue()

  def _store_of_one_view(self):
    """Returns a store with the signals of the plain recipe, and of others."""
    if self.store is None:
      type(self).store = cache.Store('memory')
      self._signals(fixtures.short_recipe(views=1), self.store)
    return self.store

  @pytest.mark.slow
  def test_kept_signals_serve_later_epochs_and_seeds(self):
    recipe = fixtures.short_recipe(views=2)
    _, alone = self.train('alone', recipe)
    said = io.StringIO()
    store = cache.Store(os.path.join(self.runs, 'signals'))
    with contextlib.redirect_stderr(said):
      _, kept = self.train('kept', recipe, store)
    self.assertIn('signals: view 1, 2 of 2', said.getvalue())
    self.assertAlmostEqual(kept['loss'], alone['loss'], places=2)
    # Other seeds and lengths, another process: nothing is computed again.
    store = cache.Store(os.path.join(self.runs, 'signals'))
    said = self._signals(fixtures.short_recipe(views=2, seed=1), store)
    self.assertIn('all 2 views were there', said)

  @pytest.mark.slow
  def test_kept_signals_reach_to_the_end_of_the_last_batch(self):
    # 3 epochs of 48 images are 7.2 batches of 20: the last is full.
    recipe = fixtures.short_recipe(batch_size=20)
    _, result = self.train('kept', recipe, cache.Store('memory'))
    self.assertEqual(result['steps'], 8)

  def test_signals_of_another_setting_are_not_taken(self):
    store = self._store_of_one_view()
    for changes in (
      {'view_seed': 1},
      {'pad': 2},
      {'flip': True},
      {'precision': 'mixed_bfloat16'},
      {'rand_augment_magnitude': 9.0},
      {'mixup_alpha': 0.2},
    ):
      with self.subTest(**changes):
        said = self._signals(fixtures.short_recipe(views=1, **changes), store)
        self.assertIn('signals: view 0, 1 of 1', said)
    said = self._signals(fixtures.short_recipe(views=1), store)
    self.assertIn('all 1 views were there', said)

  def test_signals_of_another_teacher_are_not_taken(self):
    store = self._store_of_one_view()
    net = keras.models.load_model(self.teacher)
    net.get_layer('conv').kernel.assign_add(
      0.01 * np.ones(net.get_layer('conv').kernel.shape)
    )
    path = os.path.join(self.runs, 'teacher.keras')
    net.save(path)
    with mock.patch.object(type(self), 'teacher', path):
      said = self._signals(fixtures.short_recipe(views=1), store)
    self.assertIn('signals: view 0, 1 of 1', said)

  @pytest.mark.slow
  def test_signals_of_several_layers_are_kept_apart(self):
    recipe = fixtures.short_recipe(
      teacher_layer='-2,auto', student_layer='-2,auto', views=1
    )
    paths = self.paraphrasers('group2', 'group3')
    kept, _ = self.train(
      'kept', recipe, cache.Store('memory'), paraphrasers=paths
    )
    live, _ = self.train('live', recipe, paraphrasers=paths)
    for name in ('factor_transfer_1', 'factor_transfer_2'):
      ours, theirs = kept.metrics()[0][name], live.metrics()[0][name]
      self.assertAlmostEqual(ours / theirs, 1, delta=1e-3)

  def test_terms_that_methods_share_are_computed_once(self):
    store = cache.Store('memory')
    said = {}
    for method in ('ft', 'kd', 'ft+kd', 'dkd'):
      said[method] = self._signals(
        fixtures.short_recipe(method=method, views=1), store
      )
    for method, computed in (('ft', 1), ('kd', 1), ('ft+kd', 0), ('dkd', 0)):
      self.assertEqual(said[method].count('1 of 1'), computed, method)
    self.assertEqual(said['ft+kd'].count('were there'), 2)

  @pytest.mark.slow
  def test_signals_are_kept_of_images_without_labels_too(self):
    dataset = fixtures.blobs_and_unlabelled()
    recipe = fixtures.short_recipe(views=1, method='ft+kd')
    kept, _ = self.train('kept', recipe, cache.Store('memory'), dataset=dataset)
    live, _ = self.train('live', recipe, dataset=dataset)
    for ours, theirs in zip(kept.metrics(), live.metrics(), strict=True):
      for name in ('factor_transfer', 'kd', 'cross_entropy'):
        self.assertAlmostEqual(ours[name] / theirs[name], 1, delta=0.02)

  def test_kept_signals_of_mixed_images_give_the_same_loss(self):
    recipe = fixtures.short_recipe(
      views=2,
      method='ft+kd',
      student_epochs=1,
      **fixtures.AUGMENTED,
    )
    dataset = fixtures.blobs_and_unlabelled(23)
    kept, _ = self.train('kept', recipe, cache.Store('memory'), dataset=dataset)
    live, _ = self.train('live', recipe, dataset=dataset)
    for ours, theirs in zip(kept.metrics(), live.metrics(), strict=True):
      for name in ('factor_transfer', 'kd', 'cross_entropy'):
        self.assertAlmostEqual(ours[name] / theirs[name], 1, delta=0.02)

  def test_paraphraser_that_is_loaded_again_is_known_by_its_file(self):
    # The shared program has the paraphraser of an earlier student.
    recipe = fixtures.short_recipe(views=1)
    self._signals(recipe, self._store_of_one_view())
    load = staticmethod(paraphraser.load)
    with mock.patch.object(type(self), '_load_paraphraser', load):
      said = self._signals(recipe, self.store)
    self.assertIn('all 1 views were there', said)

  def test_signals_serve_students_of_every_image_size(self):
    said = self._signals(
      fixtures.short_recipe(views=1, student_image_size=7),
      self._store_of_one_view(),
    )
    self.assertIn('all 1 views were there', said)


if __name__ == '__main__':
  absltest.main()
