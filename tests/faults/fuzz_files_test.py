"""Damaged and malicious files of every format, read by every command.

`FT_TF_FAULTS_CASES` is their number, `FT_TF_FAULTS_SEED` draws others.
"""

import dataclasses
import os
import shlex

import pytest
from absl.testing import absltest
from hypothesis import strategies as st

from tests.faults import fuzz_inputs, fuzzing, mutations, sandbox

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '300'))
_DIGITS = '--recipe=digits', '--image_size=0', '--data_dir={data}'
_FEW = '--train_split=train[:96]', '--validation_examples=32'
_SMALL = (
  *(*_FEW, '--test_split=test[:64]', '--teacher=resnet8x0.25'),
  *('--student=resnet8x0.25', '--precision=float32'),
)
_EVALUATE = '--dataset=digits', '--data_dir={data}', '--split=test[:64]'
_IMAGES = '--dataset=folder:{inputs}/images', '--data_dir={data}/new'
_WORK = '--workdir={cwd}/work'

# The files of a kind, by their names in the sandbox, and the command lines that
# read them, with how often they are drawn.
_KINDS = (
  (
    6,
    ('inputs/m.keras', 'inputs/lambda.keras'),
    (
      ('evaluate', '--model={file}', *_EVALUATE),
      *(('inspect', '--model={file}'),) * 3,
      ('inspect', '--model={file}', '--all'),
      ('export', '--model={file}', _WORK, '--dataset=digits', _DIGITS[-1]),
      (
        *('train-paraphraser', '--teacher={file}', _WORK, *_DIGITS),
        *_FEW,
      ),
      (
        *('train-student', '--student={file}', '--method=scratch', _WORK),
        *(*_DIGITS, *_FEW),
      ),
      ('compress', *_DIGITS, *_SMALL, '--teacher={file}', _WORK),
    ),
  ),
  (
    3,
    ('inputs/w.npz', 'inputs/w.safetensors', 'inputs/w.pth'),
    (
      (
        *('import-torch', '--weights={file}', '--network=resnet8x0.25'),
        *('--mean=0.5', '--std=0.5', '--image_size=8', _WORK),
      ),
    ),
  ),
  (
    2,
    tuple(f'inputs/mobilenet.{kind}' for kind in ('weights.h5', 'h5', 'keras')),
    (
      (
        *('train-teacher', '--teacher=mobilenetx0.25', _WORK, *_DIGITS),
        *('--teacher_weights={file}', '--image_size=32'),
        *_FEW,
      ),
      ('inspect', '--model={file}'),
    ),
  ),
  (1, ('inputs/m.tflite',), (('evaluate', '--model={file}', *_EVALUATE),)),
  (
    2,
    ('inputs/saved/saved_model.pb', 'inputs/saved/variables/*'),
    (('evaluate', '--model={inputs}/saved', *_EVALUATE),),
  ),
  (
    2,
    ('inputs/run/teacher/*.json', 'inputs/run/teacher/metrics.jsonl'),
    (
      ('runs', '{inputs}/run'),
      ('train-teacher', '--config={file}', _WORK, '--data_dir={data}'),
      (
        *('train-teacher', '--workdir={inputs}/run/teacher', *_DIGITS),
        '--teacher=resnet8x0.5',
      ),
    ),
  ),
  (
    2,
    ('inputs/run/student/recipe.json', 'inputs/run/student/result.json'),
    (
      ('runs', '{inputs}/run'),
      (
        *('export', '--model={inputs}/run/student', _WORK),
        *('--dataset=digits', '--data_dir={data}'),
      ),
      ('evaluate', '--model={inputs}/run/student/model.keras', *_EVALUATE),
    ),
  ),
  (
    2,
    ('inputs/run/recipe.json', 'inputs/run/result.json'),
    (
      ('runs', '{inputs}/run'),
      ('compress', *_DIGITS, *_SMALL, '--workdir={inputs}/run'),
      ('compare', *_DIGITS, *_SMALL, '--workdir={inputs}/run'),
    ),
  ),
  (
    1,
    ('inputs/run/export/export.json',),
    (
      ('demo', '--export={inputs}/run/export', '--litert={inputs}/run'),
      ('evaluate', '--model={inputs}/run/export/student.keras', *_EVALUATE),
    ),
  ),
  (
    1,
    ('inputs/run/export/.made_of.json', 'inputs/run/export/export.json'),
    (
      ('demo', '--export={inputs}/run/export', '--litert={inputs}/run'),
      (
        *('export', '--model={inputs}/run/student/model.keras'),
        *('--workdir={inputs}/run', '--dataset=digits', '--data_dir={data}'),
      ),
    ),
  ),
  (
    2,
    ('inputs/images/*',),
    (
      ('prepare-data', *_IMAGES),
      ('prepare-data', *_IMAGES),
      ('evaluate', '--model={inputs}/m.keras', *_IMAGES, '--max_bad_files=3'),
    ),
  ),
  *(
    (
      often,
      (f'data/{name}/*',),
      (
        ('evaluate', '--model={inputs}/m.keras', *data),
        (
          *('train-teacher', *_DIGITS, *data, _WORK),
          *('--teacher=resnet8x0.25', *_FEW),
        ),
        ('prepare-data', *data),
      ),
    )
    for often, name, data in fuzz_inputs.DATA_SETS
  ),
)


def _matching(box, pattern):
  """Returns the files that a name stands for; `*` is all below a folder."""
  if '*' not in pattern:
    return [pattern]
  folder, name = pattern.split('*')
  return [
    os.path.join(folder, each)
    for each in fuzz_inputs.files(box.path(folder))
    if name in each and (not name or os.sep not in each)
  ]


@dataclasses.dataclass(frozen=True)
class _Case:
  """A file in place of a whole one, and a command that reads it."""

  name: str
  content: bytes
  command: str
  arguments: list[str]

  def __repr__(self):
    return f'{self.command} {shlex.join(self.arguments)} with {self.name}'


class _Files:
  """The whole files in a sandbox.

  Attributes:
    box: The sandbox.
    kinds: Names of files and the command lines that read them.
    content: The bytes of each.
  """

  def __init__(self, box: sandbox.Sandbox):
    self.box = box
    self.kinds = [
      ([name for each in names for name in _matching(box, each)], lines)
      for often, names, lines in _KINDS
      for _ in range(often)
    ]
    self.content = {
      name: fuzz_inputs.read(box.path(name))
      for names, _ in self.kinds
      for name in names
    }


@st.composite
def _cases(draw, files):
  box = files.box
  names, lines = draw(st.sampled_from(files.kinds))
  name = draw(st.sampled_from(names))
  command, *arguments = draw(st.sampled_from(lines))
  places = {each: box.path(each) for each in ('inputs', 'data', 'cwd')}
  return _Case(
    name,
    draw(mutations.inside(name, files.content[name])),
    command,
    [each.format(file=box.path(name), **places) for each in arguments],
  )


class FilesTest(fuzzing.FuzzCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.files = _Files(cls.box)

  @pytest.mark.slow
  def test_files_end_in_an_answer_or_a_line(self):

    def try_one(case):
      self.box.place(case.name, case.content)
      ended = self.box.run(case.command, case.arguments)
      self.check(ended, case.command, case.arguments, case.content)
      return ended.code

    with self.box.entered():
      codes = fuzzing.count_ends(_cases(self.files), _CASES, try_one)
    # Some were whole enough to be read, and most were not.
    self.assertGreater(codes.get(2, 0), _CASES // 5)
    self.assertGreater(codes.get(0, 0) + codes.get('began', 0), _CASES // 20)


if __name__ == '__main__':
  absltest.main()
