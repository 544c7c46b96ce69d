"""Free memory, and tensors of images by one copy."""

from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf.data import memory


class AvailableTest(absltest.TestCase):
  def _available(self, files, pages=2**20):
    numbers = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': pages}
    with (
      mock.patch.object(memory.os, 'sysconf', numbers.get),
      mock.patch.object(memory, '_lines', lambda path: files.get(path, [])),
    ):
      return memory.available_bytes()

  def test_available_is_the_least_of_machine_system_and_container(self):
    files = {}
    self.assertEqual(self._available(files), 2**32)
    files['/proc/meminfo'] = ['MemTotal: 9 kB\n', 'MemAvailable: 3072 kB\n']
    self.assertEqual(self._available(files), 3 * 2**20)
    files['/proc/self/statm'] = ['999 256 9 9 9 9 9\n']
    files['/sys/fs/cgroup/memory.max'] = [f'{3 * 2**20}\n']
    self.assertEqual(self._available(files), 2 * 2**20)
    files['/sys/fs/cgroup/memory.max'] = ['max\n']
    self.assertEqual(self._available(files), 3 * 2**20)

  def test_this_machine_has_free_memory(self):
    self.assertGreater(memory.available_bytes(), 2**20)


class TensorTest(absltest.TestCase):
  def test_tensor_equals_the_array_and_shares_nothing_with_it(self):
    rng = np.random.default_rng(0)
    # Contiguous or not, whatever the address.
    whole = rng.integers(256, size=(9, 5, 7, 3)).astype(np.uint8)
    for images in (whole, whole[1:], whole[::2], whole[:, :, ::-1], whole[:0]):
      wanted = images.copy()
      tensor = memory.to_tensor(images)
      images[:] = 0
      np.testing.assert_array_equal(tensor, wanted)
      np.testing.assert_array_equal(
        tf.gather(tensor, range(len(images))), wanted
      )
      whole[:] = rng.integers(256, size=whole.shape)


if __name__ == '__main__':
  absltest.main()
