"""What the doctor finds, in words that name the flag."""

import os
import re

import keras
import numpy as np
import pytest
from absl.testing import absltest
from keras import ops
from PIL import Image

from ft_tf import (
  catalogue,
  doctor,
  durations,
  errors,
  recipe_flags,
  workshop,
)
from ft_tf.data import array_source, datasets
from ft_tf.export import student as export_student
from ft_tf.training import loop
from tests import fixtures


def _split(count, seed):
  """Returns images whose class is where they are bright, and labels."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(3, size=count)
  images = rng.integers(60, size=(count, 8, 8, 1))
  for image, label in zip(images, labels, strict=True):
    image[2:6, 3 * label : 3 * label + 2] += 150
  return images.astype(np.uint8), labels


def _dataset():
  source = array_source.Arrays(
    _split(80, 0), _split(120, 1), label_names=('left', 'middle', 'right')
  )
  return datasets.Dataset(source, validation_examples=8)


def _teacher(path, order=(0, 1, 2)):
  """Saves a network that is right about images of -1..1, and only of these."""
  image = keras.Input((8, 8, 1))
  # exp(-(5 x - 2)^2): a bright place is 0.2 to 0.6, a dark one below -0.5.
  x = keras.layers.Conv2D(2, 1, name='look')(image)
  x = keras.layers.Multiply()([x, x])
  x = keras.layers.Conv2D(2, 1, activation='exponential', name='bump')(x)
  x = keras.layers.Flatten()(x)
  model = keras.Model(image, keras.layers.Dense(3, name='logits')(x))
  model.get_layer('look').set_weights(
    [np.full((1, 1, 1, 2), 5.0), np.full(2, -2.0)]
  )
  model.get_layer('bump').set_weights([-np.eye(2)[None, None], np.zeros(2)])
  places = np.zeros((8, 8, 2, 3))
  for label, output in enumerate(order):
    places[2:6, 3 * label : 3 * label + 2, :, output] = 1
  model.get_layer('logits').set_weights([places.reshape(128, 3), np.zeros(3)])
  model.save(path)
  return path


def _says(recipe, **arguments):
  return {
    finding.what: finding
    for finding in doctor.examine(recipe, _dataset(), **arguments)
  }


class DoctorTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._folder = self.create_tempdir().full_path
    self._file = os.path.join(self._folder, 'teacher.keras')

  def _recipe(self, **values):
    return fixtures.short_recipe(teacher=self._file, method='ft', **values)

  def test_right_teacher_is_measured_and_matched(self):
    _teacher(self._file)
    says = _says(self._recipe(preprocessing='-1..1'), expected=0.99)
    self.assertEqual(
      says['teacher accuracy'].says, '100.00 % of 120 test images'
    )
    self.assertIn('--preprocessing', says['teacher accuracy'].flag)
    self.assertIn('72 to train on, 8 to validate on', says['images'].says)
    self.assertIn('left, middle, right;', says['classes'].says)
    self.assertIn('bump 8x8x2', says['teacher layer'].says)
    self.assertIn('group3 2x2x16', says['student layer'].says)
    self.assertIn('8x8 to 2x2', says['match'].says)
    # Three layers each of 2 -> 2 -> 1 -> 1 and back, and of 16 -> 16 -> 1 -> 1.
    self.assertRegex(
      says['factors'].says,
      r'^paraphraser 135 parameters \(paper form\), translator 2,475 '
      r'parameters \(paper form\); the teacher has [\d,]+, the student [\d,]+$',
    )
    self.assertIn('in int8', says['student'].says)
    self.assertNotIn('unscaled', says['values in the teacher'].says)

  def test_high_rate_for_a_pretrained_student_is_said(self):
    _teacher(self._file)
    student = os.path.join(self._folder, 'student.keras')
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation='relu')(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(7)(x)).save(student)
    recipe = self._recipe(preprocessing='-1..1', student=student, new_head=True)
    says = _says(recipe)
    self.assertIn(
      'but for a fresh last layer of 3 classes (it has 7)',
      says['start of the student'].says,
    )
    self.assertIn('which looks unscaled', says['values in the student'].says)
    rate = says['learning rate of the student']
    self.assertIn('0.1 is high if the weights of', rate.says)
    self.assertIn('--recipe=photos_finetune', rate.says)
    self.assertEqual(rate.flag, '--student_learning_rate')
    self.assertNotIn('learning rate of the teacher', says)
    gentle = catalogue.photos_finetune().student.learning_rate
    says = _says(
      recipe_flags.override(recipe, {'student_learning_rate': gentle})
    )
    self.assertNotIn('learning rate of the student', says)
    says = _says(
      recipe_flags.override(
        recipe,
        {'student_learning_rate': 0.01, 'student_optimizer': 'adamw'},
      )
    )
    self.assertRegex(
      says['learning rate of the student'].says,
      '0.01 is high if .*: give --student_learning_rate=0.001$',
    )
    # Of a linear head the pretrained weights stay as they are.
    head = {**catalogue.linear_head(), 'method': 'linear_head'}
    self.assertNotIn(
      'learning rate of the student', _says(recipe_flags.override(recipe, head))
    )

  def test_linear_head_is_checked_in_the_precision_of_this_machine(self):
    _teacher(self._file)
    recipe = self._recipe(preprocessing='-1..1', precision='auto')
    with self.assertRaisesRegex(
      errors.UsageError, '^linear_head: --student=.* has fresh weights'
    ):
      _says(recipe, has_linear_head=True)
    image = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(image)
    student = os.path.join(self._folder, 'student.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(student)
    says = _says(
      recipe_flags.override(recipe, {'student': student, 'method': 'kd'}),
      has_linear_head=True,
    )
    self.assertIn('is where training starts', says['start of the student'].says)

  @pytest.mark.slow
  def test_students_own_size_and_images_without_labels_are_said(self):
    _teacher(self._file)
    recipe = self._recipe(preprocessing='-1..1', student_image_size=6)
    dataset = fixtures.blobs_and_unlabelled()
    says = {
      finding.what: finding for finding in doctor.examine(recipe, dataset)
    }
    self.assertIn(
      '48 to train on, 24 more without labels, 8 to validate on',
      says['images'].says,
    )
    self.assertIn('--unlabeled', says['images'].flag)
    self.assertIn('on images of 6x6x1', says['student'].says)
    self.assertIn('--student_image_size', says['student'].flag)
    times = {
      finding.what: finding.says
      for finding in durations.estimate(
        self._recipe(preprocessing='-1..1', student_image_size=6),
        devices=fixtures.strategy(),
        workshop=workshop.Workshop(
          open_dataset=fixtures.blobs_and_unlabelled, options=loop.Options()
        ),
        seeds=3,
        baseline=True,
      )
    }
    for name in ('time of the student', 'time of the student baseline'):
      self.assertIn('in all, of 3 seeds', times[name])
    seconds, speed = (
      float(number.replace(',', ''))
      for number in re.match(
        r'([\d.]+) s per epoch at ([\d,]+) images/s',
        times['time of the student'],
      ).groups()
    )
    self.assertAlmostEqual(seconds, 72 / speed, delta=0.06)
    parts = [
      float(re.search(r'([\d.]+) minutes', says)[1])
      for what, says in times.items()
      if what.startswith('time of')
    ]
    in_all = float(re.search(r'([\d.]+) minutes', times['time in all'])[1])
    self.assertAlmostEqual(in_all, sum(parts), delta=0.05 * (len(parts) + 1))

  def test_wrong_preprocessing_is_seen_and_the_right_one_named(self):
    _teacher(self._file)
    says = _says(self._recipe())
    self.assertIn(
      '100.00 % with --preprocessing=-1..1', says['teacher accuracy'].says
    )
    self.assertIn('looks unscaled', says['values in the teacher'].says)
    with self.assertRaisesRegex(
      errors.UsageError,
      'not 99.00 %; its accuracy is 100.00 % with .* looks wrong: give the --p',
    ):
      _says(self._recipe(), expected=0.99)

  def test_other_resizing_is_tried_and_named_before_the_order(self):
    # A bar that stretching brings where the teacher looks and cropping does
    # not; the preprocessing is right, or wrong as well.
    root = os.path.join(self._folder, 'bars')
    for label, name in enumerate(('left', 'middle', 'right')):
      for i in range(40):
        image = np.full((16, 48), 10 + i % 7, np.uint8)
        image[4:12, 18 * label : 18 * label + 12] = 115
        path = os.path.join(root, name, f'{i}.png')
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(image).save(path)
    _teacher(self._file)
    values = {
      'dataset': f'folder:{root}',
      'image_size': 8,
      'resizing': 'crop',
      'pad': 0,
      'validation_examples': 0,
    }
    dataset = datasets.Dataset.from_recipe(
      self._recipe(**values).data, os.path.join(self._folder, 'data')
    )
    for preprocessing, wanted in (
      ('-1..1', '100.00 % with --resizing=stretch, so --resizing=crop looks'),
      (
        'none',
        # To tell bright from dark scaling to 0..1 is as good.
        '100.00 % with --preprocessing=-?[01]..1 --resizing=stretch, so '
        '--preprocessing=none and --resizing=crop look wrong',
      ),
    ):
      recipe = self._recipe(preprocessing=preprocessing, **values)
      accuracy = next(
        finding
        for finding in doctor.examine(recipe, dataset)
        if finding.what == 'teacher accuracy'
      )
      self.assertRegex(accuracy.says, wanted)
      self.assertNotIn('order', accuracy.says)
      self.assertIn('--resizing', accuracy.flag)

  def test_preprocessing_of_kerass_resnets_is_tried_for_colours(self):
    # A class for each channel that is bright, blue first in the teacher.
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(3, 1, padding='same', name='map')(image)
    y = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, y)
    for layer in model.layers[1::2]:
      layer.set_weights([np.eye(3).reshape(layer.kernel.shape), np.zeros(3)])
    model.layers[-1].kernel.assign(np.eye(3)[::-1])
    model.save(self._file)
    labels = np.arange(120) % 3
    images = np.random.default_rng(0).integers(60, size=(120, 8, 8, 3))
    images[np.arange(120), :, :, labels] += 150
    split = images.astype(np.uint8), labels
    dataset = datasets.Dataset(
      array_source.Arrays(split, split), validation_examples=8
    )
    recipe = self._recipe(mean=(0.5,) * 3, std=(0.25,) * 3)
    found = next(
      each
      for each in doctor.examine(recipe, dataset)
      if each.what == 'teacher accuracy'
    )
    self.assertIn('100.00 % with --preprocessing=caffe', found.says)

  def test_other_order_of_classes_is_seen(self):
    _teacher(self._file, order=(1, 2, 0))
    says = _says(self._recipe(preprocessing='-1..1'))['teacher accuracy'].says
    # Output 0 is what the data set calls right, output 1 left.
    self.assertIn('if its outputs meant right, left, middle', says)
    self.assertNotIn('looks wrong', says)

  def test_student_that_tflite_lacks_operations_of_is_refused_by_name(self):
    _teacher(self._file)
    image = keras.Input((8, 8, 1))
    x = ops.erf(keras.layers.Conv2D(4, 3, name='map')(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    path = os.path.join(self._folder, 'student.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(path)
    with self.assertRaisesRegex(errors.UsageError, 'TFLite has no Erf'):
      _says(self._recipe(student=path, preprocessing='-1..1'))

  def test_student_that_a_wanted_format_lacks_operations_of_is_refused(self):
    _teacher(self._file)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name='map', activation='softsign')(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    path = os.path.join(self._folder, 'student.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(path)
    recipe = self._recipe(student=path, preprocessing='-1..1')
    self.assertIn('student', _says(recipe))
    with self.assertRaisesRegex(errors.UsageError, 'map .activation softsign'):
      _says(recipe, export=export_student.Options(('mixed',)))

  def test_expectation_needs_a_trained_teacher_and_a_share(self):
    with self.assertRaisesRegex(errors.UsageError, 'is of a trained teacher'):
      _says(fixtures.recipe(), expected=0.9)
    _teacher(self._file)
    with self.assertRaisesRegex(errors.UsageError, 'give a share'):
      _says(self._recipe(), expected=93.0)

  @pytest.mark.slow
  def test_recipe_of_high_rates_can_be_rehearsed(self):
    # Rates of a full schedule, in one of a few steps, once made the teacher's
    # maps infinite.
    recipe = catalogue.digits()
    found = durations.estimate(
      recipe,
      devices=fixtures.strategy(),
      workshop=workshop.Workshop(
        open_dataset=lambda: datasets.Dataset.from_recipe(
          recipe.data, self._folder
        ),
        options=loop.Options(),
      ),
    )
    self.assertIn('time of the teacher', [each.what for each in found])

  def test_rehearsal_tells_time_and_memory_and_leaves_nothing(self):
    _teacher(self._file)
    recipe = self._recipe(preprocessing='-1..1')
    found = list(
      durations.estimate(
        recipe,
        devices=fixtures.strategy(),
        workshop=workshop.Workshop(
          open_dataset=_dataset, options=loop.Options()
        ),
      )
    )
    self.assertEqual(
      [each.what for each in found],
      [
        'time of the paraphraser',
        'time of the student',
        'time of the exports',
        'time in all',
        'input',
        'memory',
      ],
    )
    self.assertIn('s per epoch at', found[1].says)
    self.assertRegex(
      found[4].says, r'^[1-9][\d,]* images/s are read.* [1-9][\d,]* images/s, '
    )
    self.assertRegex(found[5].says, r'\d\.\d GiB at most')
    self.assertCountEqual(os.listdir(self._folder), ['teacher.keras'])


if __name__ == '__main__':
  absltest.main()
