"""Damaged files of runs, of prepared data and of caches, read by every command.

`FT_TF_FAULTS_CASES` is their number, `FT_TF_FAULTS_SEED` draws others.
"""

import dataclasses
import os
import shlex

import pytest
from absl.testing import absltest
from hypothesis import strategies as st

from tests.faults import fuzz_inputs, fuzz_runs, fuzzing, mutations

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '120'))
_DIGITS = fuzz_runs.DIGITS
_WORK = '--workdir={cwd}/work'
_SIGNALS = '--signal_cache={inputs}/cut/signals'
_CUT = (*fuzz_runs.TINY, '--beta=auto', '--workdir={inputs}/cut')
_EXPORT = '--workdir={inputs}/whole', *_DIGITS
_FOLDER = '--dataset=folder:{inputs}/images', '--data_dir={data}/index'

# Patterns of names, how often they are drawn, and the commands that read them.
_KINDS = (
  (
    6,
    ('inputs/whole', ('.json', '.jsonl'), ('checkpoints', 'signals')),
    (
      ('runs', '{inputs}/whole'),
      ('compress', *fuzz_runs.WHOLE),
      ('export', '--model={inputs}/whole', *_EXPORT),
    ),
  ),
  (
    4,
    ('inputs/whole/export', ('',), ('variables',)),
    (
      ('demo', '--export={inputs}/whole/export', '--litert={inputs}'),
      (
        'evaluate',
        '--model={inputs}/whole/export/student.keras',
        *fuzz_runs.DIGITS,
      ),
      (
        'evaluate',
        '--model={inputs}/whole/export/student_int8.tflite',
        *fuzz_runs.DIGITS,
      ),
      ('export', '--model={inputs}/whole/qat', *_EXPORT),
      ('compress', *fuzz_runs.WHOLE),
    ),
  ),
  (
    4,
    ('inputs/compared', ('.json', '.jsonl', '.md', '.csv'), ('checkpoints',)),
    (
      ('runs', '{inputs}/compared'),
      ('runs', '{inputs}/compared'),
      ('compare', *fuzz_runs.COMPARED),
    ),
  ),
  (
    4,
    ('inputs/cut/teacher', ('',), ('export',)),
    (
      ('train-teacher', *fuzz_runs.TEACHER, '--workdir={inputs}/cut/teacher'),
      ('runs', '{inputs}/cut'),
    ),
  ),
  (
    3,
    ('inputs/cut/student', ('',), ('export',)),
    (
      (
        'export',
        '--model={inputs}/cut/student',
        '--workdir={cwd}/work',
        *fuzz_runs.DIGITS,
      ),
      (
        'export',
        '--model={inputs}/cut',
        '--workdir={cwd}/work',
        *fuzz_runs.DIGITS,
      ),
      ('compress', *_CUT),
    ),
  ),
  (1, ('inputs/cut/signals', ('',), ()), (('compress', *_CUT, _SIGNALS),)),
  (
    1,
    ('inputs/cut/paraphraser', ('',), ('checkpoints',)),
    (('compress', *_CUT),),
  ),
  (
    2,
    ('data/index', ('',), ()),
    (
      ('prepare-data', *_FOLDER),
      ('evaluate', '--model={inputs}/m.keras', *_FOLDER),
    ),
  ),
  *(
    (
      often,
      (f'data/{name}', ('',), ()),
      (
        ('evaluate', '--model={inputs}/m.keras', *data),
        ('prepare-data', *data),
        (
          *('doctor', '--recipe=digits', '--image_size=0', *data),
          '--workdir={cwd}/work',
        ),
      ),
    )
    for often, name, data in fuzz_inputs.DATA_SETS
  ),
)


@dataclasses.dataclass(frozen=True)
class _Case:
  """A file in place of a whole one, and a command that reads it."""

  name: str
  content: mutations.Placed
  removed: tuple[str, ...]
  command: str
  arguments: list[str]

  def __repr__(self):
    return f'{self.command} {shlex.join(self.arguments)} with {self.name}'


def _matching(box, folder, endings, without):
  return [
    os.path.join(folder, name)
    for name in fuzz_inputs.files(box.path(folder))
    if name.endswith(endings) and not any(each in name for each in without)
  ]


@st.composite
def _cases(draw, box, kinds):
  names, lines = draw(st.sampled_from(kinds))
  name = draw(st.sampled_from(names))
  command, *arguments = draw(st.sampled_from(lines))
  places = {each: box.path(each) for each in ('inputs', 'data', 'cwd')}
  removed = ()
  head, mark, tail = name.partition('/ckpt-')
  if mark and draw(st.booleans()):
    # Of an earlier version: no checksums.
    record = f'{head}/ckpt-{tail.partition(".")[0]}.json'
    removed = (record,) if record != name else ()
  return _Case(
    name,
    draw(mutations.placed(name, fuzz_inputs.read(box.path(name)))),
    removed,
    command,
    [each.format(**places) for each in arguments],
  )


class FoldersTest(fuzzing.FuzzCase):
  @classmethod
  def fill(cls):
    super().fill()
    fuzz_runs.make(cls.box)

  @pytest.mark.slow
  def test_folders_end_in_an_answer_or_a_line(self):
    kinds = [
      (_matching(self.box, *which), lines)
      for often, which, lines in _KINDS
      for _ in range(often)
    ]

    def try_one(case):
      self.box.place(case.name, case.content)
      for each in case.removed:
        self.box.remove(each)
      ended = self.box.run(case.command, case.arguments, claimed=True)
      changed = (case.name, *case.removed)
      self.check(
        ended, case.command, (*case.arguments, '#', *changed), case.content
      )
      return ended.code

    with self.box.entered():
      codes = fuzzing.count_ends(_cases(self.box, kinds), _CASES, try_one)
    self.assertGreater(codes.get(2, 0), _CASES // 10)
    self.assertGreater(codes.get(0, 0) + codes.get('began', 0), _CASES // 10)


if __name__ == '__main__':
  absltest.main()
