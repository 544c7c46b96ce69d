"""A notebook's call: models and arrays in, a trained student out."""

import dataclasses
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from ft_tf import api, errors, run_dir
from ft_tf.models import layers, zoo
from tests import fixtures

_NUMBERS = {
  'batch_size': 16,
  'flip': False,
  'precision': 'float32',
  'paraphraser_epochs': 1,
  'student_epochs': 2,
}


def _parts():
  parts = [fixtures.Blobs().read(split) for split in ('train', 'test')]
  return [(part.images, part.labels) for part in parts]


def _network(name, seed):
  keras.utils.set_random_seed(seed)
  return zoo.build(name, layers.Spec((8, 8, 1), 3, (0.3,), (0.2,)))


def _dense(image_shape, dtype='float32'):
  """Returns the smallest classifier of images of a shape."""
  image = keras.Input(image_shape, dtype=dtype)
  x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(image))
  return keras.Model(image, keras.layers.Dense(3)(x))


class DistillTest(absltest.TestCase):
  @pytest.mark.slow
  def test_models_in_memory_give_a_student_and_the_same_again(self):
    train, test = _parts()
    folder = os.path.join(self.create_tempdir().full_path, 'run')

    def distill(seed, student_seed=2, change=lambda student: None, **others):
      student = _network('short', student_seed)
      change(student)
      return api.distill(
        _network('short-wide', seed),
        student,
        train=train,
        test=test,
        workdir=folder,
        **_NUMBERS,
        **others,
      )

    result = distill(1)
    self.assertEqual(result.model.output_shape, (None, 3))
    self.assertEqual(
      result.files['student_int8.tflite'],
      os.path.join(folder, 'export', 'student_int8.tflite'),
    )
    first = _network('short', 2)(test[0]).numpy()
    self.assertFalse(np.allclose(result.model(test[0]), first))
    # The cell is run again: the same models, in other bytes.
    again = distill(1)
    np.testing.assert_array_equal(again.model(test[0]), result.model(test[0]))
    with self.assertRaisesRegex(errors.UsageError, 'teacher_sha256'):
      distill(5)

    def freeze(student):
      student.layers[2].trainable = False

    # Neither leaves another student in the place of the run's.
    for arguments, words in (
      ({'student_seed': 5}, 'of a student of other weights .*student_sha256'),
      (
        {'change': freeze},
        'of other layers, or layers frozen .*student_sha256',
      ),
      ({'label_names': ('a', 'b', 'c')}, 'label_names_sha256'),
    ):
      with self.assertRaisesRegex(errors.UsageError, words):
        distill(1, **arguments)
    again = distill(1)
    np.testing.assert_array_equal(again.model(test[0]), result.model(test[0]))

  @pytest.mark.slow
  def test_student_of_its_own_size_is_known_again(self):
    (images, labels), test = _parts()
    keras.utils.set_random_seed(1)
    spec = layers.Spec((6, 6, 1), 3, (0.3,), (0.2,))
    student = zoo.build('short', spec)
    teacher = _network('short', 1)
    folder = self.create_tempdir().full_path
    values = {
      'train': (list(images), list(labels)),
      'test': test,
      'workdir': os.path.join(folder, 'run'),
      **_NUMBERS,
      'student_epochs': 1,
      'student_image_size': 6,
      'method': 'kd',
    }
    first = api.distill(teacher, student, **values).model
    self.assertEqual(first.input_shape, (None, 6, 6, 1))
    again = api.distill(teacher, student, **values).model
    small = images[:, :6, :6]
    np.testing.assert_array_equal(again(small), first(small))

  @pytest.mark.slow
  def test_seeds_baseline_and_limits_are_those_of_the_command(self):
    train, test = _parts()
    result = api.distill(
      _network('short-wide', 1),
      'resnet56x0.25',  # Too large: the limit chooses of its family.
      train=train,
      test=test,
      seeds=2,
      baseline=True,
      max_bytes=30_000,
      **{**_NUMBERS, 'student_epochs': 1},
    )
    self.addCleanup(shutil.rmtree, result.workdir)
    candidates = run_dir.RunDir(result.workdir).read('candidates.json')
    self.assertEqual(candidates['limits']['max_bytes'], 30_000)
    fitting = [
      each['name']
      for each in candidates['candidates']
      if each['files']['int8']['bytes'] <= 3e4
    ]
    self.assertEqual(candidates['student'], fitting[-1])
    result_run = run_dir.RunDir(result.workdir).child('student')
    recipe = result_run.read('recipe.json')
    self.assertEqual(recipe['student']['model'], fitting[-1])
    self.assertCountEqual(
      result.history,
      [
        'paraphraser',
        'student',
        'comparison/ft-1',
        'comparison/scratch-0',
        'comparison/scratch-1',
      ],
    )
    self.assertIn('| baseline (no teacher)', result.table)

  def test_result_has_the_student_its_figures_and_its_files(self):
    train, test = (
      tf.data.Dataset.from_tensor_slices(part).batch(7) for part in _parts()
    )
    result = api.distill(
      'short',
      'short',
      train=train,
      validation_data=test,  # It is tested on, too.
      label_names=['<left>', 'middle', 'right'],
      **{**_NUMBERS, 'teacher_epochs': 1, 'student_epochs': 1},
    )
    self.addCleanup(shutil.rmtree, result.workdir)
    run = run_dir.RunDir(result.workdir)
    images, labels = _parts()[1]
    answers = np.argmax(result.model(images), axis=1)
    self.assertAlmostEqual(result.accuracy, np.mean(answers == labels))
    self.assertEqual(
      repr(result),
      f'Result(accuracy={result.accuracy}, workdir={result.workdir!r})',
    )
    self.assertCountEqual(result.history, ['teacher', 'paraphraser', 'student'])
    rows = result.history['student']
    self.assertEqual(rows, run.child('student').metrics())
    self.assertContainsSubset(
      ['step', 'loss', 'factor_transfer', 'validation_accuracy'], rows[-1]
    )
    self.assertAlmostEqual(rows[-1]['validation_accuracy'], result.accuracy)
    self.assertContainsSubset(
      [*run_dir.EXPORTED, 'labels.txt', 'export.json'], result.files
    )
    for path in (*result.files.values(), result.report):
      self.assertTrue(os.path.exists(path), path)
    with open(result.files['labels.txt'], encoding='utf-8') as file:
      self.assertEqual(file.read().split(), ['<left>', 'middle', 'right'])
    lines = result.table.splitlines()
    self.assertLen(lines, 4)
    page = result._repr_html_()
    self.assertEqual(page.count('<tr>'), 3)
    for cell in lines[-1].strip('| ').split(' | '):
      self.assertIn(f'<td>{cell.strip()}</td>', page)

  def test_temporary_folder_is_not_left_if_nothing_was_trained(self):
    folder = self.create_tempdir().full_path
    with mock.patch.object(tempfile, 'tempdir', folder):
      with self.assertRaisesRegex(errors.UsageError, 'seeds=0: give an int'):
        self._distill(workdir=None, seeds=0)
      with self.assertRaisesRegex(errors.UsageError, 'unknown network'):
        self._distill(
          workdir=None, teacher=_network('resnet8', 1), student='resnet21'
        )
    self.assertEmpty(os.listdir(folder))

  def test_validation_data_are_no_part_of_the_training_images(self):
    train, test = _parts()
    some = test[0][:9], test[1][:9]
    _, dataset = self._settled(validation_data=some)
    self.assertLen(dataset.train, len(train[0]))
    np.testing.assert_array_equal(dataset.validation.images, some[0])
    np.testing.assert_array_equal(dataset.test.images, test[0])
    # Whoever gives others has another run.
    self.assertNotEqual(dataset.fingerprint, self._settled()[1].fingerprint)
    _, dataset = self._settled(test=None, validation_data=some)
    np.testing.assert_array_equal(dataset.validation.images, some[0])
    np.testing.assert_array_equal(dataset.test.images, some[0])
    # Without, they are of the training images.
    _, dataset = self._settled(validation_examples=8)
    self.assertLen(dataset.train, len(train[0]) - 8)
    self.assertLen(dataset.validation, 8)

  def test_files_of_other_kinds_are_refused_as_by_the_flags(self):
    train, test = _parts()
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'old.h5')
    _network('short', 1).save(path)
    for name in ('teacher', 'student'):
      with self.assertRaisesRegex(errors.UsageError, 'convert it by python -c'):
        api.distill(
          **{'teacher': 'resnet8', 'student': 'resnet8', name: path},
          train=train,
          test=test,
          workdir=os.path.join(folder, 'run'),
        )
    self.assertFalse(os.path.exists(os.path.join(folder, 'run')))

  def test_what_cannot_be_is_refused_in_pythons_terms(self):
    (images, labels), (other, others) = _parts()
    folder = self.create_tempdir().full_path
    net = _network('short', 1)
    two = keras.Model(net.input, [net.output, net.output])
    for values, reason in (
      ({'train': (images - 100.0, labels)}, 'before normalisation'),
      ({'train': (images, labels - 1)}, 'train: there is a label -1'),
      ({'train': (images[:, :4], labels)}, 'of test .8, 8, 1.: give all in'),
      ({'test': (other[:0], others[:0])}, 'test: images .* holds no image'),
      ({'teacher': two}, 'the teacher must give logits'),
      ({'teacher': {}}, 'teacher is a dict: give a keras.Model'),
      ({'student': None}, 'student is a NoneType: give a keras.Model'),
      ({'teacher': 'its.h5'}, 'teacher=its.h5: there is no such file'),
      ({'student': pathlib.Path(folder)}, 'is a folder: give a .keras file'),
      (
        {'teacher': '~/no/such.keras'},
        f'file {os.path.expanduser("~/no/such")}',
      ),
      ({'workdir': 3}, 'workdir is a int: give a path'),
      ({'recipe': 'nope'}, "recipe='nope': give one of cifar10"),
      ({'student_epochs': '3'}, "student_epochs='3'.*of the type int"),
      ({'student': 'resnet21'}, "unknown network 'resnet21'"),
      ({'beta': -1.0}, 'beta=-1.0: weight of the factor loss.*0 or more'),
      ({'mean': (0.5,) * 3}, 'mean has 3 channels and std 1'),
      ({'validation_examples': 99}, 'validation_examples=99 leaves none'),
      ({'student_epoch': 3}, "'student_epoch'; did you mean student_epochs"),
      ({'label_name': []}, "'label_name'; did you mean label_names"),
      ({'epochs': 3}, "'epochs'; did you mean paraphraser_epochs, qat_epochs"),
      ({'test': None}, 'nothing to test on: give test, or validation_data'),
      ({'seeds': 1.5}, 'seeds=1.5: give an integer of 1 or more'),
      ({'seeds': 10**9}, 'seeds=1000000000: .*at most 1000'),
      ({'baseline': images}, 'baseline=array.*give True or False'),
      ({'linear_head': 'no'}, "linear_head='no': give True or False"),
      ({'formats': 'int8_io'}, "formats='int8_io': give a list of names"),
      ({'max_drop': '1'}, "max_drop='1': give a number"),
      ({'max_ram': images}, 'max_ram=array.*give a number above 0'),
      ({'max_bytes': 'a\nb'}, 'max_bytes=a b: give a number above 0'),
      ({'label_names': 3}, 'label_names is a int: give a list of names'),
      ({'workdir': 'a\0b'}, r"'a\\x00b' has a null byte"),
      ({'workdir': __file__}, 'cannot write to .*: give another workdir'),
      ({'student_drop_epochs': 3}, 'student_drop_epochs=3: .*give several'),
      ({'beta': [1.0, 2.0]}, r'beta=\(1.0, 2.0\): .*give one value'),
      ({'beta': images}, r'beta=\(.*; give one value'),
      ({'max_bytes': 0}, 'max_bytes=0: give a number above 0'),
      ({'max_ram': 'fp3:9'}, 'max_ram=fp3:9: there is no format fp3'),
      ({'max_bytes': 9, 'student': 'vgg13'}, 'student=vgg13 has no family'),
      (
        {'validation_data': (images[:, :4], labels)},
        'those of validation .4, 8, 1.: give all in',
      ),
      ({'callbacks': []}, "no argument 'callbacks': give numbers of a rec"),
      (
        {'unlabeled': 'pictures', 'image_size': 32},
        'as they are: leave out image_size, unlabeled',
      ),
    ):
      with self.subTest(reason), self.assertRaises(errors.UsageError) as e:
        self._distill(**{'workdir': folder, **values})
      self.assertRegex(str(e.exception), reason)
      self.assertNotRegex(str(e.exception), r'--|\n')
    self.assertEmpty(os.listdir(folder))

  def test_refused_call_leaves_no_copies_of_models_in_memory(self):
    models = {'teacher': _dense((8, 8, 1)), 'student': _dense((8, 8, 1))}
    above = self.create_tempdir().full_path
    for workdir in (above, os.path.join(above, 'new', 'run')):
      with self.assertRaisesRegex(errors.UsageError, 'beta=-1.0'):
        self._distill(**models, workdir=workdir, beta=-1.0)
      self.assertEmpty(os.listdir(above))
    # What was there before the call stays.
    kept = os.path.join(above, 'given', 'notes.txt')
    os.makedirs(os.path.dirname(kept))
    pathlib.Path(kept).touch()
    with self.assertRaisesRegex(errors.UsageError, 'beta=-1.0'):
      self._distill(**models, workdir=above, beta=-1.0)
    self.assertTrue(os.path.exists(kept))

  def test_call_that_tensorflow_is_set_up_otherwise_for_is_refused(self):
    with fixtures.strategy().scope():
      with self.assertRaisesRegex(errors.UsageError, 'outside of the scope'):
        self._distill()
    tf.config.run_functions_eagerly(True)
    self.addCleanup(tf.config.run_functions_eagerly, False)
    with self.assertRaisesRegex(errors.UsageError, 'eagerly.False. first'):
      self._distill()

  def test_program_without_standard_error_is_served(self):
    with mock.patch.object(sys, 'stderr', None):
      self._settled(teacher=_dense((8, 8, 3)))  # which prints a line
      self.assertIsNone(sys.stderr)

  def test_calls_of_several_threads_do_not_run_at_once(self):
    running, most = [], []

    def compress(*_, **__):
      running.append(1)
      most.append(len(running))
      time.sleep(0.05)
      running.pop()
      raise _SettledError

    def call():
      with self.assertRaises(_SettledError):
        self._distill()

    with mock.patch.object(api.compression, 'compress', compress):
      threads = [threading.Thread(target=call) for _ in range(3)]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
    self.assertEqual(most, [1, 1, 1])

  def test_run_that_fails_is_told_in_pythons_terms_too(self):
    lower = errors.TrainingError('the loss is NaN: lower --learning_rate')
    with (
      self.assertRaisesRegex(errors.TrainingError, 'NaN: lower learning_rate'),
      mock.patch.object(api.compression, 'compress', side_effect=lower),
    ):
      self._distill()

  def _distill(self, **values):
    train, test = _parts()
    return api.distill(
      **{
        'teacher': 'short',
        'student': 'short',
        'train': train,
        'test': test,
        'workdir': self.create_tempdir().full_path,
        **values,
      }
    )

  def _settled(self, **values):
    """Returns the recipe and the data set that `distill` would work with."""
    with (
      mock.patch.object(
        api.compression, 'compress', side_effect=_SettledError
      ) as compress,
      self.assertRaises(_SettledError),
    ):
      self._distill(**values)
    return compress.call_args.args

  def test_numbers_may_be_numpys(self):
    recipe, _ = self._settled(
      student_epochs=np.int64(3),
      beta=np.float32(2),
      flip=np.bool_(False),
      mean=[0.5],
      std=np.array([0.25], np.float32),
    )
    json.dumps(dataclasses.asdict(recipe))
    self.assertEqual(recipe.student.epochs, 3)
    self.assertEqual((recipe.data.mean, recipe.data.std), ((0.5,), (0.25,)))

  def test_images_have_the_channels_that_a_given_teacher_takes(self):
    (images, labels), (other, others) = _parts()
    colours = _dense((8, 8, 3))
    path = os.path.join(self.create_tempdir().full_path, 'teacher.keras')
    colours.save(path)
    for teacher in (colours, path, pathlib.Path(path)):
      recipe, dataset = self._settled(teacher=teacher)
      self.assertEqual(dataset.image_shape, (8, 8, 3))
      np.testing.assert_array_equal(
        dataset.test.images, np.repeat(other, 3, axis=-1)
      )
      self.assertLen(recipe.data.mean, 3)
    wide = [(np.repeat(x, 3, axis=-1), y) for x, y in _parts()]
    _, dataset = self._settled(
      teacher=_dense((8, 8, 1)), train=wide[0], test=wide[1]
    )
    self.assertEqual(dataset.image_shape, (8, 8, 1))
    with self.assertRaisesRegex(
      errors.UsageError, 'the teacher takes images of 8x8, those .* are 8x6'
    ):
      self._settled(
        teacher=path,
        train=(images[:, :, :6], labels),
        test=(other[:, :, :6], others),
      )
    with self.assertRaisesRegex(
      errors.UsageError, 'the student takes images of 1 channels, they have 3'
    ):
      self._settled(teacher=path, student=_dense((8, 8, 1)))

  def test_images_in_0_to_1_are_for_a_teacher_that_takes_them_so(self):
    unit = dict(
      zip(('train', 'test'), ((x / 255, y) for x, y in _parts()), strict=True)
    )
    recipe, dataset = self._settled(**unit)  # nothing given sees them
    np.testing.assert_array_equal(dataset.test.images, _parts()[1][0])
    self.assertEqual(recipe.teacher.preprocessing, 'none')
    # An input of bytes cannot take 0 to 1.
    self._settled(teacher=_dense((8, 8, 1), dtype='uint8'), **unit)
    teacher = _dense((8, 8, 1))
    with self.assertRaisesRegex(
      errors.UsageError, "0 to 1: give preprocessing='0..1' if the teacher"
    ):
      self._settled(teacher=teacher, **unit)
    recipe, _ = self._settled(teacher=teacher, preprocessing='0..1', **unit)
    self.assertEqual(recipe.teacher.preprocessing, '0..1')

  def test_tf_data_and_names_are_taken(self):
    train, test = (
      tf.data.Dataset.from_tensor_slices(part).shuffle(99).batch(7)
      for part in _parts()
    )
    names = np.array(['left', 'middle', 'right'])
    _, dataset = self._settled(train=train, test=test, label_names=names)
    self.assertEqual(dataset.label_names, names.tolist())
    self.assertLen(dataset.train, 56)


class _SettledError(Exception):
  """Stands for a compression: everything before it went well."""


if __name__ == '__main__':
  absltest.main()
