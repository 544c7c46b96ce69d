"""Jobs in worker processes: their order, and errors of dead processes."""

import sys
from unittest import mock

from absl.testing import absltest

from ft_tf import errors
from ft_tf.benchmark import jobs

_FAKE = """
import json, sys
job = json.loads(sys.stdin.readline())
for line in sys.stdin:
  if job['part'] == 'dies' and int(line) > 1:
    sys.exit('out of\\npaper')
  with open({log!r}, 'a') as file:
    print(job['name'], line.strip(), file=file)
  times = {{'seconds': 0.5, 'cpu_seconds': 0.9}}
  memory = {{'peak_bytes': 7, 'bytes': 5, 'file_bytes': 3}}
  print(json.dumps(times | memory), flush=True)
"""


class JobsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.log = self.create_tempfile().full_path
    self.command = [sys.executable, '-c', _FAKE.format(log=self.log)]

  def _measure(self, *to_measure, **sizes):
    start = jobs.Worker.__init__
    with mock.patch.object(
      jobs.Worker,
      '__init__',
      lambda worker, job: start(worker, job, self.command),
    ):
      return jobs.measure(to_measure, **sizes)

  def test_jobs_take_turns_after_a_warm_up(self):
    measured = self._measure(
      jobs.Job(name='a', batch_size=8),
      jobs.Job(name='b', batch_size=4),
      rounds=2,
      steps=3,
    )
    with open(self.log, encoding='utf-8') as file:
      turns = file.read().splitlines()
    self.assertEqual(turns, ['a 1', 'b 1'] + ['a 3', 'b 3'] * 3)
    # 3 steps of 8 images in half a second.
    self.assertEqual(measured['a']['images_per_second'], [48.0, 48.0])
    self.assertEqual(measured['b']['images_per_second'], [24.0, 24.0])
    self.assertEqual(measured['a']['cpu_seconds'], [0.9 / 3] * 2)
    self.assertEqual(measured['a']['peak_bytes'], 7)
    self.assertEqual(measured['a']['file_bytes'], 3)

  def test_dead_process_is_reported_and_the_others_continue(self):
    measured = self._measure(
      jobs.Job(name='weak', part='dies'),
      jobs.Job(name='strong'),
      rounds=2,
      steps=3,
    )
    self.assertRegex(measured['weak']['error'], r'weak ended .*out of \| paper')
    self.assertLen(measured['strong']['images_per_second'], 2)

  def test_dead_worker_raises(self):
    worker = jobs.Worker(
      jobs.Job(name='gone'), [sys.executable, '-c', 'raise SystemExit(3)']
    )
    self.addCleanup(worker.close)
    with self.assertRaisesRegex(errors.TrainingError, 'gone ended with code 3'):
      for _ in range(2):
        worker.run(1)


if __name__ == '__main__':
  absltest.main()
