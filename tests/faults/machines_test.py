"""Several machines, as processes that reach each other by the loopback."""

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import time

import numpy as np
import pytest
from absl.testing import absltest

from ft_tf.models import model_files
from tests.faults import commands

# 96 images a step, which one, two and three machines can share. The learning
# rate is low, so that rounding does not grow.
_COMMAND = (
  'train-teacher',
  '--recipe=digits',
  '--teacher=short-wide',
  '--batch_size=96',
  '--teacher_learning_rate=0.001',
  '--teacher_drop_epochs=',
  '--sync_batch_norm',
  '--log_steps=1',
  '--checkpoint_steps=4',
)
_SECONDS = 300


def _ports(count):
  """Returns ports that are free."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [each.getsockname()[1] for each in sockets]


def _start(count, workdir, data_dir, *flags):
  """Starts the command on some machines, which share the folders."""
  addresses = [f'127.0.0.1:{port}' for port in _ports(count)]
  return [
    commands.start(
      *_COMMAND,
      f'--workdir={workdir}',
      f'--data_dir={data_dir}',
      *flags,
      TF_CONFIG=json.dumps(
        {
          'cluster': {'worker': addresses},
          'task': {'type': 'worker', 'index': index},
        }
      ),
    )
    for index in range(count)
  ]


def _end(processes):
  """Returns exit code and what was said, of each."""
  said = [process.communicate(timeout=_SECONDS)[1] for process in processes]
  for each in said:
    assert 'Traceback' not in each, each
  codes = [process.returncode for process in processes]
  return list(zip(codes, said, strict=True))


def _wait_for_step(folder, step):
  end = time.monotonic() + _SECONDS
  while time.monotonic() < end:
    rows = commands.rows(folder)
    if rows and rows[-1]['step'] >= step:
      return
    time.sleep(0.05)
  raise AssertionError(f'no step {step} in {folder}')


def _weights(folder):
  return model_files.load(os.path.join(folder, 'model.keras')).get_weights()


@pytest.mark.slow
class MachinesTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.data = os.path.join(self.folder, 'data')

  def _train_alone(self, *flags):
    folder = os.path.join(self.folder, 'alone')
    process = commands.start(
      *_COMMAND, f'--workdir={folder}', f'--data_dir={self.data}', *flags
    )
    ((code, said),) = _end([process])
    self.assertEqual(code, 0, said)
    return folder

  def test_two_and_three_train_as_one_does(self):
    flags = ('--teacher_epochs=2',)
    alone = self._train_alone(*flags)
    for count in (2, 3):
      folder = os.path.join(self.folder, f'of-{count}')
      ended = _end(_start(count, folder, self.data, *flags))
      self.assertEqual([code for code, _ in ended], [0] * count, ended)
      for _, said in ended[1:]:
        self.assertIn('is done; the chief', said)
      losses = [
        [row['loss'] for row in commands.rows(each)] for each in (alone, folder)
      ]
      np.testing.assert_allclose(*losses, rtol=1e-3)
      for one, other in zip(_weights(alone), _weights(folder), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
      # The chief wrote, and no other: a file of events is of one process.
      events = glob.glob(os.path.join(folder, 'tensorboard', '*'))
      self.assertLen(events, 1)
      with open(os.path.join(folder, 'environment.json')) as file:
        self.assertLen(json.load(file), 1)

  def test_killed_worker_stops_all_and_the_same_command_continues(self):
    flags = ('--teacher_epochs=60',)
    folder = os.path.join(self.folder, 'killed')
    processes = _start(2, folder, self.data, *flags)
    _wait_for_step(folder, 6)
    processes[1].kill()
    killed = time.monotonic()
    (code, said), _ = _end(processes)
    self.assertLess(time.monotonic() - killed, 60)
    self.assertEqual(code, 1)
    self.assertRegex(
      said.strip().splitlines()[-1],
      r'^ft-tf train-teacher: worker 1 \(127\.0\.0\.1:\d+\) is gone: see what '
      r'it says, then give the same command on all workers again',
    )
    # Its own end is no reason to lose a step: as if it had never begun.
    kept = os.path.join(self.folder, 'kept')
    shutil.copytree(folder, kept)
    processes = _start(2, folder, self.data, *flags)
    begun = len(commands.rows(kept))
    _wait_for_step(folder, begun + 20)
    processes[1].send_signal(signal.SIGTERM)
    (code, said), (other, told) = _end(processes)
    self.assertEqual((code, other), (1, 143))
    last = said.strip().splitlines()[-1]
    self.assertRegex(last, r'a signal has stopped another worker at step \d+')
    self.assertIn('stopped by SIGTERM at step', told)
    stopped_at = int(last.split('at step ')[1].split()[0])
    steps = [row['step'] for row in commands.rows(folder)]
    self.assertEqual(steps, list(range(1, steps[-1] + 1)))
    self.assertGreaterEqual(stopped_at, steps[-1])

  def test_worker_that_waits_for_the_others_ends_by_a_signal(self):
    folder = os.path.join(self.folder, 'never')
    port, other = _ports(2)
    addresses = [f'127.0.0.1:{other}', f'127.0.0.1:{port}']
    cluster = {'worker': addresses}
    process = commands.start(
      *_COMMAND,
      f'--workdir={folder}',
      f'--data_dir={self.data}',
      TF_CONFIG=json.dumps(
        {'cluster': cluster, 'task': {'type': 'worker', 'index': 1}}
      ),
    )
    assert process.stderr is not None
    for line in process.stderr:
      if 'worker 1 of 2 waits for' in line:
        break
    process.send_signal(signal.SIGTERM)
    ((code, said),) = _end([process])
    self.assertEqual(code, 143)
    self.assertIn('stopped by SIGTERM', said)
    self.assertFalse(os.path.exists(folder))

  def test_resumed_equals_uninterrupted(self):
    flags = ('--teacher_epochs=3',)
    whole = os.path.join(self.folder, 'whole')
    ended = _end(_start(2, whole, self.data, *flags))
    self.assertEqual([code for code, _ in ended], [0, 0], ended)
    cut = os.path.join(self.folder, 'cut')
    processes = _start(2, cut, self.data, *flags)
    _wait_for_step(cut, 5)
    processes[0].kill()  # the chief
    _end(processes)
    ended = _end(_start(2, cut, self.data, *flags))
    self.assertEqual([code for code, _ in ended], [0, 0], ended)
    for one, other in zip(_weights(whole), _weights(cut), strict=True):
      np.testing.assert_array_equal(one, other)


if __name__ == '__main__':
  absltest.main()
