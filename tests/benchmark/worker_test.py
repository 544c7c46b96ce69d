"""The figures with which a worker answers."""

import sys

import numpy as np
from absl.testing import absltest

from ft_tf.benchmark import jobs

# The worker with a part that takes memory in its second call alone, and reads
# a file by its pages in the third.
_PROGRAM = """
import mmap, tempfile
from ft_tf.benchmark import worker
file = tempfile.TemporaryFile()
file.truncate(80_000_000)
pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
def run(count):
  if count == 2:
    bytearray(200_000_000)
  if count == 3:
    pages.find(b'x')
worker._make = lambda job: run
worker.main()
"""


class WorkerTest(absltest.TestCase):
  def test_memory_is_that_of_the_worker_alone(self):
    # Larger than the worker, which must not start with this peak.
    held = np.ones(100_000_000)
    worker = jobs.Worker(jobs.Job(name='x'), [sys.executable, '-c', _PROGRAM])
    self.addCleanup(worker.close)
    first, second = worker.run(1), worker.run(2)
    self.assertLess(first['peak_bytes'], held.nbytes)
    self.assertBetween(second['peak_bytes'] - first['peak_bytes'], 150e6, 250e6)
    self.assertLess(second['bytes'] - first['bytes'], 50e6)
    self.assertGreater(second['cpu_seconds'], 0)
    third = worker.run(3)
    self.assertBetween(third['file_bytes'] - second['file_bytes'], 75e6, 85e6)
    self.assertLess(second['file_bytes'], second['bytes'])


if __name__ == '__main__':
  absltest.main()
