"""The cache of signals: what comes back, what is computed, what is refused."""

import multiprocessing
import os
import time

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.signals import cache

_EXAMPLES, _WIDTH = 10, 3
_KEY = {'teacher': 'a', 'views': {'pad': 4}}


def _rows(view):
  """Returns a view's rows, which say their view and example."""
  places = np.arange(_EXAMPLES)[:, None] + np.zeros(_WIDTH)
  return (100 * view + places).astype(np.float32)


class _Computer:
  """Computes views in batches of 4 and counts what it was asked for."""

  def __init__(self):
    self.views = []
    self.lines = []

  def __call__(self, view):
    self.views.append(view)
    rows = _rows(view)
    return (rows[first : first + 4] for first in range(0, _EXAMPLES, 4))

  def fill(self, store, views, key=None, **sizes):
    """Fills and returns an entry."""
    sizes = {'examples': _EXAMPLES, 'width': _WIDTH, **sizes}
    signals = store.open(key or _KEY, **sizes)
    signals.fill(views, self, self.lines.append)
    return signals


def _fill_slowly(folder, log):
  """Fills three views in another process; each takes a while."""

  def compute(view):
    with open(log, 'a', encoding='utf-8') as file:
      file.write(f'{view}\n')
    time.sleep(0.3)
    return [_rows(view)]

  signals = cache.Store(folder).open(_KEY, examples=_EXAMPLES, width=_WIDTH)
  signals.fill(range(3), compute, lambda line: None)
  for view in range(3):
    found = signals.read(np.full(_EXAMPLES, view), np.arange(_EXAMPLES))
    np.testing.assert_array_equal(found, _rows(view))


class CacheTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = os.path.join(self.create_tempdir().full_path, 'signals')
    self.computer = _Computer()

  def _file(self, view):
    (entry,) = os.listdir(self.folder)
    return os.path.join(self.folder, entry, f'view-{view:05d}.npy')

  @parameterized.parameters('memory', 'folder')
  def test_rows_come_back_in_float16_and_are_computed_once(self, where):
    store = cache.Store(self.folder if where == 'folder' else where)
    signals = self.computer.fill(store, [0, 1])
    found = signals.read(np.array([1, 0, 1]), np.array([9, 2, 0]))
    self.assertEqual((found.dtype, found.shape), (np.float16, (3, _WIDTH)))
    np.testing.assert_array_equal(found[:, 0], [109, 2, 100])
    again = self.computer.fill(store, [0, 1])
    self.assertEqual(self.computer.views, [0, 1])
    self.assertIn('all 2 views were there', self.computer.lines[-1])
    np.testing.assert_array_equal(
      again.read(np.array([1]), np.array([4])), [[104] * _WIDTH]
    )

  def test_another_process_finds_what_a_folder_holds(self):
    self.computer.fill(cache.Store(self.folder), [0, 1])
    signals = self.computer.fill(cache.Store(self.folder), [0, 1, 2])
    self.assertEqual(self.computer.views, [0, 1, 2])
    np.testing.assert_array_equal(
      signals.read(np.zeros(_EXAMPLES, int), np.arange(_EXAMPLES)), _rows(0)
    )

  @parameterized.parameters(
    ({'teacher': 'b', 'views': {'pad': 4}}, {}),
    ({'teacher': 'a', 'views': {'pad': 2}}, {}),
    ({**_KEY, 'more': 1}, {}),
  )
  def test_another_key_never_hits(self, key, sizes):
    for where in ('memory', self.folder):
      store = cache.Store(where)
      self.computer.fill(store, [0])
      self.computer.fill(store, [0], key=key, **sizes)
    self.assertEqual(self.computer.views, [0] * 4)

  @parameterized.named_parameters(
    ('empty', lambda content: b''),
    ('cut_off', lambda content: content[:-40]),
    ('cut_in_the_digest', lambda content: content[:-1]),
    ('flipped_bit', lambda c: c[:150] + bytes([c[150] ^ 1]) + c[151:]),
    ('longer', lambda content: content + b'x'),
  )
  def test_damaged_file_is_seen_and_computed_again(self, damage):
    self.computer.fill(cache.Store(self.folder), [0, 1])
    path = self._file(1)
    with open(path, 'rb') as file:
      content = file.read()
    with open(path, 'wb') as file:
      file.write(damage(content))
    signals = self.computer.fill(cache.Store(self.folder), [0, 1])
    self.assertEqual(self.computer.views, [0, 1, 1])
    self.assertIn('damaged', ' '.join(self.computer.lines))
    np.testing.assert_array_equal(
      signals.read(np.array([1]), np.array([3])), [[103] * _WIDTH]
    )
    with open(path, 'rb') as file:
      self.assertEqual(file.read(), content)

  def test_whole_file_of_another_shape_is_computed_again(self):
    self.computer.fill(cache.Store(self.folder), [0])
    cache._write(self._file(0), np.zeros((2, 2), np.float16))
    self.computer.fill(cache.Store(self.folder), [0])
    self.assertEqual(self.computer.views, [0, 0])

  def test_kill_leaves_no_view_and_the_next_goes_on_from_there(self):
    def killed(view):
      if view == 1:
        raise KeyboardInterrupt
      return self.computer(view)

    signals = cache.Store(self.folder).open(
      _KEY, examples=_EXAMPLES, width=_WIDTH
    )
    with self.assertRaises(KeyboardInterrupt):
      signals.fill([0, 1], killed, self.computer.lines.append)
    self.assertFalse(os.path.exists(self._file(1)))
    self.computer.fill(cache.Store(self.folder), [0, 1])
    self.assertEqual(self.computer.views, [0, 1])

  def test_processes_at_once_share_the_work(self):
    log = os.path.join(self.create_tempdir().full_path, 'log')
    spawn = multiprocessing.get_context('spawn')
    workers = [
      spawn.Process(target=_fill_slowly, args=(self.folder, log))
      for _ in range(2)
    ]
    for worker in workers:
      worker.start()
    for worker in workers:
      worker.join()
      self.assertEqual(worker.exitcode, 0)
    with open(log, encoding='utf-8') as file:
      self.assertEqual(sorted(file.read().split()), ['0', '1', '2'])

  @parameterized.parameters('memory', 'folder')
  def test_more_than_the_budget_is_refused_before_anything_is_done(self, where):
    view = _EXAMPLES * _WIDTH * 2
    store = cache.Store(
      self.folder if where == 'folder' else where, budget_gib=2.5 * view / 2**30
    )
    with self.assertRaisesRegex(
      errors.UsageError,
      r'--views=2 .*--signal_cache_gib=.*--signal_cache=off',
    ):
      self.computer.fill(store, [0, 1, 2])
    self.assertEmpty(self.computer.views)
    self.assertFalse(os.path.exists(self.folder))
    self.computer.fill(store, [0, 1])
    # What other keys hold counts too.
    with self.assertRaisesRegex(errors.UsageError, '--signal_cache_gib'):
      self.computer.fill(store, [0], key={'teacher': 'b'})

  def test_value_beyond_float16_is_refused(self):
    signals = cache.Store('memory').open(_KEY, examples=1, width=1)
    for value in (7e4, np.inf, np.nan):
      with self.assertRaisesRegex(
        errors.TrainingError, 'float16.*--signal_cache=off'
      ):
        signals.fill([0], lambda view, v=value: [np.float32([[v]])], print)

  def test_small_values_are_kept(self):
    rows = np.float32([[6e-8, 1e-7, 3.3e-6, 6e-5, -5e-7, 2e-8]])
    signals = cache.Store('memory').open(_KEY, examples=1, width=6)
    signals.fill([0], lambda view: [rows], print)
    found = signals.read(np.array([0]), np.array([0]))
    np.testing.assert_array_equal(found, rows.astype(np.float16))

  def test_wrong_number_of_rows_is_an_error(self):
    signals = cache.Store('memory').open(_KEY, examples=4, width=2)
    for count in (3, 5):
      with self.assertRaises(ValueError):
        signals.fill([0], lambda view, n=count: [np.zeros((n, 2))], print)

  def test_view_that_was_not_filled_is_an_error(self):
    signals = self.computer.fill(cache.Store('memory'), [0])
    with self.assertRaises(KeyError):
      signals.read(np.array([1]), np.array([0]))

  def test_folder_that_cannot_be_made_is_refused(self):
    path = self.create_tempfile().full_path
    with self.assertRaisesRegex(errors.UsageError, '--signal_cache: .*folder'):
      self.computer.fill(cache.Store(os.path.join(path, 'x')), [0])

  @parameterized.parameters(('', 8.0), ('memory', 0.0), ('memory', -1.0))
  def test_senseless_place_or_budget_is_refused(self, where, budget):
    with self.assertRaisesRegex(errors.UsageError, '--signal_cache'):
      cache.Store(where, budget_gib=budget)

  def test_off_keeps_nothing(self):
    self.assertFalse(cache.Store().enabled)
    self.assertTrue(cache.Store('memory').enabled)


if __name__ == '__main__':
  absltest.main()
