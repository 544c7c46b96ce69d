"""What a network is built for, and what is counted as a parameter."""

import contextlib
import io
import os

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, recipe_fit, recipe_flags, run_dir, specs
from ft_tf.data import example_sets
from ft_tf.export import device_limits
from ft_tf.models import applications, layers, zoo
from ft_tf.training import loop, student, student_stage
from tests import fixtures


class SpecTest(absltest.TestCase):
  def test_statistics_of_another_number_of_channels_are_refused(self):
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    with self.assertRaisesRegex(errors.UsageError, 'has 1 channels.*--mean'):
      specs.spec(recipe, fixtures.blobs())


class StatisticsTest(absltest.TestCase):
  def test_images_own_stand_where_the_recipes_cannot_apply(self):
    dataset = fixtures.blobs()
    recipe = fixtures.recipe(mean=(0.5,) * 3, std=(0.5,) * 3)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      settled = specs.settle_statistics(recipe, dataset)
    mean, std = example_sets.statistics(dataset.train)
    self.assertEqual((settled.data.mean, settled.data.std), (mean, std))
    self.assertRegex(
      printed.getvalue(), rf'^mean and std: {mean[0]} and .*\n\Z'
    )
    self.assertEqual(specs.spec(settled, dataset).mean, mean)
    # As if they had been typed: nothing else changes, and it stays so.
    typed = fixtures.recipe(mean=mean, std=std)
    self.assertEqual(settled, typed)
    self.assertIs(specs.settle_statistics(typed, dataset), typed)


class StudentWeightsTest(absltest.TestCase):
  """A student of keras.applications that starts from a file of weights."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.dataset = fixtures.blobs((32, 32, 3))
    self.network = applications.plain('mobilenetx0.25', (32, 32, 3), classes=7)
    self.path = os.path.join(self.folder, 'seven.weights.h5')
    self.network.save_weights(self.path)
    self.recipe = fixtures.recipe(
      mean=(0.4,) * 3,
      std=(0.2,) * 3,
      student='mobilenetx0.25',
      student_weights=self.path,
      method='scratch',
    )

  def test_first_layer_sees_of_raw_images_what_it_was_trained_on(self):
    model = specs.build_student(self.recipe, self.dataset)
    self.assertEqual(model.output_shape, (None, 3))
    images = self.dataset.test.images
    found = keras.Model(model.inputs[0], model.get_layer('normalize').output)
    np.testing.assert_allclose(found(images), images / 127.5 - 1, atol=1e-6)
    for name in ('conv1', 'conv_pw_13', 'conv_pw_13_bn'):
      for ours, theirs in zip(
        model.get_layer(name).get_weights(),
        self.network.get_layer(name).get_weights(),
        strict=True,
      ):
        np.testing.assert_array_equal(ours, theirs)

  def test_what_is_loaded_is_said(self):
    self.assertEqual(
      specs.describe_start(self.recipe, self.dataset),
      f'{self.path} is where training starts, but for a fresh head of 3 '
      'classes (it has 7 classes); images are normalised as mobilenetx0.25 has '
      'them in keras.applications',
    )
    self.assertEqual(
      specs.describe_start(fixtures.recipe(), fixtures.blobs()), ''
    )

  def test_content_of_the_file_identifies_the_run(self):
    identity = student_stage.StudentStage(
      self.recipe, self.dataset, None, (), None, None
    ).identity()
    self.assertEqual(identity['student_sha256'], run_dir.digest(self.path))
    self.assertEqual(identity['student']['student_weights'], self.path)

  def test_missing_file_is_refused_and_nothing_is_written(self):
    run = run_dir.RunDir(os.path.join(self.folder, 'run'))
    for values in (
      {'student_weights': 'none.h5'},
      {'student_weights': '', 'student': 'none.keras'},
    ):
      with self.assertRaisesRegex(
        errors.UsageError, '^cannot read none.* give the path of a file$'
      ):
        student.train_student(
          recipe_flags.override(self.recipe, values),
          self.dataset,
          run=run,
          strategy=fixtures.strategy(),
          options=loop.Options(),
        )
    self.assertFalse(os.path.exists(run.path))

  def test_limits_do_not_choose_another_network_for_them(self):
    recipe = recipe_flags.override(self.recipe, {'student': 'mobilenetv2'})
    with self.assertRaisesRegex(
      errors.UsageError, 'are of --student=mobilenetv2 alone: leave them out'
    ):
      recipe_fit.within(
        device_limits.Limits('9'),
        recipe,
        self.dataset,
        run_dir.RunDir(self.folder),
      )


class StudentFileTest(absltest.TestCase):
  """A student that starts from a `.keras` file."""

  def _build(self, *, frozen=(), **penalties):
    """Returns what is said of a file, and the student made of it."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, name='conv', **penalties)(images)
    x = keras.layers.BatchNormalization(name='norm')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(3, name='head')(x))
    for layer in model.layers:
      layer.trainable = layer.name not in frozen
    path = os.path.join(self.create_tempdir().full_path, 'student.keras')
    model.save(path)
    recipe, dataset = fixtures.recipe(student=path), fixtures.blobs()
    said = specs.describe_start(recipe, dataset).removeprefix(
      f'{path} is where training starts'
    )
    return said, specs.build_student(recipe, dataset)

  def test_layers_frozen_in_part_stay_so_and_it_is_said(self):
    said, model = self._build(frozen=('conv', 'norm'))
    self.assertEqual(said, '; 24 of its 33 weights stay frozen')
    self.assertEqual(
      {v.path.split('/')[0] for v in model.trainable_weights}, {'head'}
    )

  def test_frozen_as_a_whole_it_is_trained_and_it_is_said(self):
    said, model = self._build(frozen=('conv', 'norm', 'head'))
    self.assertEqual(said, '; its layers, all of them frozen, are trained')
    self.assertLen(model.trainable_weights, 6)

  def test_regularizers_are_told(self):
    told = '; its regularizers count in the loss, beside the weight decay'
    for penalty in ('kernel_regularizer', 'activity_regularizer'):
      self.assertEqual(self._build(**{penalty: 'l2'})[0], told)
    self.assertEqual(self._build()[0], '')
    said, _ = self._build(frozen=('conv',), kernel_regularizer='l2')
    self.assertEqual(said, '; 20 of its 33 weights stay frozen')


class ParametersTest(absltest.TestCase):
  def test_moving_statistics_do_not_count_and_freezing_changes_nothing(self):
    model = zoo.build(
      'resnet20', layers.Spec((32, 32, 3), 10, (0.5,) * 3, (0.5,) * 3)
    )
    self.assertEqual(specs.count_parameters(model), 272_474)
    model.trainable = False
    self.assertEqual(specs.count_parameters(model), 272_474)


if __name__ == '__main__':
  absltest.main()
