"""Commands that are refused, then corrected in the same --workdir."""

import os
import tempfile

import pytest
from absl.testing import absltest

from tests.cli import commands

_REFUSED = (
  ('--signal_cache={folder}/s', '--signal_cache_gib=0.0000001'),
  ('--rate=0.001',),
  ('--teacher_layer=nosuch',),
  ('--student_layer=group1,group2',),
  ('--formats=nosuch',),
  ('--qat_epochs=1', '--student=nosuch'),
  ('--batch_size=1024', '--train_split=train[:0]'),
  ('--class_weights=nosuch',),
)


class RefusedTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.enter_context(tempfile.TemporaryDirectory())
    self.path = os.path.join(self.folder, 'run')

  def _run(self, command, *arguments):
    places = (f'--workdir={self.path}', f'--data_dir={self.folder}/data')
    ((code, out, err),) = commands.each(command, [*arguments, *places])
    return code, out, err

  @pytest.mark.slow
  def test_refused_compression_leaves_nothing(self):
    for refused in _REFUSED:
      flags = [each.format(folder=self.folder) for each in refused]
      with self.subTest(refused):
        code, _, err = self._run('compress', *commands.SHORT, *flags)
        self.assertEqual(code, 2, err)
        self.assertFalse(os.path.exists(self.path))

  @pytest.mark.slow
  def test_stage_whose_cache_is_too_small_leaves_nothing(self):
    code, _, err = self._run('train-teacher', *_of('teacher'))
    self.assertEqual(code, 0, err)
    given = f'{self.folder}/teacher.keras'
    os.rename(f'{self.path}/model.keras', given)
    self.path = f'{self.folder}/student'
    student = (*_of('student'), '--method=kd', f'--teacher={given}')
    cache = f'--signal_cache={self.folder}/signals'
    code, _, err = self._run(
      'train-student', *student, cache, '--signal_cache_gib=0.0000001'
    )
    self.assertEqual(code, 2, err)
    self.assertIn('--signal_cache_gib', err)
    self.assertFalse(os.path.exists(self.path))
    # Another recipe may take the folder, as nothing is in it.
    code, _, err = self._run('train-student', *student, cache, '--views=1')
    self.assertEqual(code, 0, err)

  @pytest.mark.slow
  def test_correction_after_the_teacher_continues_with_it(self):
    # Together with what others keep there the signals are over the limit,
    # which shows when the teacher is trained.
    signals = f'{self.folder}/signals'
    os.mkdir(signals)
    with open(f'{signals}/other.npy', 'wb') as file:
      file.write(b'x' * 2**20)
    cache = (f'--signal_cache={signals}', '--signal_cache_gib=0.0009')
    command = (*commands.SHORT, *cache)
    code, _, err = self._run('compress', *command)
    self.assertEqual(code, 2, err)
    self.assertIn('--signal_cache_gib=', err)
    with open(f'{self.path}/teacher/model.keras', 'rb') as file:
      teacher = file.read()
    code, _, err = self._run('compress', *command, '--teacher_epochs=3')
    self.assertEqual(code, 2, err)
    self.assertRegex(err, 'teacher.epochs: 2 saved, 3 given')
    code, _, err = self._run(
      'compress', *command, '--signal_cache_gib=1', '--student_epochs=1'
    )
    self.assertEqual(code, 0, err)
    self.assertNotRegex(err, 'teacher  (compiling|epoch)')
    with open(f'{self.path}/teacher/model.keras', 'rb') as file:
      self.assertEqual(file.read(), teacher)


def _of(stage: str) -> list[str]:
  """Returns the flags of a compression of seconds that a stage has."""
  others = {'teacher', 'paraphraser', 'student'} - {stage}
  left_out = tuple(f'--{name}{end}' for name in others for end in ('=', '_'))
  return [flag for flag in commands.SHORT if not flag.startswith(left_out)]


if __name__ == '__main__':
  absltest.main()
