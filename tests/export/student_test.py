"""The export folder: complete, measured, and whole or not there."""

import contextlib
import copy
import dataclasses
import io
import json
import os
import tempfile
from unittest import mock

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, run_dir, specs
from ft_tf.data import datasets, image_ops
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import (
  calibration_images,
  layer_study,
  measuring,
  quantised,
  saved_model,
  student,
)
from ft_tf.export import folder as export_folder
from ft_tf.models import model_files, zoo
from tests import fixtures


def _save_small(path):
  """Writes a network that converts in no time, and returns it."""
  image = keras.Input((8, 8, 1))
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Flatten()(x)
  model = keras.Model(image, keras.layers.Dense(3)(x))
  model.save(path)
  return model


class ExportTest(absltest.TestCase):
  """One export of `model` is read by all tests of what an export is."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    cls.dataset = fixtures.blobs()
    model = zoo.build('short', specs.spec(fixtures.recipe(), cls.dataset))
    for _ in range(10):
      model(cls.dataset.train.images, training=True)
    root = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.model = os.path.join(root, 'model.keras')
    model.save(cls.model)
    cls.exported = os.path.join(root, 'export')
    with mock.patch.object(
      calibration_images,
      'over_full_range',
      wraps=calibration_images.over_full_range,
    ) as widened:
      cls.figures = student.export(cls.model, cls.dataset, cls.exported)
    # Once: the file and the study of the layers have the same ranges.
    (((cls.calibration,), _),) = widened.call_args_list

  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path
    self.folder = os.path.join(self.root, 'out', 'export')

  def test_folder_holds_every_format_with_its_figures(self):
    figures = self.figures
    self.assertCountEqual(
      os.listdir(self.exported),
      [
        'student.keras',
        'saved_model',
        'student_fp32.tflite',
        'student_fp16.tflite',
        'student_int8.tflite',
        'labels.txt',
        'export.json',
        'predictions.json',
        'latency.json',
        'layers.json',
        '.made_of.json',
      ],
    )
    with open(os.path.join(self.exported, 'export.json')) as file:
      self.assertEqual(json.load(file), figures)
    with open(os.path.join(self.exported, 'labels.txt')) as file:
      self.assertEqual(file.read().split(), ['left', 'middle', 'right'])
    expected = metrics.evaluate(
      predictors.open_predictor(self.model), self.dataset.test
    )
    for name in ('student.keras', 'saved_model', 'student_fp32.tflite'):
      self.assertAlmostEqual(figures[name]['accuracy'], expected['accuracy'])
      self.assertEqual(figures[name]['agreement'], 1.0)
      self.assertLess(figures[name]['max_logit_difference'], 1e-4)
    for name in ('fp32', 'fp16', 'int8'):
      path = os.path.join(self.exported, f'student_{name}.tflite')
      entry = figures[f'student_{name}.tflite']
      self.assertEqual(
        entry['preprocessing'],
        self.dataset.test.preprocessing.as_json((8, 8, 1)),
      )
      self.assertEqual(entry['bytes'], os.path.getsize(path))
      self.assertEqual(entry['latency_ms']['threads'], 1)
      self.assertGreater(entry['latency_ms']['p50'], 0)
      again = metrics.evaluate(
        predictors.open_predictor(path), self.dataset.test
      )
      self.assertEqual(entry['accuracy'], again['accuracy'])
    self.assertEqual(figures['student_int8.tflite']['input_dtype'], 'uint8')
    int8 = figures['student_int8.tflite']
    self.assertEqual(
      int8['input'],
      {'dtype': 'uint8', 'shape': [1, 8, 8, 1], 'scale': 1.0, 'zero_point': 0},
    )
    self.assertEqual(int8['output']['dtype'], 'uint8')
    self.assertGreater(int8['output']['scale'], 0)
    for entry in figures.values():
      self.assertLessEqual(
        entry['mean_logit_difference'], entry['max_logit_difference']
      )
      self.assertIn(entry['worst_class']['label'], ('left', 'middle', 'right'))

  def test_predictions_of_the_keras_and_the_int8_file_are_kept(self):
    predictions = run_dir.RunDir(self.exported).read('predictions.json')
    self.assertEqual(
      list(predictions), ['student.keras', 'student_int8.tflite']
    )
    for name, summary in predictions.items():
      self.assertEqual(summary['classes'], ['left', 'middle', 'right'])
      correct = sum(n for label, top, n in summary['confusion'] if label == top)
      self.assertAlmostEqual(correct / 24, self.figures[name]['accuracy'])

  def test_softmax_is_left_out_and_said(self):
    plain = os.path.join(self.root, 'plain.keras')
    model = _save_small(plain)
    soft = keras.Model(
      model.input, keras.layers.Softmax()(model.output), name='soft'
    )
    path = os.path.join(self.root, 'soft.keras')
    soft.save(path)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      figures = student.export(path, self.dataset, self.folder)
    self.assertIn('export: gives probabilities', said.getvalue())
    for name in ('saved_model', 'student_fp32.tflite'):
      self.assertLess(figures[name]['max_logit_difference'], 1e-4)
    wanted = metrics.evaluate(
      predictors.open_predictor(plain), self.dataset.test
    )
    self.assertAlmostEqual(
      figures['saved_model']['loss'], wanted['loss'], places=4
    )

  def test_model_of_values_that_are_not_finite_is_refused_by_its_path(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(3)((x - x) / (x - x)))
    path = os.path.join(self.root, 'diverged.keras')
    model.save(path)
    with self.assertRaisesRegex(
      errors.UsageError, r'diverged\.keras.* not finite .* of \d+ images'
    ):
      student.export(path, self.dataset, self.folder)
    self.assertFalse(os.path.exists(self.folder))

  def test_preprocessing_that_is_written_is_found_again(self):
    made = image_ops.Preprocessing('crop', ((24, 24), (8, 8)))
    names = ['student_int8.tflite', 'saved_model']
    run = run_dir.RunDir(os.path.dirname(self.folder))
    os.makedirs(self.folder)
    run.write(
      'export/export.json',
      {name: {'preprocessing': made.as_json((8, 8, 1))} for name in names},
    )
    for name in names:
      self.assertEqual(
        export_folder.recorded_preprocessing(os.path.join(self.folder, name)),
        {'resizing': 'crop', 'image_size': 24},
      )
    wide = image_ops.Preprocessing('crop', ((24, 40), (8, 8)))
    run.write(
      'export/export.json',
      {name: {'preprocessing': wide.as_json((8, 8, 1))} for name in names},
    )
    self.assertEqual(
      export_folder.recorded_preprocessing(os.path.join(self.folder, names[0])),
      {'resizing': 'crop', 'image_size': '24x40'},
    )
    own = image_ops.Preprocessing('crop', ())  # Images keep their own size.
    run.write(
      'export/export.json',
      {name: {'preprocessing': own.as_json((8, 8, 1))} for name in names},
    )
    name = os.path.join(self.folder, names[0])
    self.assertEqual(export_folder.recorded_preprocessing(name), {})
    # Of an export that an earlier version has left, the run knows it.
    run.write('export/export.json', {name: {} for name in names})
    self.assertEqual(export_folder.recorded_preprocessing(name), {})
    recipe = fixtures.recipe(image_size=32)
    run.write('recipe.json', dataclasses.asdict(recipe))
    known = {'resizing': 'stretch', 'image_size': 32}
    self.assertEqual(export_folder.recorded_preprocessing(name), known)
    self.assertEqual(export_folder.recorded_preprocessing(run.model), known)
    # Files that only lie in such folders are of no run.
    for other in ('mine.keras', 'export/other.tflite', 'below/model.keras'):
      path = os.path.join(run.path, other)
      self.assertEqual(export_folder.recorded_preprocessing(path), {})

  def test_int8_is_calibrated_on_training_images(self):
    train = {image.tobytes() for image in self.dataset.train.images}
    self.assertEqual({image.tobytes() for image in self.calibration}, train)

  def test_export_that_fails_leaves_nothing(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    with (
      mock.patch.object(quantised, 'tflite', side_effect=OSError),
      self.assertRaises(OSError),
    ):
      student.export(path, self.dataset, self.folder)
    self.assertEmpty(os.listdir(os.path.dirname(self.folder)))

  def test_export_that_is_there_is_returned_as_it_stands(self):
    with mock.patch.object(saved_model, 'write', side_effect=AssertionError):
      self.assertEqual(
        student.export(self.model, self.dataset, self.exported), self.figures
      )

  def test_missing_formats_are_added_to_an_export(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    for names in (('flexible',), ('dynamic',), ()):
      figures = student.export(
        path, self.dataset, self.folder, options=student.Options(names)
      )
    added = ['student_dynamic.tflite', 'student_flexible.tflite']
    self.assertCountEqual(figures, [*self.figures, *added])
    for name in added:
      self.assertTrue(os.path.exists(os.path.join(self.folder, name)))

  def test_compared_has_the_files_that_tables_show_and_keeps_them(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    compared = {'is_compared': True}
    figures = student.export(path, self.dataset, self.folder, **compared)
    files = [run_dir.KERAS, run_dir.FLOAT32, run_dir.INT8]
    self.assertEqual([*figures], files)
    models = [
      name for name in os.listdir(self.folder) if name in run_dir.EXPORTED
    ]
    self.assertCountEqual(models, files)
    with mock.patch.object(measuring, 'measure', side_effect=AssertionError):
      again = student.export(path, self.dataset, self.folder, **compared)
    self.assertEqual(again, figures)
    # Those of other images, or classes, are not told for them.
    others = [copy.copy(self.dataset) for _ in range(2)]
    others[0].label_names = ['one', 'two', 'three']
    others[1].test = self.dataset.test.take(np.arange(5))
    others[1]._source = mock.Mock(fingerprint='other')
    for other in others:
      with self.assertRaisesRegex(errors.UsageError, 'for other test images'):
        student.export(path, other, self.folder, **compared)

  def test_format_that_there_is_no_use_for_is_told_of_and_not_made(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    lines, options = [], student.Options(('mixed',))
    studied = {'repair': [], 'layers': [{'layer': 'conv2d'}]}
    with mock.patch.object(layer_study, 'study', return_value=studied):
      figures = student.export(
        path, self.dataset, self.folder, status=lines.append, options=options
      )
    self.assertNotIn(run_dir.MIXED, figures)
    self.assertIn(f'{run_dir.MIXED} is not made: no layer', '\n'.join(lines))
    with mock.patch.object(saved_model, 'write', side_effect=AssertionError):
      self.assertEqual(
        student.export(path, self.dataset, self.folder, options=options),
        figures,
      )

  def test_unknown_format_is_refused_with_the_closest(self):
    with self.assertRaisesRegex(errors.UsageError, 'int16x8, onnx'):
      student.Options(('float8',))
    with self.assertRaisesRegex(errors.UsageError, 'did you mean dynamic'):
      student.Options(('dynamics',))

  def test_export_of_an_earlier_layout_is_refused(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    os.makedirs(self.folder)
    for made_of in ({}, {'.model_sha256': 'a'}, {'.made_of.json': '{}'}):
      for name, content in made_of.items():
        with open(os.path.join(self.folder, name), 'w') as file:
          file.write(content)
      with self.assertRaisesRegex(errors.UsageError, 'delete it, or give'):
        student.export(path, self.dataset, self.folder)

  def test_training_images_that_do_not_serve_are_refused(self):
    path = os.path.join(self.root, 'small.keras')
    _save_small(path)
    same = np.full((30, 8, 8, 1), 9, np.uint8)
    for images, message in (
      (self.dataset.train.images[:19], '19 are too few'),
      (same, 'are all the same'),
    ):
      with (
        mock.patch.object(
          student.sampling,
          'sample',
          return_value=mock.Mock(images=images),
        ),
        self.assertRaisesRegex(errors.UsageError, message),
      ):
        student.export(path, self.dataset, self.folder)
      self.assertFalse(os.path.exists(self.folder))

  def test_dead_student_keeps_its_files_of_real_numbers(self):
    path = os.path.join(self.root, 'dead.keras')
    model = _save_small(path)
    model.layers[-1].kernel.assign(np.zeros(model.layers[-1].kernel.shape))
    model.save(path)
    for _ in range(2):
      with self.assertRaisesRegex(errors.TrainingError, 'the same logits'):
        student.export(path, self.dataset, self.folder)
      names = os.listdir(self.folder)
      self.assertIn('student_fp32.tflite', names)
      self.assertNotIn('student_int8.tflite', names)

  def test_export_of_another_model_is_not_passed_off_as_this_ones(self):
    other = os.path.join(self.root, 'other.keras')
    _save_small(other)
    with self.assertRaisesRegex(errors.UsageError, 'another model'):
      student.export(other, self.dataset, self.exported)

  def test_quantized_model_is_refused_and_nothing_written(self):
    model = model_files.load(self.model)
    model.quantize('int8')
    path = os.path.join(self.root, 'int8.keras')
    model.save(path)
    with self.assertRaisesRegex(errors.UsageError, 'quantized by Keras'):
      student.export(path, self.dataset, self.folder)
    self.assertFalse(os.path.exists(self.folder))

  def test_model_of_other_classes_is_refused_and_nothing_written(self):
    source = fixtures.Blobs()
    source.label_names = ('left', 'right')
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      student.export(self.model, datasets.Dataset(source), self.folder)
    self.assertFalse(os.path.exists(os.path.dirname(self.folder)))


if __name__ == '__main__':
  absltest.main()
