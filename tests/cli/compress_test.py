"""`ft-tf compress` as a user runs it: files, JSON, a kill, a second run."""

import json
import os
import signal
import time

import pytest
from absl.testing import absltest

from tests.cli import commands


class CompressTest(absltest.TestCase):
  @pytest.mark.slow
  def test_whole_way_leaves_the_contract_and_runs_once(self):
    folder = self.create_tempdir().full_path
    workdir, data = (os.path.join(folder, name) for name in ('run', 'data'))
    command = (*commands.TINY, f'--workdir={workdir}', f'--data_dir={data}')
    code, out, err = commands.run_process('compress', *command, '--baseline')
    self.assertEqual(code, 0, err)
    result = commands.result(out)
    self.assertEqual((result['method'], result['seed']), ('ft', 0))
    self.assertEqual(
      [row['method'] for row in result['table']], ['teacher', 'scratch', 'ft']
    )
    for row in result['table']:
      self.assertGreater(row['tflite_bytes'], row['tflite_int8_bytes'])
    # JSON alone goes to a pipe; a person reads the table.
    self.assertLen(out.splitlines(), 1)
    self.assertIn('\nstudent, factor transfer  ', err)
    for name in (
      'recipe.json',
      'result.json',
      'report.html',
      'teacher/model.keras',
      'paraphraser/model.keras',
      'student/model.keras',
      'student/metrics.jsonl',
      'student/checkpoints/checkpoint',
      'student/tensorboard',
      'export/saved_model/saved_model.pb',
      'export/student_int8.tflite',
      'export/labels.txt',
      'export/model_card.md',
    ):
      self.assertTrue(os.path.exists(os.path.join(workdir, name)), name)

    code, out, err = commands.run('compress', *command, '--baseline')
    self.assertEqual(code, 0, err)
    self.assertIn('is complete', err)
    self.assertEqual(commands.result(out), result)

    code, out, err = commands.run(
      'compress', *command, '--baseline', '--beta=3'
    )
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, r'student\.beta: 60\.0 saved, 3\.0 given')

    for code, out, err in commands.each(
      'evaluate',
      *(
        [
          f'--model={workdir}/export/{name}',
          '--dataset=digits',
          f'--data_dir={data}',
          '--split=test[:64]',
        ]
        for name in ('saved_model', 'student_fp32.tflite', 'student.keras')
      ),
    ):
      self.assertEqual(code, 0, err)
      scores = commands.result(out)
      self.assertEqual(scores['examples'], 64)
      self.assertAlmostEqual(scores['accuracy'], result['accuracy'])
      self.assertAlmostEqual(scores['loss'], result['loss'], places=4)

  @pytest.mark.slow
  def test_killed_run_continues_from_its_checkpoint_and_ends(self):
    folder = self.create_tempdir().full_path
    command = (
      *commands.SHORT,
      '--student_epochs=40',
      '--checkpoint_steps=4',
      f'--workdir={folder}/run',
      f'--data_dir={folder}/data',
    )
    process = commands.start('compress', *command)
    checkpoints = os.path.join(folder, 'run', 'student', 'checkpoints')
    deadline = time.monotonic() + 300
    while not os.path.exists(os.path.join(checkpoints, 'checkpoint')):
      self.assertIsNone(process.poll(), 'ended before it could be killed')
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    self.assertFalse(os.path.exists(f'{folder}/run/result.json'))

    code, out, err = commands.run('compress', *command)
    self.assertEqual(code, 0, err)
    self.assertRegex(err, r'student .*: continues at step \d+ of 80')
    # What was complete is not trained again.
    self.assertNotRegex(err, 'teacher  (compiling|epoch)')
    self.assertEqual(commands.result(out)['steps'], 80)
    with open(f'{folder}/run/student/metrics.jsonl') as file:
      steps = [json.loads(line)['step'] for line in file]
    self.assertEqual(steps, list(range(1, 81)))


if __name__ == '__main__':
  absltest.main()
