"""Command lines as users mistype them, and as nobody would: every command.

`FT_TF_FAULTS_CASES` is their number, `FT_TF_FAULTS_SEED` draws others.
"""

import dataclasses
import os
import shlex

import pytest
from absl import flags
from absl.testing import absltest
from hypothesis import strategies as st

from ft_tf.cli import dispatch
from tests.faults import fuzzing

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '1100'))
_DIGITS = '--recipe=digits', '--image_size=0', '--data_dir={data}'
_SPLITS = '--train_split=train[:96]', '--test_split=test[:64]'
_NETWORKS = '--teacher=short', '--student=resnet8x0.25'
_WORK = '--workdir={cwd}/work'
_TRAINING = *_DIGITS, *_SPLITS, '--validation_examples=32', _WORK
_MODEL = '--model={inputs}/m.keras', '--dataset=digits', '--data_dir={data}'

# A command line of each command that is right.
_RIGHT = {
  'demo': (
    *(*_TRAINING, *_NETWORKS),
    '--seeds=1',
  ),
  'compress': (*_TRAINING, *_NETWORKS),
  'doctor': (*_TRAINING, *_NETWORKS),
  'compare': (*_TRAINING, *_NETWORKS, '--methods=scratch,kd,ft'),
  'runs': ('{inputs}/run',),
  'evaluate': _MODEL,
  'export': (*_MODEL, _WORK),
  'inspect': _MODEL[:1],
  'prepare-data': ('--dataset=digits', '--data_dir={data}'),
  'import-torch': (
    *('--weights={inputs}/w.npz', '--network=resnet8x0.25', _WORK),
    *('--mean=0.5', '--std=0.5', '--image_size=8'),
  ),
  'train-teacher': (*_TRAINING, _NETWORKS[0]),
  'train-paraphraser': (*_TRAINING, '--teacher={inputs}/m.keras'),
  'train-student': (*_TRAINING, _NETWORKS[1], '--method=scratch'),
  'benchmark': (_WORK, '--sections=memory'),
}
_PATHS = (
  *('', '.', '/sys', '~', '~nobody_here', 'missing', 'a/b/c', '-', '--', 'x=y'),
  *('/dev/null', '/dev/zero', '/proc/self/mem', '/dev/null/x', 'a' * 300),
  *('{inputs}/text', '{inputs}/empty', '{inputs}/pipe', '{inputs}/pipe.keras'),
  *('{inputs}/broken', '{inputs}/loop', '{inputs}/caf\udce9.keras'),
  *('{inputs}/m.keras', '{inputs}/lambda.keras', '{inputs}/m.weights.h5'),
  *('{inputs}/saved', '{inputs}/m.tflite', '{inputs}/w.npz', '{inputs}/run'),
  *('{inputs}/run/student', '{inputs}/run/export', '{inputs}/images', 'n\nl'),
  *('{inputs}/run/teacher/recipe.json', '{cwd}/work', '{data}', '{inputs}'),
)
_DATA_SETS = (
  *('digits', 'digits/x', 'digits:1.0.0', 'digits:9.9.9', 'strange', 'folder'),
  *('nope', 'folder:', 'folder:{inputs}/images', 'folder:{inputs}/empty'),
  *('folder:missing', 'Folder:x', 'a/b:1.2.3/x', 'unlabeled:{inputs}/images'),
)
_NETWORK_NAMES = (
  *('resnet8x0.25', 'resnet9', 'resnet8x0', 'resnet8x', 'resnet-2', 'resnet'),
  *('resnet8x99999', 'resnet99999999998', 'wrn-10-0', 'wrn-10-99999', 'vgg'),
  *('resnet8x0.0000001', 'mobilenetv2x0', 'mobilenetv2x99999', 'RESNET8'),
)
_SPLIT_TEXTS = (
  *('train', 'train[:0]', 'train[5:2]', 'train[-8:]', 'train[:1%]', 'train['),
  *('test+train', 'nope', 'train[:99999999999999999999]', 'all', 'train[x:]'),
)
_NUMBERS = (
  *('0', '-1', '1', '2', '3', '10000', '0.5', '-0.5', '1e-300', '1e300', 'nan'),
  *('inf', '-inf', '1e9', '0x10', '1_000', ' 3', '+3', '', 'x', '٣', '3,4'),
  *('4294967296', '9223372036854775808', '-9223372036854775809', '1' * 400),
  *('8x8', '8x0', '8x99999999', '0x8', '0.1,0.2', '0.1,0.2,0.3', ',', 'auto'),
)
_WORDS = (
  *('ft', 'kd', 'scratch', 'ft+kd', 'ft+', '+', 'nope', 'true', 'false', 'on'),
  *('off', 'memory', 'auto', '-1', '-99', 'group2', 'group1,group2', 'int16'),
  *('paraphraser.rate=0.5,1', 'rate=', '=1', 'seed=x', 'fp32,int8', 'steps'),
  *('student.method=kd,ft', '../x', '<b>', '%s', '{{0}}', 'imagenet'),
)
_ANY = (
  *_PATHS,
  *_DATA_SETS,
  *_NETWORK_NAMES,
  *_SPLIT_TEXTS,
  *_NUMBERS,
  *_WORDS,
)
# What stands for bytes that are no UTF-8 on a command line, and no null byte.
_TEXTS = st.text(
  st.characters(min_codepoint=1, exclude_categories=('Cs',))
  | st.sampled_from('\udc80\udcff'),
  max_size=12,
)
_STRAY = (
  *('x', '-x', '--', '---', '-', '', '--=', '--no', '--nope=1', '--flagfile'),
  *('--flagfile={inputs}/text', '--flagfile={inputs}/pipe', '--flagfile=.'),
  *('--flagfile={inputs}/m.keras', '--undefok=nope', '--nojson', '--json=x'),
  *('--list_recipes', '--help', '--helpfull', '--seed', '3', '--ro=1', '-h'),
)


