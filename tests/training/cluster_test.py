"""What TF_CONFIG says, what is refused, and what the chief sends."""

import json
import os
import socket
import subprocess
import textwrap
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.training import cluster, strategy, tf_config

_MANIFEST = os.path.join(
  os.path.dirname(__file__), '../../examples/kubernetes_job.yaml'
)
_TWO = ['10.0.0.1:2222', 'two.local:2222']


def _set(cluster_spec, **task):
  text = json.dumps({'cluster': cluster_spec, 'task': task})
  return mock.patch.dict(os.environ, {tf_config.VARIABLE: text})


class ReadingTest(parameterized.TestCase):
  @parameterized.parameters('', '  ', '{}', '{"cluster": {}}')
  def test_without_machines_this_one_works_alone(self, text):
    with mock.patch.dict(os.environ, {tf_config.VARIABLE: text}):
      self.assertIsNone(tf_config.read())

  def test_a_single_machine_works_alone(self):
    with _set({'worker': _TWO[:1]}, type='worker', index=0):
      self.assertIsNone(tf_config.read())

  def test_first_worker_is_the_chief(self):
    with _set({'worker': _TWO}, type='worker', index=1):
      workers = tf_config.read()
    self.assertEqual(workers.addresses, tuple(_TWO))
    self.assertEqual(workers.index, 1)
    self.assertEqual(workers.name, 'worker 1 of 2')

  def test_a_chief_of_its_own_comes_before_the_workers(self):
    spec = {'worker': _TWO, 'chief': ['10.0.0.9:1']}
    with _set(spec, type='worker', index=0):
      workers = tf_config.read()
    self.assertEqual(workers.addresses, ('10.0.0.9:1', *_TWO))
    self.assertEqual(workers.index, 1)

  @parameterized.parameters(
    ('{', 'cannot be read'),
    ('[1]', 'cannot be read'),
    ('{"cluster": {"worker": 3}}', 'cannot be read'),
    ('{"cluster": ["a:1"], "task": {}}', 'cannot be read'),
    ('{"cluster": {"worker": ["a:1", "b:1"]}}', 'of no type'),
    (
      '{"cluster": {"worker": ["a:1", "b:1"]},'
      ' "task": {"type": "worker", "index": 2}}',
      'worker 2, which its cluster does not name',
    ),
    (
      '{"cluster": {"worker": ["a:1", "a:1"]},'
      ' "task": {"type": "worker", "index": 0}}',
      'its own HOST:PORT',
    ),
    (
      '{"cluster": {"worker": ["a:1", "b:70000"]},'
      ' "task": {"type": "worker", "index": 0}}',
      'its own HOST:PORT',
    ),
    (
      '{"cluster": {"worker": ["a", "b:1"]},'
      ' "task": {"type": "worker", "index": 0}}',
      'its own HOST:PORT',
    ),
    (
      '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]},'
      ' "task": {"type": "worker", "index": 0}}',
      'the jobs ps',
    ),
  )
  def test_what_is_wrong_is_refused_in_a_line(self, text, says):
    with mock.patch.dict(os.environ, {tf_config.VARIABLE: text}):
      with self.assertRaisesRegex(errors.UsageError, says):
        tf_config.read()

  def test_a_number_of_devices_is_refused_beside_it(self):
    with _set({'worker': _TWO}, type='worker', index=0):
      with self.assertRaisesRegex(errors.UsageError, 'TF_CONFIG is set'):
        strategy.make_or_join(2, 'auto')

  def test_a_tpu_is_refused_beside_it(self):
    with _set({'worker': _TWO}, type='worker', index=0):
      with self.assertRaisesRegex(errors.UsageError, 'TF_CONFIG is set'):
        strategy.make_or_join(0, 'tpu')

  def test_a_tpu_that_is_not_there_is_refused_in_a_line(self):
    with mock.patch.dict(os.environ, {'TPU_NAME': 'none'}):
      with self.assertRaisesRegex(errors.UsageError, 'leave out --strategy'):
        strategy.make(kind='tpu')


class MeetingTest(absltest.TestCase):
  def test_workers_wait_until_all_listen(self):
    with socket.create_server(('127.0.0.1', 0)) as one:
      port = one.getsockname()[1]
    with socket.create_server(('127.0.0.1', 0)) as there:
      addresses = f'127.0.0.1:{port}', f'127.0.0.1:{there.getsockname()[1]}'
      tasks = ('worker', 0), ('worker', 1)
      tf_config.meet(tf_config.Workers(addresses, tasks, 0))
      # The port is free again, for TensorFlow.
      socket.create_server(('127.0.0.1', port)).close()

  def test_a_port_in_use_is_refused(self):
    with socket.create_server(('', 0)) as taken:
      port = taken.getsockname()[1]
      addresses = f'127.0.0.1:{port}', '127.0.0.1:1'
      tasks = ('worker', 0), ('worker', 1)
      with self.assertRaisesRegex(errors.UsageError, 'give a free port'):
        tf_config.meet(tf_config.Workers(addresses, tasks, 0))


class ManifestTest(absltest.TestCase):
  def test_each_pod_is_told_who_it_is(self):
    """Runs the start script of the job in examples/ as a pod does."""
    with open(_MANIFEST, encoding='utf-8') as file:
      text = file.read()
    script = textwrap.dedent(
      text[text.index('- |\n') + 4 : text.index('          ports:')]
    )
    folder = self.create_tempdir()
    program = folder.create_file('ft-tf', 'echo "$TF_CONFIG"\n').full_path
    os.chmod(program, 0o755)
    for index in range(3):
      ran = subprocess.run(
        ['bash', '-euc', script],
        env={
          'PATH': f'{folder.full_path}:{os.environ["PATH"]}',
          'JOB_COMPLETION_INDEX': str(index),
        },
        capture_output=True,
        text=True,
        check=True,
      )
      with mock.patch.dict(os.environ, {tf_config.VARIABLE: ran.stdout}):
        workers = tf_config.read()
      self.assertEqual(workers.index, index)
      self.assertEqual(
        workers.addresses, tuple(f'ft-tf-{i}.ft-tf:2222' for i in range(3))
      )


class AloneTest(absltest.TestCase):
  def test_a_process_that_works_alone_agrees_with_itself(self):
    self.assertTrue(cluster.is_chief())
    self.assertEqual(cluster.work_folder('runs/a'), 'runs/a')
    self.assertEqual(cluster.least(7), 7)
    self.assertTrue(cluster.any_of(True))
    self.assertFalse(cluster.any_of(False))
    self.assertEqual(cluster.from_chief(b'some'), b'some')
    cluster.finish()
    cluster.leave_if_failed(1)


if __name__ == '__main__':
  absltest.main()
