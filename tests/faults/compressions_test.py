"""Damaged files of whole compressions, by the command as a user runs it."""

import contextlib
import io
import json
import os
import tempfile
import traceback

import pytest
from absl.testing import absltest

from ft_tf.cli import dispatch
from tests.cli import commands
from tests.faults import storage_faults

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '12'))
# Figures of a clock, and pages with them.
_TIMED = ('wall_seconds', 'table')
_UNEXPECTED = 'unexpected'


def run(*arguments: str) -> tuple[int | str, str]:
  """Returns what a compression ends with, and what it says."""
  said = io.StringIO()
  with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
    try:
      code = dispatch.run('compress', arguments, name='ft-tf compress')
    except Exception:
      traceback.print_exc()
      code = _UNEXPECTED
  return code, said.getvalue()


class CompressionTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.path = os.path.join(cls.folder, 'run')
    cls.command = (
      *commands.SHORT,
      '--checkpoint_steps=3',
      f'--workdir={cls.path}',
      f'--data_dir={cls.folder}/data',
      f'--signal_cache={cls.folder}/run/signals',
    )
    code, said = run(*cls.command)
    assert code == 0, said
    cls.whole = storage_faults.copy(cls.path, f'{cls.folder}/whole')
    with open(f'{cls.path}/result.json') as file:
      cls.result = json.load(file)

  def _model(self, stage):
    with open(f'{self.path}/{stage}/model.keras', 'rb') as file:
      return file.read()

  def _assert_same(self, deleted=''):
    """Fails if the run is not the whole one, but for a deleted model."""
    with open(f'{self.path}/result.json') as file:
      result = json.load(file)
    for name in ('accuracy', 'loss', 'steps', 'teacher_agreement'):
      self.assertEqual(result[name], self.result[name], name)
    for stage in ('teacher', 'paraphraser', 'student'):
      model = f'{stage}/model.keras'
      if model == deleted and not os.path.exists(f'{self.path}/{model}'):
        continue
      with open(f'{self.whole}/{model}', 'rb') as file:
        self.assertEqual(self._model(stage), file.read(), stage)

  def _try(self, name, kind, rng, *, complete):
    storage_faults.copy(self.whole, self.path)
    if not complete:
      # As if the student's last steps had not been reached.
      for each in (
        'result.json',
        'report.html',
        'samples.json',
        'student/result.json',
        'student/model.keras',
        'student/checkpoints/ckpt-4.index',
        'student/checkpoints/ckpt-4.json',
        'student/checkpoints/ckpt-4.data-00000-of-00001',
      ):
        if os.path.exists(f'{self.path}/{each}'):
          os.remove(f'{self.path}/{each}')
      if not os.path.exists(f'{self.path}/{name}'):
        return
    storage_faults.damage(f'{self.path}/{name}', kind, rng)
    code, said = run(*self.command)
    self.assertNotEqual(code, _UNEXPECTED, said)
    self.assertNotIn('Traceback', said)
    if code == 0:
      # A model that is gone from a complete run was deleted to save space.
      self._assert_same(deleted=name if complete and kind == 'delete' else '')
      return
    last = said.splitlines()[-1]
    self.assertStartsWith(last, 'ft-tf compress: ')
    self.assertIn(self.path, last)
    # A paraphraser that is written again is another file to its students.
    folder, base = os.path.split(name)
    refused = f'{folder}_sha256' if base == 'model.keras' else f'/{folder} '
    self.assertTrue(base in last or refused in last, last)

  @pytest.mark.slow
  def test_compression_ends_as_ever_or_in_a_line(self):
    rng = storage_faults.chance('compressions')
    names = storage_faults.files(self.whole)
    for number in range(_CASES):
      name, kind = rng.choice(names), rng.choice(storage_faults.KINDS)
      with self.subTest(f'{kind} {name} {number % 2}'):
        self._try(name, kind, rng, complete=bool(number % 2))


if __name__ == '__main__':
  absltest.main()