def _likely(name: str, kind: str) -> tuple[str, ...]:
  """Returns texts that somebody could give to a flag."""
  if name in ('workdir', 'data_dir', 'model', 'config', 'export', 'litert'):
    return _PATHS
  if name in ('signal_cache', 'weights') or name.endswith('_weights'):
    return (*_PATHS, 'off', 'memory')
  if name in ('dataset', 'unlabeled'):
    return _DATA_SETS
  if name in ('teacher', 'student', 'network', 'paraphraser'):
    return (*_NETWORK_NAMES, *_PATHS)
  if name.endswith('split'):
    return _SPLIT_TEXTS
  if kind in ('int', 'float'):
    return _NUMBERS
  return (*_WORDS, *_NUMBERS)


@dataclasses.dataclass(frozen=True)
class _Line:
  """A command line."""

  command: str
  arguments: list[str]

  def __repr__(self):
    return f'ft-tf {self.command} {shlex.join(self.arguments)}'


@st.composite
def _lines(draw, kinds, places):
  """Draws a right command line with one to three changes.

  Args:
    draw: Hypothesis's.
    kinds: The kind of each flag, by command and flag.
    places: The folders of a sandbox by their names.
  """
  command = draw(st.sampled_from(sorted(_RIGHT)))
  arguments = list(_RIGHT[command])
  for _ in range(draw(st.integers(1, 3))):
    what = draw(st.sampled_from(('flag',) * 7 + ('stray', 'drop', 'text')))
    if what == 'drop' and arguments:
      del arguments[draw(st.integers(0, len(arguments) - 1))]
    elif what == 'stray':
      place = draw(st.integers(0, len(arguments)))
      arguments.insert(place, draw(st.sampled_from(_STRAY)))
    else:
      name = draw(st.sampled_from(sorted(kinds[command])))
      if what == 'text':
        value = draw(_TEXTS).replace('{', '').replace('}', '')
      else:
        likely = _likely(name, kinds[command][name])
        value = draw(st.sampled_from(likely) | st.sampled_from(_ANY))
      arguments = [a for a in arguments if not a.startswith(f'--{name}=')]
      arguments.append(f'--{name}={value}')
  return _Line(command, [each.format(**places) for each in arguments])


class CommandLinesTest(fuzzing.FuzzCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.kinds = {}
    for command in dispatch.COMMANDS:
      values = flags.FlagValues()
      dispatch._module(command).define_flags(values)
      cls.kinds[command] = {name: values[name].flag_type() for name in values}
    cls.places = {
      name: cls.box.path(name) for name in ('inputs', 'data', 'cwd')
    }

  def test_every_command_is_tried(self):
    self.assertEqual(_RIGHT.keys(), dispatch.COMMANDS.keys())

  @pytest.mark.slow
  def test_command_lines_end_in_an_answer_or_a_line(self):

    def try_one(line):
      ended = self.box.run(line.command, line.arguments)
      self.check(ended, line.command, line.arguments)
      return ended.code

    with self.box.entered():
      codes = fuzzing.count_ends(
        _lines(self.kinds, self.places), _CASES, try_one
      )
    self.assertGreater(codes.get(2, 0), _CASES // 2)
    self.assertGreater(codes.get(0, 0) + codes.get('began', 0), _CASES // 50)


if __name__ == '__main__':
  absltest.main()
