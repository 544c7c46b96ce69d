"""The whole way as a library call, with a teacher that is given."""

import base64
import contextlib
import io
import os
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from ft_tf import compression, errors, run_dir, specs, teachers
from ft_tf.data import datasets
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import student as export_student
from ft_tf.models import zoo
from ft_tf.report import model_card
from ft_tf.signals import compiled
from ft_tf.training import loop, quantisation_aware, student
from tests import fixtures


class CompressTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    with fixtures.strategy().scope():
      cls.network = zoo.build(
        'short-wide', specs.spec(fixtures.short_recipe(), fixtures.blobs())
      )

  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.teacher = os.path.join(folder, 'mine.keras')
    self.network.save(self.teacher)
    self.run_dir = run_dir.RunDir(os.path.join(folder, 'run'))

  def _compress(
    self,
    dataset=None,
    seeds=1,
    baseline=False,
    linear_head=False,
    export=export_student.DEFAULTS,
    **flags,
  ):
    return compression.compress(
      fixtures.short_recipe(teacher=self.teacher, **flags),
      dataset or fixtures.blobs(),
      run=self.run_dir,
      strategy=fixtures.strategy(),
      options=loop.Options(),
      seeds=seeds,
      baseline=baseline,
      linear_head=linear_head,
      export=export,
    )

  def _check_progress(self, printed):
    """Fails if a part is not shown at its place among all."""
    self.assertIn(
      'plan: 7 parts\n'
      '  teacher: given, measured on the test images\n'
      '  paraphraser: 1 epoch of 48 images, 3 steps\n'
      '  student ft: 2 seeds, 1 epoch of 48 images, 3 steps each\n'
      '  baseline: 2 seeds, 1 epoch of 48 images, 3 steps each\n'
      '  export: converted and measured\n',
      printed,
    )
    for place in (
      '[1/7] teacher: ',
      '[2/7] paraphraser  compiling',
      '[3/7] student ft seed 0  epoch 1/1',
      '[4/7] baseline seed 0  epoch 1/1',
      '[5/7] student ft seed 1  epoch 1/1',
      '[6/7] baseline seed 1: test accuracy ',
      '[7/7] export  student',
    ):
      self.assertIn(place, printed)
    self.assertEqual(printed.count('precision: '), 1)

  def test_given_teacher_is_measured_and_not_trained(self):
    student_file = os.path.join(os.path.dirname(self.teacher), 'student.keras')
    given_student = self._save_student(student_file)
    options = {
      'student': student_file,
      'seeds': 2,
      'baseline': True,
      'paraphraser_epochs': 1,
      'student_epochs': 1,
      'student_drop_epochs': (),
    }
    opened, tested = [], []
    load, logits = keras.models.load_model, metrics.logits

    def spy_load(path, **options):
      opened.append(path)
      return load(path, **options)

    def spy_logits(predict, images, *options):
      tested.append((predict.given, len(images)))
      return logits(predict, images, *options)

    with (
      mock.patch.object(keras.models, 'load_model', spy_load),
      mock.patch.object(metrics, 'logits', spy_logits),
      mock.patch.object(
        compiled, 'compile_signal', wraps=compiled.compile_signal
      ) as compile_signal,
      contextlib.redirect_stderr(io.StringIO()) as printed,
    ):
      result = self._compress(**options)
    self._check_progress(printed.getvalue())
    # Four students and the report share one load, one test and one signal.
    self.assertEqual(opened.count(self.teacher), 1)
    self.assertNotIn(self.run_dir.child('teacher').model, opened)
    self.assertEqual(tested.count((f'--teacher={self.teacher}', 24)), 1)
    compile_signal.assert_called_once()
    teacher = self.run_dir.child('teacher')
    self.assertEqual(teacher.read('result.json')['steps'], 0)
    with open(self.teacher, 'rb') as one, open(teacher.model, 'rb') as two:
      self.assertEqual(one.read(), two.read())
    self.assertCountEqual(
      self.run_dir.read('teacher/export/export.json'),
      [run_dir.KERAS, run_dir.FLOAT32, run_dir.INT8],
    )
    self.assertCountEqual(
      os.listdir(self.run_dir.child('comparison').path),
      ['scratch-0', 'ft-1', 'scratch-1'],
    )
    rows = {row['method']: row for row in result['table']}
    self.assertEqual(rows['teacher']['seeds'], 1)
    self.assertIsNone(rows['teacher']['std'])
    for method in ('ft', 'scratch'):
      self.assertEqual(rows[method]['seeds'], 2)
      self.assertIsNotNone(rows[method]['std'])
    self.assertGreater(rows['teacher']['parameters'], rows['ft']['parameters'])
    self.assertEqual(
      rows['ft']['parameters'], specs.count_parameters(given_student)
    )
    samples = self.run_dir.read('samples.json')
    self.assertLessEqual(
      {'png', 'label', 'teacher', 'student', 'int8'}, samples[0].keys()
    )
    # From all over the split, in which classes may lie in order.
    test = fixtures.blobs().test
    shown = [test.labels[i] for i in np.linspace(0, 23, 12).astype(int)]
    self.assertEqual(
      [sample['label'] for sample in samples[:12]],
      [fixtures.Blobs.label_names[label] for label in shown],
    )
    self.assertEqual(
      [sample['chosen'] for sample in samples],
      ['spread'] * 12 + ['mistakes'] * (len(samples) - 12),
    )
    for sample in samples[12:]:
      self.assertNotEqual(sample['int8'], sample['label'])
    predictions = {
      name: self.run_dir.read(f'{name}/predictions.json')
      for name in ('teacher', 'student', 'export')
    }
    self.assertEqual(
      predictions['student']['confusion'],
      predictions['export'][run_dir.KERAS]['confusion'],
    )
    self.assertEqual(
      predictions['teacher']['classes'], list(fixtures.Blobs.label_names)
    )
    with open(result['report']) as file:
      report = file.read()
    self.assertIn('student, factor transfer', report)
    self.assertIn('Predictions on the test split', report)
    self.assertIn('export/model_card.md', report)
    card = os.path.join(self.run_dir.path, 'export', model_card.NAME)
    with open(card) as file:
      self.assertIn('## Teacher', file.read())
    self._check_complete(result, **options)

  def _check_complete(self, result, **options):
    """Fails if a complete run is not of its files alone, and what is asked."""
    # Of what is lost of it, and of what is asked of it now.
    int8 = os.path.join(result['export'], run_dir.INT8)
    os.remove(int8)
    more = export_student.Options(formats=('flexible',), max_drop=100)
    with contextlib.redirect_stderr(io.StringIO()) as said:
      self.assertEqual(self._compress(export=more, **options), result)
    self.assertIn(f'{int8} is missing or has another size', said.getvalue())
    self.assertTrue(os.path.exists(int8))
    for path in (
      result['report'],
      os.path.join(result['export'], model_card.NAME),
    ):
      with open(path) as file:
        text = file.read().replace('\\', '')
      self.assertIn('student_flexible.tflite', text)

    figures = self.run_dir.read('export/export.json')
    figures[run_dir.INT8]['accuracy'] = -0.5  # as if one lost much
    self.run_dir.write('export/export.json', figures)
    with self.assertRaisesRegex(errors.TrainingError, 'more than --max_drop'):
      self._compress(**options)
    self._save_student(options['student'])
    with self.assertRaisesRegex(errors.UsageError, 'student_sha256'):
      self._compress(**options)

  def _save_student(self, path):
    """Saves and returns a student with other weights than any before."""
    spec = specs.spec(fixtures.short_recipe(), fixtures.blobs())
    network = zoo.build('short', spec)
    network.save(path)
    return network

  @pytest.mark.slow
  def test_student_of_smaller_images_goes_the_whole_way(self):
    recipe = {'student_image_size': 6, 'student_layer': '-1'}
    result = self._compress(
      fixtures.blobs_and_unlabelled(), baseline=True, **recipe
    )
    paraphraser = self.run_dir.child('paraphraser').read('result.json')
    self.assertEqual(paraphraser['steps'], 14)  # 3 epochs of 72 images
    export = self.run_dir.read('export/export.json')
    own = fixtures.blobs().at(6)
    for name in (run_dir.KERAS, run_dir.FLOAT32, run_dir.INT8):
      predict = predictors.open_predictor(
        os.path.join(self.run_dir.path, 'export', name)
      )
      self.assertEqual(predict.image_size, 6)
      self.assertAlmostEqual(
        metrics.evaluate(predict, own.test)['accuracy'],
        export[name]['accuracy'],
      )
    rows = {row['method']: row for row in result['table']}
    self.assertAlmostEqual(
      rows['ft']['mean'], export[run_dir.KERAS]['accuracy']
    )
    self.assertIsNotNone(rows['scratch']['tflite_int8_bytes'])
    samples = self.run_dir.read('samples.json')
    png = base64.b64decode(samples[0]['png'])
    self.assertEqual(tf.io.decode_png(png).shape, (8, 8, 1))

  @pytest.mark.slow
  def test_interrupted_way_goes_on_where_it_was(self):
    with (
      mock.patch.object(
        export_student, 'export', side_effect=KeyboardInterrupt
      ),
      self.assertRaises(KeyboardInterrupt),
    ):
      self._compress()
    with mock.patch.object(loop, 'run', side_effect=AssertionError):
      result = self._compress()
    self.assertEqual(result['method'], 'ft')
    self.assertEqual(self._compress(), result)

  @pytest.mark.slow
  def test_student_without_transfer_needs_no_paraphraser(self):
    result = self._compress(method='scratch', baseline=True)
    self.assertEqual(result['method'], 'scratch')
    self.assertFalse(os.path.exists(self.run_dir.child('paraphraser').path))

  @pytest.mark.slow
  def test_linear_head_stands_beside_baseline_and_student(self):
    result = self._compress(
      student=self.teacher, seeds=2, baseline=True, linear_head=True
    )
    rows = {row['method']: row for row in result['table']}
    self.assertEqual([*rows], ['teacher', 'scratch', 'linear_head', 'ft'])
    self.assertEqual(rows['linear_head']['seeds'], 2)
    self.assertEqual(result['method'], 'ft')
    with open(result['report'], encoding='utf-8') as file:
      page = file.read()
    self.assertIn('linear head on frozen pretrained weights', page)
    self.assertEqual(
      self.run_dir.read('comparison/linear_head-1/result.json')['accuracy'],
      rows['linear_head']['accuracies'][1],
    )

  def test_linear_head_of_a_fresh_student_is_refused(self):
    for flags, reason in (
      ({'linear_head': True}, 'has fresh weights, .* --student_weights'),
      ({'method': 'linear_head'}, 'has fresh weights, .* --student_weights'),
      (
        {'method': 'linear_head', 'student': self.teacher, 'baseline': True},
        'give --method=scratch --linear_head',
      ),
    ):
      with self.assertRaisesRegex(errors.UsageError, reason):
        self._compress(**flags)
    self.assertFalse(self.run_dir.begun())

  @pytest.mark.slow
  def test_teacher_that_does_not_convert_leaves_its_cells_empty(self):
    export = export_student.export

    def fails(model, dataset, folder, **options):
      if model == self.run_dir.child('teacher').model:
        raise ValueError('an operation that TFLite lacks')
      return export(model, dataset, folder, **options)

    with mock.patch.object(export_student, 'export', fails):
      result = self._compress()
    self.assertIsNone(result['table'][0]['tflite_bytes'])
    self.assertIsNotNone(result['table'][1]['tflite_bytes'])

  def test_probabilities_that_do_not_show_are_asked_about(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, activation='sigmoid')(x)
    x = x / keras.ops.sum(x, axis=1, keepdims=True)
    keras.Model(image, x).save(self.teacher)
    with self.assertRaisesRegex(
      errors.UsageError, '--teacher_outputs=probabilities'
    ):
      self._compress()
    self.assertFalse(os.path.exists(self.run_dir.path))
    recipe = fixtures.short_recipe(
      teacher=self.teacher, teacher_outputs='probabilities'
    )
    self.assertIsNotNone(teachers.resolve(recipe, fixtures.blobs()))

  @pytest.mark.slow
  def test_complete_run_is_continued_in_int8_and_its_export_kept(self):
    exported = []

    def export(model, dataset, folder, *, ranges=None, **others):
      exported.append((os.path.relpath(folder, self.run_dir.path), ranges))
      return make(model, dataset, folder, ranges=ranges, **others)

    make = export_student.export
    before = self._compress(baseline=True)
    with mock.patch.object(export_student, 'export', export):
      result = self._compress(baseline=True, qat_epochs=1)
    self.assertEqual(
      result['qat'], self.run_dir.child('qat').read('result.json')
    )
    self.assertEqual(result['accuracy'], before['accuracy'])
    by_folder = dict(exported)
    self.assertEqual(
      by_folder['export'],
      quantisation_aware.read_ranges(self.run_dir.child('qat')),
    )
    # The baseline's file has as many steps, the teacher's is as it is.
    steps = self.run_dir.child('qat-scratch').read('result.json')['steps']
    self.assertEqual(steps, result['qat']['steps'])
    self.assertIsNotNone(by_folder['comparison/scratch-0/export'])
    self.assertIsNone(by_folder['teacher/export'])
    # The table tells the network before from that after, with a file of each.
    self.assertEqual(
      [(row['method'], row['seeds']) for row in result['table'][1:]],
      [
        ('scratch', 1),
        ('scratch,trained further in int8', 1),
        ('ft', 1),
        ('ft,trained further in int8', 1),
      ],
    )
    self.assertEqual(
      result['table'][-1]['mean'], result['qat']['float_accuracy']
    )
    self.assertNotIn(
      None, [row['tflite_int8_bytes'] for row in result['table']]
    )
    for name in ('export', 'comparison/scratch-0/export'):
      kept = self.run_dir.read(f'{name}-before-qat/export.json')
      self.assertEqual(set(kept), set(self.run_dir.read(f'{name}/export.json')))
    # Complete as it is now, and no other.
    with mock.patch.object(loop, 'run', side_effect=AssertionError):
      again = self._compress(baseline=True, qat_epochs=1)
    self.assertEqual(again, result)
    with self.assertRaisesRegex(errors.UsageError, 'qat.epochs: 1 saved, 2'):
      self._compress(baseline=True, qat_epochs=2)

  def test_student_that_no_twin_knows_is_refused_and_nothing_written(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, name='conv')(image)
    x = keras.layers.GaussianNoise(0.1, name='noise')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    path = os.path.join(os.path.dirname(self.teacher), 'noisy.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(path)
    with self.assertRaisesRegex(errors.UsageError, 'noise'):
      self._compress(student=path, student_layer='conv', qat_epochs=1)
    self.assertFalse(os.path.exists(self.run_dir.path))

  def test_what_does_not_fit_is_refused_and_nothing_written(self):
    source = fixtures.Blobs()
    source.label_names = ('left', 'right')
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      self._compress(datasets.Dataset(source))
    with self.assertRaisesRegex(errors.UsageError, 'unknown network'):
      self._compress(student='resnet9')
    with self.assertRaisesRegex(errors.UsageError, 'leaves no factor'):
      self._compress(rate=0.01)
    self.assertFalse(os.path.exists(self.run_dir.path))

  def test_failed_student_leaves_no_result(self):
    with (
      mock.patch.object(
        student, 'train_student', side_effect=errors.TrainingError('nan')
      ),
      self.assertRaises(errors.TrainingError),
    ):
      self._compress(method='scratch')
    self.assertIsNone(self.run_dir.read('result.json'))


if __name__ == '__main__':
  absltest.main()
