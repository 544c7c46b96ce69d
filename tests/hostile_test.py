"""Data as users have it: sorted by class, dark, not square, of any channels.

What is measured on some of the images must not depend on their order.
"""

import json
import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import compression, doctor, knowledge, run_dir, specs
from ft_tf.data import datasets, example_sets
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import calibration_images
from ft_tf.export import student as export_student
from ft_tf.methods import overhaul, registry, soft_targets
from ft_tf.models import layer_choice, zoo
from ft_tf.training import gradients, loop, stage
from tests import fixtures


def _recipe(**values):
  return fixtures.short_recipe(
    dataset='hostile',
    validation_examples=14,
    batch_size=14,
    mean=(0.1, 0.1, 0.1),
    std=(0.1, 0.1, 0.1),
    **values,
  )


def _classes(images) -> np.ndarray:
  """Returns the class that each image of `fixtures.Hostile` shows."""
  images = np.asarray(images[:], np.float32)
  columns = images[:, 2:8].mean(axis=(1, 3))[:, :12]
  return columns.reshape(len(images), 3, 4).mean(axis=2).argmax(axis=1)


class SampleTest(parameterized.TestCase):
  """Everyone who looks at some of the images looks at all classes."""

  def setUp(self):
    super().setUp()
    self.dataset = fixtures.hostile()
    # What is tested here: the first images are all of one class.
    self.assertLen({*self.dataset.train.labels[:14]}, 1)
    recipe = _recipe()
    keras.utils.set_random_seed(3)
    spec = specs.spec(recipe, self.dataset)
    self.teacher = zoo.build('short', spec)
    self.student = zoo.build('short', spec)

  def assert_all_classes(self, images):
    counts = np.bincount(_classes(images), minlength=3) / len(images)
    np.testing.assert_allclose(counts, np.array([4, 2, 1]) / 7, atol=0.12)

  def test_gradients_are_measured_on_all_classes(self):
    def compile_measure(*args, **kwargs):
      return lambda batch: batches.append(batch) or {'kd': (1.0, 0.0)}

    batches = []
    methods = [soft_targets.SoftTargets(alpha=0.5, temperature=4.0)]
    with mock.patch.object(gradients, 'compile_measure', compile_measure):
      gradients.term_figures(None, self.student, methods, self.dataset, 14)()
    (batch,) = batches
    self.assert_all_classes(batch['image'].numpy())
    np.testing.assert_array_equal(
      _classes(batch['image'].numpy()), batch['label']
    )

  def test_statistics_are_those_of_all_images(self):
    rng = np.random.default_rng(0)
    brightness = np.repeat([10, 60, 110], [1500, 1000, 500])
    images = brightness[:, None, None, None] + rng.integers(
      5, size=(3000, 2, 3, 1)
    )
    examples = example_sets.Examples(images.astype(np.uint8), brightness // 50)
    (mean,), (std,) = example_sets.statistics(examples)
    self.assertAlmostEqual(mean, images.mean() / 255, delta=0.005)
    self.assertAlmostEqual(std, images.std() / 255, delta=0.005)

  def test_int8_is_calibrated_on_all_classes(self):
    with (
      mock.patch.object(calibration_images, 'COUNT', 20),
      mock.patch.object(
        export_student, '_write_models', side_effect=InterruptedError
      ) as write,
      self.assertRaises(InterruptedError),
    ):
      folder = self.create_tempdir().full_path
      path = os.path.join(folder, 'model.keras')
      self.student.save(path)
      export_student.export(path, self.dataset, os.path.join(folder, 'export'))
    source = write.call_args.args[0]
    self.assert_all_classes(source.calibration)

  def test_pictured_maps_are_of_several_classes(self):
    self.assertGreater(len({*_classes(stage.shown_images(self.dataset))}), 1)

  def test_margins_of_ofd_are_of_all_classes(self):
    seen = []

    def responses(features, names, images):
      seen.append(images)
      return [np.float32(0)] * len(names)

    with (
      mock.patch.object(overhaul, '_IMAGES', 14),
      mock.patch.object(overhaul, '_mean_negative_responses', responses),
    ):
      registry.make(
        _recipe(method='ofd'),
        registry.Parts(self.teacher, self.student, [], self.dataset.train),
      )
    self.assert_all_classes(seen[0])

  def test_linear_probe_learns_all_classes(self):
    layer = layer_choice.last_feature_map(self.student)
    with mock.patch.object(knowledge, '_PROBED', 21):
      accuracy = knowledge._probe(self.student, layer, self.dataset)
    # Of one class, a regression could not be fitted.
    self.assertGreater(accuracy, 0.5)

  def test_features_are_compared_on_all_classes(self):
    with mock.patch.object(knowledge, '_COMPARED', 7):
      self.assertLen({*_classes(knowledge._validation_sample(self.dataset))}, 3)

  def test_rehearsals_are_of_all_classes(self):
    part = fixtures.hostile().part(28)
    for examples in (part.train, part.test):
      self.assertLen({*examples.labels}, 3)

  def test_doctor_looks_at_all_classes(self):
    with mock.patch.object(doctor, '_SAMPLED', 7):
      values = next(
        finding
        for finding in doctor._check_data(_recipe(), self.dataset)
        if finding.what == 'values'
      )
    self.assertRegex(values.says, r'values 0 to 11\d;')


class MainPathTest(absltest.TestCase):
  """A folder of such images, and a student with dropout, from end to end."""

  def _write(self, root, mode):
    """Writes grey or colour images, sorted by class, dark, of several sizes."""
    rng = np.random.default_rng(0)
    for label in range(3):
      folder = os.path.join(root, f'class {label}')
      os.makedirs(folder)
      for i in range(20):
        height, width = rng.integers(12, 30, size=2)
        image = rng.integers(30, size=(height, width, 3))
        third = width // 3
        image[:, label * third : (label + 1) * third] += 90
        image = Image.fromarray(image.astype(np.uint8)).convert(mode)
        image.save(os.path.join(folder, f'{i:02d}.png'))

  def _dropout_student(self, shape):
    image = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, padding='same', activation='relu')(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(8, 3, padding='same', activation='relu')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    path = os.path.join(self.create_tempdir().full_path, 'student.keras')
    keras.Model(image, keras.layers.Dense(3)(x)).save(path)
    return path

  @pytest.mark.slow
  def test_grey_and_colour_folders_are_compressed_and_measured_alike(self):
    for mode, size, shape in (
      ('L', 16, (16, 16, 1)),
      ('RGB', '16x24', (16, 24, 3)),
    ):
      channels = shape[-1]
      root = self.create_tempdir().full_path
      self._write(root, mode)
      recipe = fixtures.short_recipe(
        dataset=f'folder:{root}',
        image_size=size,
        resizing='crop',
        pad=0,
        flip=False,
        mean=(0.1,) * channels,
        std=(0.1,) * channels,
        validation_examples=0,
        teacher_epochs=20,
        paraphraser_epochs=2,
        student_epochs=3,
        beta='auto',
        teacher_drop_epochs=(15,),
        student=self._dropout_student(shape),
      )
      data_dir = self.create_tempdir().full_path
      dataset = datasets.Dataset.from_recipe(recipe.data, data_dir)
      run = run_dir.RunDir(self.create_tempdir().full_path + '/run')
      result = compression.compress(
        recipe,
        dataset,
        run=run,
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
      with open(os.path.join(result['export'], 'export.json')) as file:
        figures = json.load(file)
      int8 = figures[run_dir.INT8]
      self.assertGreater(int8['agreement'], 0.9)
      images = dataset.test.images[:]
      self.assertEqual(images.shape[1:], shape)
      of_keras, of_file = (
        predictors.open_predictor(os.path.join(result['export'], name))(images)
        for name in (run_dir.KERAS, run_dir.FLOAT32)
      )
      np.testing.assert_allclose(of_file, of_keras, atol=1e-4)
      predict = predictors.open_predictor(
        os.path.join(result['export'], run_dir.INT8)
      )
      again = metrics.evaluate(predict, dataset.test)
      self.assertEqual(again['accuracy'], int8['accuracy'])
      self.assertGreater(
        run.child('teacher').read('result.json')['accuracy'], 0.9
      )


if __name__ == '__main__':
  absltest.main()
