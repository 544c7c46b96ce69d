"""A disk that is full, or read-only: a line, no scraps, and the run goes on.

The small disk is a tmpfs, which only root can mount.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, run_dir, storage
from ft_tf.signals import cache
from ft_tf.training import space
from tests.faults import small_stage, storage_faults

_SIZES = 24
_REFUSALS = {
  errno.ENOSPC: 'free some space',
  errno.EDQUOT: 'free some space',
  errno.EROFS: 'make it writable',
  errno.EACCES: 'make it accessible',
}
_PLACES = {
  'os.fsync': 'os.fsync',
  'os.replace': 'os.replace',
  'model.save': 'keras.Model.save',
  'checkpoint': 'tensorflow.train.CheckpointManager.save',
}


@contextlib.contextmanager
def small_disk(kib):
  """Yields a folder on a disk of a size, and a function that changes it."""
  folder = tempfile.mkdtemp(prefix='ft_tf_disk_')
  mounted = False

  def mount(options):
    return subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder],
      capture_output=True,
      check=False,
    )

  try:
    mounted = shutil.which('mount') and not mount(f'size={kib}k').returncode
    if not mounted:
      pytest.skip('no tmpfs can be mounted here')
    yield folder, lambda size: mount(f'remount,size={size}k')
  finally:
    if mounted:
      subprocess.run(['umount', '-l', folder], check=True)
    os.rmdir(folder)


class RaisedTest(parameterized.TestCase):
  """Errors as the system raises them, at each call that writes."""

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'run')

  @parameterized.parameters(
    (errno.ENOSPC, 'model.save'),
    (errno.ENOSPC, 'checkpoint'),
    (errno.EROFS, 'os.fsync'),
  )
  def test_refusal_is_a_line_and_the_same_call_ends(self, code, place):
    self._ends_in_a_line(code, place)

  @parameterized.product(code=list(_REFUSALS), place=list(_PLACES))
  @pytest.mark.slow
  def test_every_refusal_at_every_place(self, code, place):
    self._ends_in_a_line(code, place)

  def _ends_in_a_line(self, code, place):
    error = OSError(code, os.strerror(code))
    if place == 'checkpoint':
      error = tf.errors.ResourceExhaustedError(
        None,
        None,
        f'{self._path}/checkpoints/ckpt-2_temp/part; {os.strerror(code)}',
      )
    with (
      self.assertRaises(storage.StorageError) as caught,
      mock.patch(_PLACES[place], side_effect=error),
    ):
      small_stage.run_stage(self._path)
    message = str(caught.exception)
    self.assertStartsWith(message, f'cannot write {self._path}')
    self.assertEndsWith(
      message,
      f'({os.strerror(code)}): {_REFUSALS[code]}; the same command continues',
    )
    self.assertNotIn('writing-', str(storage_faults.files(self._path)))
    self.assertEqual(small_stage.run_stage(self._path)['steps'], 9)

  def test_what_is_no_fault_of_the_disk_stays_as_it_is(self):
    for error in (
      KeyError('x'),
      ValueError('no such layer'),
      PermissionError(errno.EACCES, 'Permission denied', '/elsewhere/a.png'),
    ):
      with self.assertRaises(type(error)):
        with run_dir.RunDir(self._path).held({'seed': 0}):
          raise error

  def test_cause_is_found_behind_other_errors(self):
    with self.assertRaisesRegex(storage.StorageError, 'No space left'):
      with storage.explained(self._path):
        try:
          raise OSError(errno.ENOSPC, 'No space left on device')
        finally:
          raise ValueError("Can't close the ZIP file")


class CacheTest(absltest.TestCase):
  def test_cache_that_is_full_is_a_failed_run(self):
    folder = self.create_tempdir().full_path
    signals = cache.Store(folder).open({'key': 1}, examples=4, width=2)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
      self.assertRaisesRegex(
        storage.StorageError, 'view-00000.npy .*free some'
      ),
      mock.patch('os.replace', side_effect=[None, full]),
    ):
      signals.fill([0], lambda view: [np.ones((4, 2))], print)


class EstimateTest(absltest.TestCase):
  def test_run_that_does_not_fit_is_refused_with_numbers(self):
    path = os.path.join(self.create_tempdir().full_path, 'new')
    free = shutil.disk_usage(os.path.dirname(path)).free
    with self.assertRaisesRegex(
      errors.UsageError,
      r'new will take about .* \(checkpoints .* GiB, models .*\), of which .* '
      r'not written yet, and .* free on its disk: free some space, or',
    ):
      space.check({path: {'checkpoints': free, 'models': 2**30}})
    self.assertFalse(os.path.exists(path))

  def test_what_is_written_already_is_not_asked_for_again(self):
    folder = self.create_tempdir()
    folder.create_file('ckpt', 'x' * 10_000)
    usage = mock.Mock(free=5_000)
    with mock.patch('shutil.disk_usage', return_value=usage):
      space.check({folder.full_path: {'checkpoints': 14_000}})
      with self.assertRaisesRegex(errors.UsageError, 'will take about'):
        space.check({folder.full_path: {'checkpoints': 16_000}})

  def test_folders_of_one_disk_share_its_space(self):
    folder = self.create_tempdir().full_path
    usage = mock.Mock(free=5_000)
    parts = {f'{folder}/{name}': {name: 3_000} for name in ('run', 'signals')}
    with mock.patch('shutil.disk_usage', return_value=usage):
      with self.assertRaisesRegex(errors.UsageError, 'signals will take'):
        space.check(parts)

  def test_adam_and_an_average_take_more(self):
    recipe = small_stage.SmallStage().recipe.student
    plain = space.of_training(100, recipe)
    self.assertEqual(plain, {'checkpoints': 400, 'models': 200})
    self.assertEqual(
      space.total([plain, plain, space.of_export(100)]),
      {'checkpoints': 1000, 'models': 400, 'exports': 500},
    )


class SmallDiskTest(absltest.TestCase):
  """Every size of disk up to one that fits, the estimate left out."""

  @pytest.mark.slow
  def test_run_ends_in_a_line_and_continues_with_more_space(self):
    whole = self.create_tempdir().full_path
    small_stage.run_stage(whole)
    taken = storage.size(whole) // 1024
    rng = storage_faults.chance('disk')
    failed = 0
    for _ in range(_SIZES):
      kib = rng.randint(8, taken)
      with self.subTest(kib), small_disk(kib) as (disk, resize):
        path = os.path.join(disk, 'run')
        with mock.patch('ft_tf.training.space.check'):
          try:
            small_stage.run_stage(path)
          except storage.StorageError as error:
            failed += 1
            self.assertRegex(
              str(error), rf'cannot write {path}.*No space left.*free some'
            )
            self.assertNotIn('\n', str(error))
            self.assertNotIn('writing-', str(storage_faults.files(disk)))
        resize(2 * taken + 1024)
        small_stage.run_stage(path)
        for a, b in zip(
          small_stage.weights(path), small_stage.weights(whole), strict=True
        ):
          np.testing.assert_array_equal(a, b)
    self.assertGreater(failed, 0)


if __name__ == '__main__':
  absltest.main()
