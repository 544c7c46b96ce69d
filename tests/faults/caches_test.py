"""Damaged caches: of teacher outputs, and of what a folder's images are."""

import contextlib
import io
import os
import shutil
from unittest import mock

import numpy as np
from absl.testing import absltest

from ft_tf import errors
from ft_tf.data import folder, folder_index
from ft_tf.signals import cache
from tests import image_folders
from tests.faults import storage_faults

_CASES = 20
_VIEWS = 3


class SignalsTest(absltest.TestCase):
  def _fill(self, folder):
    """Returns a filled cache's values, the computed views and what is said."""
    computed, said = [], []

    def compute(view):
      computed.append(view)
      return [np.random.default_rng(view).normal(size=(8, 4))]

    signals = cache.Store(folder).open({'key': 1}, examples=8, width=4)
    signals.fill(range(_VIEWS), compute, said.append)
    views = np.repeat(np.arange(_VIEWS), 8)
    values = signals.read(views, np.tile(np.arange(8), _VIEWS))
    return values, computed, '\n'.join(said)

  def test_damaged_view_is_computed_again_and_said(self):
    whole = self.create_tempdir().full_path
    expected, _, _ = self._fill(whole)
    rng = storage_faults.chance('signals')
    for number in range(_CASES):
      folder = storage_faults.copy(whole, f'{whole}-{number}')
      name = rng.choice(storage_faults.files(folder))
      kind = rng.choice(storage_faults.KINDS)
      storage_faults.damage(os.path.join(folder, name), kind, rng)
      with self.subTest(f'{kind} {name}'):
        values, computed, said = self._fill(folder)
        np.testing.assert_array_equal(values, expected)
        if name.endswith('.npy'):
          self.assertLen(computed, 1)
          self.assertEqual('is damaged' in said, kind != 'delete')
        else:
          self.assertEmpty(computed)
      shutil.rmtree(folder)


class IndexTest(image_folders.FolderCase):
  def test_damaged_index_is_made_again(self):
    self.enter_context(mock.patch.object(folder_index, '_SETTLED_NS', 0))
    self.fill('', 5)
    expected = self._update()
    (name,) = storage_faults.files(self.data_dir)
    path = os.path.join(self.data_dir, name)
    with open(path, 'rb') as file:
      whole = file.read()
    rng = storage_faults.chance('index')
    for number in range(_CASES):
      kind = rng.choice(storage_faults.KINDS)
      storage_faults.damage(path, kind, rng)
      with self.subTest(f'{kind} {number}'):
        try:
          self.assertEqual(self._update(), expected)
        except errors.TrainingError as error:
          self.assertEqual(kind, 'folder')
          self.assertIn(path, str(error))
          self.assertIn('move it away', str(error))
      if os.path.isdir(path):
        shutil.rmtree(path)
      with open(path, 'wb') as file:
        file.write(whole)

  def _update(self):
    """Returns the SHA-256 of each image, as an index has them."""
    with contextlib.redirect_stderr(io.StringIO()):
      index = folder_index.Index(folder.scan(self.root), self.data_dir)
      entries = index.update()
      index.save()
    return {path: entry.inspection.sha256 for path, entry in entries.items()}


if __name__ == '__main__':
  absltest.main()
