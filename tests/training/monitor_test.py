"""What a run keeps of its training in its folder."""

import os

import numpy as np
from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.training import monitor


class MonitorTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.run_dir = run_dir.RunDir(self.create_tempdir().full_path)
    self.run_dir.claim({'stage': 'toy', 'toy': {'beta': 3.0, 'drops': [1, 2]}})
    self.addCleanup(self.run_dir.release)

  def _monitor(self, step=0):
    return monitor.Monitor(self.run_dir, method='toy', step=step, steps=10)

  def test_continued_run_drops_later_rows_and_keeps_its_time(self):
    for step in (2, 4, 6):
      self.run_dir.append_metrics({'step': step, 'wall_seconds': 100.0 + step})
    watch = self._monitor(step=4)
    watch.row({'step': 5, 'epoch': 0.5, 'loss': 1.5})
    watch.close()
    rows = self.run_dir.metrics()
    self.assertEqual([row['step'] for row in rows], [2, 4, 5])
    self.assertBetween(rows[-1]['wall_seconds'], 104, 114)

  def test_picture_is_left_in_the_runs_folder(self):
    watch = self._monitor(step=5)
    watch.pictures(7, np.zeros((4, 4, 3), np.uint8))
    (name,) = os.listdir(self.run_dir.pictures)
    self.assertEqual(name, '0000007.png')
    with open(os.path.join(self.run_dir.pictures, name), 'rb') as file:
      self.assertStartsWith(file.read(), b'\x89PNG')


if __name__ == '__main__':
  absltest.main()
