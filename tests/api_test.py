"""A notebook's call: models and arrays in, a trained student out."""

import os
import re

import keras
import numpy as np
import pytest
from absl.testing import absltest

from ft_tf import api, errors
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

  def test_arrays_that_are_no_images_are_refused(self):
    (images, labels), test = _parts()
    folder = self.create_tempdir().full_path
    for train, reason in {
      'float': ((images / 255, labels), 'images are float64'),
      'labels': ((images, labels[:, None]), 'labels are int64'),
      'size': ((images[:, :4], labels), 'test: images are uint8'),
    }.values():
      with self.assertRaisesRegex(errors.UsageError, reason):
        api.distill(
          'resnet8', 'resnet8', train=train, test=test, workdir=folder
        )
    two = keras.Model(
      (net := _network('resnet8x0.25', 1)).input, [net.output, net.output]
    )
    for values, reason in (
      ({'teacher': two}, 'the teacher must give logits'),
      ({'train': (images, labels - 1)}, 'train: there is a label -1'),
      ({'test': (images[:0], labels[:0])}, 'test: images are uint8'),
      ({'student_epochs': '3'}, "--student_epochs='3'.*of the type int"),
    ):
      with self.assertRaisesRegex(errors.UsageError, reason):
        api.distill(
          **{
            'teacher': 'resnet8x0.25',
            'student': 'resnet8x0.25',
            'train': (images, labels),
            'test': test,
            'workdir': folder,
            **values,
          }
        )
    with self.assertRaisesRegex(
      errors.UsageError, 'as they are: leave out image_size, unlabeled'
    ):
      api.distill(
        'resnet8',
        'resnet8',
        train=(images, labels),
        test=test,
        workdir=folder,
        unlabeled='pictures',
        image_size=32,
      )
    self.assertEmpty(os.listdir(folder))


if __name__ == '__main__':
  absltest.main()
