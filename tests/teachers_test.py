"""A teacher is loaded once, and what is computed of it is kept."""

import os
from unittest import mock

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, run_dir, specs, teachers
from ft_tf.data import datasets, example_sets
from ft_tf.evaluation import metrics
from ft_tf.methods import registry
from ft_tf.models import model_files, zoo
from ft_tf.signals import compiled
from tests import fixtures


class TeacherTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.dataset = fixtures.blobs()
    self.spec = specs.spec(fixtures.recipe(), self.dataset)
    keras.utils.set_random_seed(1)
    self.path = os.path.join(self.create_tempdir().full_path, 'teacher.keras')
    zoo.build('resnet8x0.25', self.spec).save(self.path)
    self.teacher = teachers.load(self.path, self.dataset)

  def _terms(self, method, dataset=None, **values):
    return registry.make(
      fixtures.recipe(method=method, **values),
      registry.Parts(
        teacher=self.teacher.model,
        student=zoo.build('resnet8x0.25', self.spec),
        paraphrasers=[],
        examples=(dataset or self.dataset).train,
      ),
    )

  def test_logits_are_those_of_the_file_and_computed_once(self):
    test = self.dataset.test
    expected = keras.models.load_model(self.path)(test.images, training=False)
    with mock.patch.object(metrics, 'logits', wraps=metrics.logits) as compute:
      first = self.teacher.logits(test)
      # The same images in another object, and after the teacher has moved.
      again = fixtures.blobs().test
      moved = self.teacher.stored_at('elsewhere.keras')
      self.assertIs(moved.logits(again), first)
      compute.assert_called_once()
      self.assertLen(self.teacher.logits(test.take(np.arange(5))), 5)
      self.assertEqual(compute.call_count, 2)
    np.testing.assert_allclose(first, expected, atol=1e-4)

  def test_images_of_another_size_of_the_same_files_are_other_images(self):
    examples = fixtures.blobs((16, 16, 1)).test
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    teacher = teachers.Teacher(model=model, path='', given_as='it')
    whole, small = examples.resized((8, 8)), examples.resized((12, 12))
    self.assertNotEqual(
      teacher.logits(whole).tolist(), teacher.logits(small).tolist()
    )

  def test_signal_is_compiled_once_for_equal_terms(self):
    with mock.patch.object(
      compiled, 'compile_signal', wraps=compiled.compile_signal
    ) as compile_signal:
      first = self.teacher.signal(self._terms('at'), 'float32')
      # Of another student, whose seed and weight of the loss differ.
      again = self._terms('at', seed=3, at_beta=7.0)
      self.assertIs(self.teacher.signal(again, 'float32'), first)
      compile_signal.assert_called_once()
      other = self.teacher.signal(self._terms('at+kd'), 'float32')
      self.assertIsNot(other, first)
      self.assertIsNot(self.teacher.signal(again, 'mixed_float16'), first)

  def test_signals_that_images_decide_are_told_apart(self):
    class Brighter(fixtures.Blobs):
      def read(self, split):
        examples = super().read(split)
        return example_sets.Examples(
          examples.images // 2 + 100, examples.labels
        )

    brighter = datasets.Dataset(Brighter(), validation_examples=8)
    here = self.teacher.signal(self._terms('ofd'), 'float32')
    there = self.teacher.signal(self._terms('ofd', brighter), 'float32')
    self.assertIsNot(here, there)
    images = self.dataset.test.images
    self.assertGreater(np.abs(here.rows(images) - there.rows(images)).max(), 0)

  def test_teacher_is_frozen_and_known_by_its_bytes(self):
    self.assertEmpty(self.teacher.model.trainable_variables)
    self.assertEqual(self.teacher.sha256, run_dir.digest(self.path))

  def test_teacher_of_other_classes_is_refused(self):
    source = fixtures.Blobs()
    source.label_names = ('left', 'right')
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      teachers.load(self.path, datasets.Dataset(source))


class ResolveTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'given.keras')

  def _save(self, activation):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation='relu')(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation=activation)(x))
    model.save(self.path)
    return model

  def test_network_to_train_is_no_teacher_yet(self):
    dataset = fixtures.blobs()
    recipe = fixtures.recipe()
    self.assertIsNone(teachers.resolve(recipe, dataset))
    network = teachers.network(recipe, dataset, None)
    self.assertEqual(network.output_shape, (None, 3))

  def test_file_of_logits_is_the_teacher_itself(self):
    self._save(None)
    given = teachers.resolve(
      fixtures.recipe(teacher=self.path), fixtures.blobs()
    )
    self.assertEqual((given.path, given.notes), (self.path, ()))

  def test_file_that_was_changed_has_no_file_of_its_own_yet(self):
    model = self._save('softmax')
    dataset = fixtures.blobs()
    given = teachers.resolve(fixtures.recipe(teacher=self.path), dataset)
    self.assertEqual(given.path, '')
    self.assertIn('gives probabilities', given.notes[0])
    np.testing.assert_allclose(
      keras.ops.softmax(given.logits(dataset.test)),
      model(dataset.test.images),
      atol=1e-5,
    )

  def test_model_that_is_loaded_already_is_not_loaded_again(self):
    self._save(None)
    original = model_files.load(self.path)
    with mock.patch.object(model_files, 'load', side_effect=AssertionError):
      given = teachers.resolve(
        fixtures.recipe(teacher=self.path), fixtures.blobs(), original
      )
    self.assertIs(given.original, original)


if __name__ == '__main__':
  absltest.main()
