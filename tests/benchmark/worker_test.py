"""The figures with which a worker answers."""

import sys

import numpy as np
from absl.testing import absltest

from ft_tf.benchmark import jobs

# The worker with a part that takes memory in its second call alone.
_PROGRAM = """
from ft_tf.benchmark import worker
def run(count):
  if count == 2:
    bytearray(200_000_000)
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


if __name__ == '__main__':
  absltest.main()
