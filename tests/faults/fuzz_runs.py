"""Whole folders of runs that the fuzz damages: as commands leave them."""

import contextlib
import io
import os
import re
import shutil
from unittest import mock

from ft_tf import comparison
from ft_tf.cli import dispatch
from ft_tf.data import folder, folder_index
from tests.faults import sandbox

DIGITS = '--dataset=digits', '--data_dir={data}'
_SMALL = (
  *('--recipe=digits', '--image_size=0', '--data_dir={data}'),
  *('--train_split=train[:96]', '--test_split=test[:64]'),
  *('--validation_examples=32', '--precision=float32'),
  '--teacher=short',
  *('--teacher_epochs=1', '--paraphraser_epochs=1', '--student_epochs=1'),
  *('--log_steps=1', '--checkpoint_steps=1'),
)
# A compression of seconds, to a student of a family that a limit chooses from.
TINY = (*_SMALL, '--student=resnet8x0.25')
TEACHER = tuple(
  each for each in TINY if not each.startswith(('--student', '--paraphraser'))
)
WHOLE = (
  *(*TINY, '--workdir={inputs}/whole', '--beta=auto', '--qat_epochs=1'),
  '--max_bytes=20000',
)
COMPARED = (
  *(*_SMALL, '--student=short', '--workdir={inputs}/compared'),
  '--methods=scratch,ft',
)


def make(box: sandbox.Sandbox) -> None:
  """Fills `inputs/` with runs: whole, compared and cut off."""
  inputs, data = box.path('inputs'), box.path('data')
  places = {'inputs': inputs, 'data': data}
  signals = f'--signal_cache={inputs}/whole/signals'
  # To convert and measure networks takes longest: of a comparison none is.
  with mock.patch.object(comparison, '_export'):
    for command, *line in (
      ('compress', *WHOLE, signals),
      ('compare', *COMPARED),
    ):
      arguments = [each.format(**places) for each in line]
      said = io.StringIO()
      with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = dispatch.run(command, arguments, name=f'ft-tf {command}')
      assert code == 0, said.getvalue()
  cut(f'{inputs}/whole', f'{inputs}/cut')
  listing = folder.scan(f'{inputs}/images')
  index = folder_index.Index(listing, f'{data}/index')
  index.update()
  index.save()


def cut(whole: str, target: str) -> None:
  """Copies a compression as if its last steps had not been reached."""
  shutil.copytree(whole, target)
  shutil.rmtree(f'{target}/qat')
  gone = re.compile(r'(result|samples)\.json|report\.html|ckpt-2\..*')
  for within, _, names in os.walk(target):
    if within == target or within.startswith(
      (f'{target}/teacher', f'{target}/student')
    ):
      for name in filter(gone.fullmatch, names):
        os.remove(os.path.join(within, name))
  for stage in ('teacher', 'student'):
    state = f'{target}/{stage}/checkpoints/checkpoint'
    with open(state, 'w', encoding='utf-8') as file:
      file.write('model_checkpoint_path: "ckpt-1"\n')
      file.write('all_model_checkpoint_paths: "ckpt-1"\n')
