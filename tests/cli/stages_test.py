"""The stages one by one, as a user runs them."""

import pytest
from absl.testing import absltest

from tests.cli import commands


class StagesTest(absltest.TestCase):
  @pytest.mark.slow
  def test_stages_one_by_one_on_two_replicas_and_export(self):
    folder = self.create_tempdir().full_path
    own = {'teacher', 'paraphraser', 'student'}

    def flags(stage):
      others = tuple(f'--{name}_' for name in own - {stage})
      kept = [
        flag
        for flag in commands.SHORT
        if not flag.startswith(others)
        and (flag.split('=')[0][2:] not in own - {stage})
      ]
      return [
        *kept,
        f'--workdir={folder}/{stage}',
        f'--data_dir={folder}/data',
        '--num_replicas=2',
      ]

    code, out, err = commands.run('train-teacher', *flags('teacher'))
    self.assertEqual(code, 0, err)
    self.assertEqual(commands.result(out)['method'], 'teacher')
    teacher = f'--teacher={folder}/teacher/model.keras'
    code, out, err = commands.run(
      'train-paraphraser', *flags('paraphraser'), teacher
    )
    self.assertEqual(code, 0, err)
    self.assertIn('reconstruction_of_mean', commands.result(out))
    code, out, err = commands.run(
      'train-student',
      *flags('student'),
      teacher,
      f'--paraphraser={folder}/paraphraser/model.keras',
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(commands.result(out)['method'], 'ft')
    code, out, err = commands.run(
      'export',
      f'--model={folder}/student/model.keras',
      '--dataset=digits',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/student',
    )
    self.assertEqual(code, 0, err)
    self.assertIn('student_int8.tflite', commands.result(out))
    with open(f'{folder}/student/export/model_card.md') as file:
      card = file.read()
    self.assertIn('**Data set**: digits', card)
    self.assertNotIn('## Teacher', card)  # The folder does not hold it.


if __name__ == '__main__':
  absltest.main()
