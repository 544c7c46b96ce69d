"""The whole way as a library call, with a teacher that is given."""

import os
from unittest import mock

import keras
from absl.testing import absltest

from ft_tf import compression, errors, run_dir
from ft_tf.data import datasets
from ft_tf.export import student as export_student
from ft_tf.models import zoo
from ft_tf.training import common, loop, student
from tests import fixtures


class CompressTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    with fixtures.strategy().scope():
      cls.network = zoo.build(
        'resnet14x0.5', common.spec(fixtures.recipe(), fixtures.blobs())
      )

  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.teacher = os.path.join(folder, 'mine.keras')
    self.network.save(self.teacher)
    self.run_dir = run_dir.RunDir(os.path.join(folder, 'run'))

  def _compress(self, dataset=None, seeds=1, baseline=False, **flags):
    return compression.compress(
      fixtures.recipe(teacher=self.teacher, **flags),
      dataset or fixtures.blobs(),
      run=self.run_dir,
      strategy=fixtures.strategy(),
      options=loop.Options(),
      seeds=seeds,
      baseline=baseline,
    )

  def test_given_teacher_is_measured_and_not_trained(self):
    result = self._compress(seeds=2, baseline=True)
    teacher = self.run_dir.child('teacher')
    self.assertEqual(teacher.read('result.json')['steps'], 0)
    with open(self.teacher, 'rb') as one, open(teacher.model, 'rb') as two:
      self.assertEqual(one.read(), two.read())
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
    samples = self.run_dir.read('samples.json')
    self.assertLessEqual(
      {'png', 'label', 'teacher', 'student', 'int8'}, samples[0].keys()
    )
    with open(result['report']) as file:
      self.assertIn('student, factor transfer', file.read())

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

  def test_student_without_transfer_needs_no_paraphraser(self):
    result = self._compress(method='scratch', baseline=True)
    self.assertEqual(result['method'], 'scratch')
    self.assertFalse(os.path.exists(self.run_dir.child('paraphraser').path))

  def test_teacher_that_does_not_convert_leaves_its_cells_empty(self):
    export = export_student.export

    def fails(model, dataset, folder):
      if model == self.run_dir.child('teacher').model:
        raise ValueError('an operation that TFLite lacks')
      return export(model, dataset, folder)

    with mock.patch.object(export_student, 'export', fails):
      result = self._compress()
    self.assertIsNone(result['table'][0]['tflite_bytes'])
    self.assertIsNotNone(result['table'][1]['tflite_bytes'])

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
      self._compress()
    self.assertIsNone(self.run_dir.read('result.json'))


if __name__ == '__main__':
  absltest.main()
