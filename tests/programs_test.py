"""The programs as a user runs them: files, JSON, exit codes, errors."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf.data import sources
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import layers, zoo
from tests import in_one_process, networks

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAMS = (
  'benchmark',
  'compare',
  'compress',
  'doctor',
  'evaluate',
  'export',
  'import_torch',
  'inspect_model',
  'prepare_data',
  'train_paraphraser',
  'train_student',
  'train_teacher',
)
_NOWHERE = os.path.join(tempfile.gettempdir(), 'ft_tf_test_nowhere', 'new')
_DATA = os.path.join(tempfile.gettempdir(), 'ft_tf_test_data')
_TINY = (
  '--recipe=digits',
  '--image_size=0',
  '--train_split=train[:96]',
  '--test_split=test[:64]',
  '--validation_examples=32',
  '--teacher=resnet8x0.5',
  '--student=resnet8x0.25',
  '--teacher_epochs=2',
  '--paraphraser_epochs=2',
  '--student_epochs=2',
  '--log_steps=1',
)


def _start(program, *arguments):
  environment = {
    k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'
  }
  return subprocess.Popen(
    [sys.executable, os.path.join(_ROOT, 'bin', f'{program}.py'), *arguments],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=environment,
    text=True,
  )


def _run(program, *arguments):
  """Returns (exit code, standard output, standard error)."""
  process = _start(program, *arguments)
  out, err = process.communicate()
  return process.returncode, out, err


def _each(program, *lines):
  """Returns (exit code, standard output, standard error) of command lines.

  One process runs them all; see `tests/in_one_process.py`.
  """
  done = subprocess.run(
    [sys.executable, in_one_process.__file__, program],
    input=json.dumps(lines),
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    raise AssertionError(done.stderr)
  return [(r['code'], r['out'], r['err']) for r in json.loads(done.stdout)]


@functools.cache
def _without_work(program):
  """Returns the outcome of `--help` and of what lacks a flag; see `_each`."""
  lines = [['--help'], []]
  if program in ('train_student', 'train_paraphraser'):
    lines.append(
      ['--recipe=digits', f'--data_dir={_DATA}', f'--workdir={_NOWHERE}']
    )
  return _each(program, *lines)


def _result(out):
  return json.loads(out.splitlines()[-1])


class CompressTest(absltest.TestCase):
  @pytest.mark.slow
  def test_whole_way_leaves_the_contract_and_runs_once(self):
    folder = self.create_tempdir().full_path
    workdir, data = (os.path.join(folder, name) for name in ('run', 'data'))
    command = (*_TINY, f'--workdir={workdir}', f'--data_dir={data}')
    code, out, err = _run('compress', *command, '--baseline')
    self.assertEqual(code, 0, err)
    result = _result(out)
    self.assertEqual((result['method'], result['seed']), ('ft', 0))
    self.assertEqual(
      [row['method'] for row in result['table']], ['teacher', 'scratch', 'ft']
    )
    for row in result['table']:
      self.assertGreater(row['tflite_bytes'], row['tflite_int8_bytes'])
    self.assertIn('| student, factor transfer', out)
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
    ):
      self.assertTrue(os.path.exists(os.path.join(workdir, name)), name)

    code, out, err = _run('compress', *command, '--baseline')
    self.assertEqual(code, 0, err)
    self.assertIn('is complete', err)
    self.assertEqual(_result(out), result)

    code, out, err = _run('compress', *command, '--baseline', '--beta=3')
    self.assertEqual((code, out), (2, ''))
    self.assertRegex(err, r'student\.beta: 60\.0 saved, 3\.0 given')

    for code, out, err in _each(
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
      scores = _result(out)
      self.assertEqual(scores['examples'], 64)
      self.assertAlmostEqual(scores['accuracy'], result['accuracy'])
      self.assertAlmostEqual(scores['loss'], result['loss'], places=4)

  @pytest.mark.slow
  def test_killed_run_continues_from_its_checkpoint_and_ends(self):
    folder = self.create_tempdir().full_path
    command = (
      *_TINY,
      '--student_epochs=40',
      '--checkpoint_steps=4',
      f'--workdir={folder}/run',
      f'--data_dir={folder}/data',
    )
    process = _start('compress', *command)
    checkpoints = os.path.join(folder, 'run', 'student', 'checkpoints')
    deadline = time.monotonic() + 300
    while not os.path.exists(os.path.join(checkpoints, 'checkpoint')):
      self.assertIsNone(process.poll(), 'ended before it could be killed')
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    self.assertFalse(os.path.exists(f'{folder}/run/result.json'))

    code, out, err = _run('compress', *command)
    self.assertEqual(code, 0, err)
    self.assertRegex(err, r'student .*: continues at step \d+ of 80')
    # What was complete is not trained again.
    self.assertNotRegex(err, 'teacher  (compiling|epoch)')
    self.assertEqual(_result(out)['steps'], 80)
    with open(f'{folder}/run/student/metrics.jsonl') as file:
      steps = [json.loads(line)['step'] for line in file]
    self.assertEqual(steps, list(range(1, 81)))


class CompareTest(absltest.TestCase):
  @pytest.mark.slow
  def test_comparison_leaves_every_form_and_continues(self):
    folder = self.create_tempdir().full_path
    workdir, data = (os.path.join(folder, name) for name in ('run', 'data'))
    command = (
      *_TINY,
      f'--workdir={workdir}',
      f'--data_dir={data}',
      f'--signal_cache={folder}/signals',
    )
    code, out, err = _run('compare', *command, '--methods=scratch')
    self.assertEqual(code, 0, err)
    code, out, err = _run(
      'compare', *command, '--methods=scratch,ft', '--seeds=2', '--jobs=2'
    )
    self.assertEqual(code, 0, err)
    found = _result(out)
    self.assertEqual(
      [(row['method'], row['seeds']) for row in found['rows']],
      [('teacher', 1), ('scratch', 2), ('ft', 2)],
    )
    for row in found['rows']:
      self.assertLen(row['accuracies'], row['seeds'])
      self.assertGreater(row['tflite_bytes'], row['tflite_int8_bytes'])
      self.assertAlmostEqual(row['mean'], sum(row['accuracies']) / row['seeds'])
    # What was complete is not trained again.
    self.assertIn('student ft seed 1  epoch', err)
    self.assertNotIn('baseline seed 0  epoch', err)
    self.assertIn('| student, factor transfer', out)
    self.assertIn('ft: ', out)
    for form in ('json', 'md', 'csv', 'tex', 'html'):
      self.assertTrue(os.path.exists(f'{workdir}/comparison.{form}'), form)
    with open(f'{workdir}/comparison.json') as file:
      self.assertEqual(json.load(file), found)

  @pytest.mark.slow
  def test_dry_run_prints_the_plan_and_leaves_nothing(self):
    folder = self.create_tempdir().full_path
    code, out, err = _run(
      'compare',
      *_TINY,
      '--methods=scratch,ft',
      '--seeds=3',
      '--dry_run',
      f'--workdir={folder}/run',
      f'--data_dir={folder}/data',
    )
    self.assertEqual(code, 0, err)
    self.assertRegex(out, r'(?m)^\| ft +\| +3 \|')
    found = _result(out)
    self.assertAlmostEqual(
      found['seconds'], sum(part['seconds'] for part in found['parts'])
    )
    self.assertFalse(os.path.exists(f'{folder}/run'))

  def test_bad_comparison_is_one_line_with_the_fix_and_writes_nothing(self):
    folder = self.create_tempdir().full_path
    cases = {
      '--methods=nope': '--method=nope: give scratch, one of at, .*sp, a sum',
      '--methods=ft,ft': 'has ft twice',
      '--seeds=0': '--seeds=0: give 1 or more',
      '--jobs=0': '--jobs=0: give 1 or more',
      '--sweep=nope=1': '--sweep=nope=1: give a number of the recipe',
      '--sweep=rate': 'such as paraphraser.rate=0.5,1,2',
      '--sweep=rate=a': '--sweep=paraphraser.rate=a: paraphrase rate',
      '--signal_cache=': '--signal_cache is empty',
    }
    common = (
      '--recipe=digits',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/new',
    )
    found = _each('compare', *([*common, argument] for argument in cases))
    for (argument, pattern), (code, out, err) in zip(
      cases.items(), found, strict=True
    ):
      with self.subTest(argument):
        self.assertEqual((code, out), (2, ''), err)
        self.assertRegex(err.splitlines()[-1], f'^compare.py: .*{pattern}')
    self.assertFalse(os.path.exists(f'{folder}/new'))


class StagesTest(absltest.TestCase):
  @pytest.mark.slow
  def test_stages_one_by_one_on_two_replicas_and_export(self):
    folder = self.create_tempdir().full_path
    own = {'teacher', 'paraphraser', 'student'}

    def flags(stage):
      others = tuple(f'--{name}_' for name in own - {stage})
      kept = [
        flag
        for flag in _TINY
        if not flag.startswith(others)
        and (flag.split('=')[0][2:] not in own - {stage})
      ]
      return [
        *kept,
        f'--workdir={folder}/{stage}',
        f'--data_dir={folder}/data',
        '--num_replicas=2',
      ]

    code, out, err = _run('train_teacher', *flags('teacher'))
    self.assertEqual(code, 0, err)
    self.assertEqual(_result(out)['method'], 'teacher')
    teacher = f'--teacher={folder}/teacher/model.keras'
    code, out, err = _run('train_paraphraser', *flags('paraphraser'), teacher)
    self.assertEqual(code, 0, err)
    self.assertIn('reconstruction_of_mean', _result(out))
    code, out, err = _run(
      'train_student',
      *flags('student'),
      teacher,
      f'--paraphraser={folder}/paraphraser/model.keras',
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(_result(out)['method'], 'ft')
    code, out, err = _run(
      'export',
      f'--model={folder}/student/model.keras',
      '--dataset=digits',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/student',
    )
    self.assertEqual(code, 0, err)
    self.assertIn('student_int8.tflite', _result(out))


class GivenTest(absltest.TestCase):
  def test_checkpoint_of_pytorch_becomes_a_teacher_that_is_measured(self):
    folder = self.create_tempdir().full_path
    arrays = networks.torch_resnet(width=0.25, channels=1, classes=10)
    np.savez(f'{folder}/mine.npz', **arrays)
    data = f'--data_dir={folder}/data'
    (code, out, err), *wrong = _each(
      'import_torch',
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet8x0.25',
        '--mean=0.5',
        '--std=0.25',
        '--dataset=digits',
        data,
        f'--workdir={folder}/teacher',
      ],
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet14',
        f'--workdir={folder}/other',
      ],
      [
        f'--weights={folder}/mine.npz',
        '--network=resnet8x0.25',
        '--std=0',
        f'--workdir={folder}/other',
      ],
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(_result(out)['examples'], 1197)
    self.assertTrue(os.path.exists(_result(out)['model']))
    for code, out, err in wrong:
      self.assertEqual((code, out), (2, ''))
      self.assertRegex(err, r'^import_torch.py: .*\n$')
    self.assertFalse(os.path.exists(f'{folder}/other'))

  @pytest.mark.slow
  def test_models_of_other_inputs_and_outputs_are_refused_by_every_program(
    self,
  ):
    folder = self.create_tempdir().full_path
    image = keras.Input((16, 16, 1))
    flat = keras.layers.Flatten()(image)
    vector = keras.Input((4,))
    dense = keras.layers.Dense(10)
    models = {
      'two outputs': keras.Model(image, [dense(flat), flat]),
      'vector': keras.Model(vector, keras.layers.Dense(10)(vector)),
      'two inputs': keras.Model(
        [image, vector],
        keras.layers.Dense(10)(keras.layers.Concatenate()([flat, vector])),
      ),
      'other classes': keras.Model(image, keras.layers.Dense(3)(flat)),
    }
    for name, model in models.items():
      model.save(f'{folder}/{name}.keras')
    data = f'--data_dir={folder}/data'
    digits = ['--recipe=digits', data, f'--workdir={folder}/new']
    for program, flags in {
      'compress': digits,
      'evaluate': ['--dataset=digits', data],
      'export': ['--dataset=digits', data, f'--workdir={folder}/new'],
      'inspect_model': [],
    }.items():
      which = 'teacher' if program == 'compress' else 'model'
      names = [
        *models,
        'missing',
      ][: -2 if program == 'inspect_model' else None]
      found = _each(
        program,
        *([*flags, f'--{which}={folder}/{name}.keras'] for name in names),
      )
      for name, (code, out, err) in zip(names, found, strict=True):
        with self.subTest(f'{program}, {name}'):
          self.assertEqual((code, out), (2, ''), err)
          self.assertRegex(err, rf'(?m)^{program}.py: .*give .*\n\Z')
    self.assertFalse(os.path.exists(f'{folder}/new'))

  @pytest.mark.slow
  def test_layers_of_a_model_of_any_size_are_listed(self):
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding='same', name='one')(image)
    x = keras.layers.Conv2D(5, 3, strides=2, padding='same', name='two')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(1)(x)).save(path)
    ((code, out, err),) = _each('inspect_model', [f'--model={path}'])
    self.assertEqual(code, 0, err)
    self.assertIn('open image size set to 224x224x3', out)
    self.assertEqual(
      [
        (each['layer'], each['shape'], each['called'])
        for each in json.loads(out.splitlines()[-1])['layers']
      ],
      [('one', [112, 112, 4], ['-2']), ('two', [56, 56, 5], ['auto', '-1'])],
    )

  @pytest.mark.slow
  def test_grey_pictures_serve_a_teacher_of_colours(self):
    folder = self.create_tempdir().full_path
    for label, value in (('cat', 40), ('dog', 200)):
      os.makedirs(f'{folder}/pictures/{label}')
      for i in range(10):
        image = Image.new('L', (30, 20), value + i)
        image.save(f'{folder}/pictures/{label}/{i}.png')
    zoo.build(
      'resnet8x0.25', layers.Spec((16, 16, 3), 2, (0.5,) * 3, (0.25,) * 3)
    ).save(f'{folder}/teacher.keras')
    code, out, err = _run(
      'compress',
      f'--teacher={folder}/teacher.keras',
      '--student=resnet8x0.25',
      f'--dataset=folder:{folder}/pictures',
      '--validation_examples=0',
      '--batch_size=8',
      '--student_epochs=1',
      '--paraphraser_epochs=1',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/run',
    )
    self.assertEqual(code, 0, err)
    result = _result(out)
    self.assertEqual(result['examples'], 4)
    self.assertIn('16x16x3', err)
    data = [f'--dataset=folder:{folder}/pictures', f'--data_dir={folder}/data']
    code, out, err = _run(
      'evaluate', f'--model={folder}/run/export/student_fp32.tflite', *data
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(_result(out)['accuracy'], result['accuracy'])
    self.assertAlmostEqual(_result(out)['loss'], result['loss'], places=4)
    code, out, err = _run(
      'export',
      f'--model={folder}/run/student/model.keras',
      f'--workdir={folder}/new',
      *data,
    )
    self.assertEqual(code, 0, err)
    with open(f'{folder}/run/export/export.json') as file:
      wanted = json.load(file)['student.keras']
    self.assertEqual(_result(out)['student.keras'], wanted)

  def test_images_come_as_the_model_takes_them_and_its_run_has_seen_them(self):
    folder = self.create_tempdir().full_path
    rng = np.random.default_rng(0)
    for label, column in (('cat', 2), ('dog', 24)):
      os.makedirs(f'{folder}/images/{label}')
      for i in range(10):
        values = rng.integers(90, size=(12, 36)).astype(np.uint8)
        values[:, column : column + 9] = 115
        Image.fromarray(values).save(f'{folder}/images/{label}/{i}.png')
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 50)(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    os.makedirs(f'{folder}/run')
    with open(f'{folder}/run/recipe.json', 'w') as file:
      json.dump({'data': {'resizing': 'stretch', 'image_size': 8}}, file)
    paths = {
      'crop': f'{folder}/mine.keras',
      'stretch': f'{folder}/run/model.keras',
    }
    for path in paths.values():
      model.save(path)
    dataset = f'folder:{folder}/images'
    data = f'--data_dir={folder}/data'
    losses = {}
    for (kind, path), (code, out, err) in zip(
      paths.items(),
      _each(
        'evaluate',
        *(
          [f'--model={path}', f'--dataset={dataset}', data]
          for path in paths.values()
        ),
      ),
      strict=True,
    ):
      self.assertEqual(code, 0, f'{path}: {err}')
      source = sources.Source(
        dataset,
        data_dir=f'{folder}/data',
        image_size=8,
        resizing=kind,
        channels=3,
      )
      wanted = metrics.evaluate(
        predictors.KerasPredictor(model), source.read('test')
      )
      losses[kind] = _result(out)['loss']
      self.assertAlmostEqual(losses[kind], wanted['loss'], places=4)
    self.assertNotAlmostEqual(losses['crop'], losses['stretch'], places=2)

  @pytest.mark.slow
  def test_images_own_statistics_stand_for_a_recipe_of_other_channels(self):
    folder = self.create_tempdir().full_path
    for label, value in (('cat', 30), ('dog', 70)):
      os.makedirs(f'{folder}/images/{label}')
      for i in range(10):
        image = Image.new('L', (30, 20), value)
        image.save(f'{folder}/images/{label}/{i}.png')
    for channels in (1, 3):
      image = keras.Input((8, 8, channels))
      x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 50)(image))
      keras.Model(image, keras.layers.Dense(2)(x)).save(
        f'{folder}/{channels}.keras'
      )
    same = (
      f'--dataset=folder:{folder}/images',
      f'--data_dir={folder}/data',
      f'--workdir={folder}/new',
      '--student=resnet21',  # what is refused next
    )
    told, typed, converted = _each(
      'compress',
      [*same, f'--teacher={folder}/1.keras'],
      [*same, f'--teacher={folder}/1.keras', '--mean=1,1,1', '--std=1,1,1'],
      [
        *same,
        f'--teacher={folder}/3.keras',
        '--recipe=digits',
        '--dataset=digits',
      ],
    )
    for code, out, err in (told, typed, converted):
      self.assertEqual((code, out), (2, ''), err)
    self.assertIn(
      'mean and std: 0.196 and 0.078, of the training images; the recipe has '
      'those of 3 channels, the images have 1\n',
      told[2],
    )
    self.assertIn("unknown network 'resnet21'", told[2])
    self.assertRegex(typed[2], 'has 1 channels.* such as --mean=0.196 --std=')
    # Grey images of TFDS become colours for a teacher of these.
    self.assertIn('those of 1 channels, the images have 3\n', converted[2])
    self.assertIn('(8, 8, 3), the data set has (16, 16, 3)', converted[2])
    self.assertFalse(os.path.exists(f'{folder}/new'))

  def test_data_are_prepared_once(self):
    folder = self.create_tempdir().full_path
    line = ['--dataset=digits', f'--data_dir={folder}']
    for code, out, err in _each('prepare_data', line, line):
      self.assertEqual(code, 0, err)
      self.assertEqual(_result(out)['examples'], {'train': 600, 'test': 1197})


class ErrorsTest(absltest.TestCase):
  def test_bad_input_is_one_line_with_the_fix_and_writes_nothing(self):
    folder = self.create_tempdir().full_path
    workdir = os.path.join(folder, 'new')
    file = self.create_tempfile('file').full_path
    home = os.path.expanduser('~')
    other_classes = os.path.join(folder, 'three.keras')
    keras.utils.set_random_seed(0)
    zoo.build('resnet8x0.25', layers.Spec((16, 16, 1), 3, (0.5,), (0.5,))).save(
      other_classes
    )
    digits = ('--recipe=digits', f'--data_dir={folder}/data')
    cifar = ('--recipe=cifar10_resnet56_resnet20',)
    cases = {
      'no data': ([], 'give --dataset'),
      'recipe': (['--recipe=nope'], "unknown recipe 'nope'.*digits"),
      'dataset': (['--recipe=digits', '--dataset=nope'], "no data set 'nope'"),
      'network': (
        [*digits, '--student=resnet21'],
        "unknown network 'resnet21'",
      ),
      'data folder': ([*cifar, '--data_dir=/no/such'], 'there is no folder'),
      'not prepared': ([*cifar, f'--data_dir={folder}'], 'bin/prepare_data.py'),
      'teacher file': (
        [*digits, '--teacher=no.keras'],
        'no.keras: give the path',
      ),
      'classes': (
        [*digits, f'--teacher={other_classes}'],
        'has 3 classes, the data set 10',
      ),
      'negative rate': (
        [*digits, '--student_learning_rate=-1'],
        '--student_learning_rate=-1.*above 0',
      ),
      'paraphrase rate': ([*digits, '--rate=0'], '--rate=0.*above 0'),
      'flag': ([*digits, '--bta=3'], 'bta'),
      'number': ([*digits, '--beta=much'], '--beta=much'),
      'split': ([*digits, '--train_split=nope'], "no split 'nope'"),
      'workdir': ([*digits, f'--workdir={file}/x'], 'another --workdir'),
      'folder': ([*digits, '--dataset=folder'], '--dataset=folder:PATH'),
      'home': ([*digits, '--teacher=~/no.keras'], f' {home}/no.keras: '),
      'home of images': (
        [*digits, '--dataset=folder:~/no'],
        f'no folder {home}/no: ',
      ),
      'nobody': (
        [*digits, '--signal_cache=~nobody_here/x'],
        '~nobody_here has no home folder; give the whole path',
      ),
    }
    found = _each(
      'compress',
      *(
        [f'--workdir={workdir}', *arguments] for arguments, _ in cases.values()
      ),
    )
    for (name, (_, pattern)), (code, out, err) in zip(
      cases.items(), found, strict=True
    ):
      with self.subTest(name):
        self.assertEqual((code, out), (2, ''), err)
        # TFDS may say that it prepares the digits, which `split` needs.
        lines = [
          line
          for line in err.splitlines()
          if not line.startswith(
            ('Downloading and preparing', 'Dataset digits')
          )
        ]
        self.assertLen(lines, 1, err)
        self.assertRegex(lines[0], f'^compress.py: .*{pattern}')
    self.assertFalse(os.path.exists(workdir))


class EveryProgramTest(parameterized.TestCase):
  @parameterized.parameters(*_PROGRAMS)
  def test_help_is_the_manual_and_what_is_missing_is_asked_for(self, name):
    (code, out, err), *without = _without_work(name)
    self.assertEqual((code, err), (0, ''))
    self.assertIn(f'bin/{name}.py', out)
    flags = out[out.index('Flags:') :].splitlines()[1:]
    for line in flags:
      self.assertRegex(line, r'^--\w+ +\S')
    for line in flags:
      if '--recipe' not in line:
        self.assertRegex(line, r'\((default: .*|required.*)\)$')
    for code, out, err in without:
      self.assertEqual((code, out), (2, ''))
      self.assertRegex(err, rf'^{name}.py: .*give --\w+.*\n$')
    self.assertFalse(os.path.exists(_NOWHERE))

  def test_doctor_takes_every_flag_of_compress(self):
    of_compress, of_doctor = (
      {*re.findall(r'(?m)^(--\w+) ', _without_work(name)[0][1])}
      for name in ('compress', 'doctor')
    )
    self.assertContainsSubset(of_compress, of_doctor)
    self.assertIn('--student_image_size', of_doctor)

  def test_every_number_of_a_recipe_is_a_flag_of_compress(self):
    _, out, _ = _without_work('compress')[0]
    for flag in (
      '--teacher_epochs',
      '--paraphraser_epochs',
      '--student_epochs',
      '--student_learning_rate',
      '--beta',
      '--rate',
      '--batch_size',
      '--seed',
      '--num_replicas',
      '--sync_batch_norm',
    ):
      self.assertRegex(out, rf'(?m)^{flag} ')


if __name__ == '__main__':
  absltest.main()
