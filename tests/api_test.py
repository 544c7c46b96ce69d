"""A notebook's call: models and arrays in, a trained student out."""

import dataclasses
import json
import os
import pathlib
import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from ft_tf import api, errors, python_terms
from ft_tf.models import layers, zoo
from tests import fixtures

_README = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'README.md'
)
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

    def distill(seed, student_seed=2):
      return api.distill(
        _network('resnet8x0.5', seed),
        _network('resnet8x0.25', student_seed),
        train=train,
        test=test,
        workdir=folder,
        **_NUMBERS,
      )

    student = distill(1)
    self.assertEqual(student.output_shape, (None, 3))
    self.assertTrue(
      os.path.exists(os.path.join(folder, 'export', 'student_int8.tflite'))
    )
    first = _network('resnet8x0.25', 2)(test[0]).numpy()
    self.assertFalse(np.allclose(student(test[0]), first))
    # The cell is run again: the same models, in other bytes.
    again = distill(1)
    np.testing.assert_array_equal(again(test[0]), student(test[0]))
    with self.assertRaisesRegex(errors.UsageError, 'teacher_sha256'):
      distill(5)

  @pytest.mark.slow
  def test_student_of_its_own_size_is_known_again(self):
    (images, labels), test = _parts()
    keras.utils.set_random_seed(1)
    spec = layers.Spec((6, 6, 1), 3, (0.3,), (0.2,))
    student = zoo.build('resnet8x0.25', spec)
    teacher = _network('resnet8x0.25', 1)
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
    first = api.distill(teacher, student, **values)
    self.assertEqual(first.input_shape, (None, 6, 6, 1))
    again = api.distill(teacher, student, **values)
    small = images[:, :6, :6]
    np.testing.assert_array_equal(again(small), first(small))

  def test_readme_runs_as_it_stands(self):
    with open(_README, encoding='utf-8') as file:
      blocks = re.findall(r'```python\n(.*?)```', file.read(), re.DOTALL)
    (block,) = [block for block in blocks if 'api.distill' in block]
    self.assertLessEqual(len(block.strip().splitlines()), 10)
    train, test = _parts()
    folder = self.create_tempdir().full_path
    _network('resnet8x0.5', 1).save(os.path.join(folder, 'teacher.keras'))
    np.savez(
      os.path.join(folder, 'pictures.npz'),
      train_images=train[0],
      train_labels=train[1],
      test_images=test[0],
      test_labels=test[1],
    )
    here = os.getcwd()
    os.chdir(folder)
    self.addCleanup(os.chdir, here)
    # As it stands, but for the length and the size of the student.
    where = "workdir='runs/notebook'"
    self.assertIn(where, block)
    block = block.replace(
      where, where + ', student_epochs=1, paraphraser_epochs=1, batch_size=16'
    ).replace("'resnet20'", "'resnet8x0.25'")
    found = {}
    exec(block, found)
    self.assertEqual(found['student'].output_shape, (None, 3))
    self.assertTrue(os.path.exists('runs/notebook/report.html'))

  def test_files_of_other_kinds_are_refused_as_by_the_flags(self):
    train, test = _parts()
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'old.h5')
    _network('resnet8x0.25', 1).save(path)
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
    net = _network('resnet8x0.25', 1)
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
      ({'workdir': None}, 'workdir is a NoneType: give a path'),
      ({'recipe': 'nope'}, "'nope': recipe takes one of cifar10"),
      ({'student_epochs': '3'}, "student_epochs='3'.*of the type int"),
      ({'student': 'resnet21'}, "unknown network 'resnet21'"),
      ({'beta': -1.0}, 'beta=-1.0: weight of the factor loss.*0 or more'),
      ({'mean': (0.5,) * 3}, 'mean has 3 channels and std 1'),
      ({'validation_examples': 99}, 'validation_examples=99 leaves none'),
      ({'student_epoch': 3}, "'student_epoch'; did you mean 'student_epochs'?"),
      ({'label_name': []}, "'label_name'; did you mean 'label_names'?"),
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

  def test_run_that_fails_is_told_in_pythons_terms_too(self):
    lower = errors.TrainingError('the loss is NaN: lower --learning_rate')
    with (
      self.assertRaisesRegex(errors.TrainingError, 'NaN: lower learning_rate'),
      mock.patch.object(api.compression, 'compress', side_effect=lower),
    ):
      self._distill()

  def test_flags_in_messages_become_arguments(self):
    for text, wanted in {
      'Lambda: give --allow_unsafe_model if you trust': 'Lambda: call '
      'keras.config.enable_unsafe_deserialization() if you trust',
      'vgg13: give a wrn, or --image_size=32': 'vgg13: give a wrn, or images '
      'of 32x32',
      '--jit=on: give --batch_size=8 -- or more': 'jit=on: give batch_size=8 '
      '-- or more',
      'give the --dataset it was trained on': 'give the train and test it was '
      'trained on',
      'x-- y --1 a--b': 'x-- y --1 a--b',
    }.items():
      with self.subTest(text), self.assertRaises(errors.UsageError) as error:
        with python_terms.in_messages():
          raise errors.UsageError(text)
      self.assertEqual(str(error.exception), wanted)

  def _distill(self, **values):
    train, test = _parts()
    return api.distill(
      **{
        'teacher': 'resnet8x0.25',
        'student': 'resnet8x0.25',
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
