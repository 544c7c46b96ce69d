"""Teachers as users have them, each through the stages behind it."""

import contextlib
import io
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, recipe_fit, run_dir, specs, teachers
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import heads, model_files, zoo
from ft_tf.training import loop, paraphraser, student, teacher
from tests import fixtures, networks


def _sequential():
  """Returns a Sequential classifier of 0..1 that scales by itself."""
  return keras.Sequential(
    [
      keras.Input((8, 8, 1)),
      keras.layers.Rescaling(1 / 255),
      keras.layers.Conv2D(6, 3, padding='same', activation='relu', name='maps'),
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(3),
    ]
  )


def _normalised():
  """Returns a functional one with Rescaling and an adapted Normalization."""
  normalization = keras.layers.Normalization()
  normalization.adapt(fixtures.blobs().train.images / 255)
  image = keras.Input((8, 8, 1))
  x = normalization(keras.layers.Rescaling(1 / 255)(image))
  x = keras.layers.Conv2D(6, 3, strides=2, name='maps')(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.ReLU()(x)
  x = keras.layers.Flatten()(x)
  return keras.Model(image, keras.layers.Dense(3, activation='softmax')(x))


def _nested():
  """Returns a head on a backbone whose batch norm is frozen."""
  image = keras.Input((8, 8, 1))
  x = keras.layers.Conv2D(6, 3, padding='same', name='conv')(image)
  x = keras.layers.BatchNormalization(name='bn')(x)
  x = keras.layers.ReLU(name='maps')(x)
  backbone = keras.Model(image, x, name='backbone')
  backbone.get_layer('bn').trainable = False
  x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
  x = keras.layers.GlobalMaxPooling2D()(backbone(x))
  return keras.Model(image, keras.layers.Dense(3)(x))


def _mixed():
  """Returns one that was trained in bfloat16."""
  keras.config.set_dtype_policy('mixed_bfloat16')
  try:
    return _sequential()
  finally:
    keras.config.set_dtype_policy('float32')


def _seven():
  """Returns one with maps of 7x7 on images of 8x8."""
  image = keras.Input((8, 8, 1))
  x = keras.layers.Conv2D(6, 2, activation='relu', name='maps')(image)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3)(x))


def _transformer():
  return networks.transformer((8, 8, 1), 3)


def _open():
  """Returns a quantized one of any size, with a sigmoid for each class."""
  image = keras.Input((None, None, 1))
  x = keras.layers.Conv2D(6, 3, name='maps')(image)
  backbone = keras.Model(image, keras.layers.ReLU()(x), name='backbone')
  x = keras.layers.RandomFlip()(image)
  x = keras.layers.Rescaling(1 / 255)(x)
  x = keras.layers.GlobalAveragePooling2D()(backbone(x))
  x = keras.layers.Dropout(0.5)(x)
  model = keras.Model(image, keras.layers.Dense(3, activation='sigmoid')(x))
  model.quantize('int8')
  return model


def _channels_first():
  """Returns one of single images, with channels first within."""
  first = {'data_format': 'channels_first'}
  image = keras.Input((8, 8, 1), batch_size=1)
  x = keras.layers.Permute((3, 1, 2))(image)
  _, x = keras.ops.split(keras.ops.concatenate([x, x / 255], axis=1), 2, axis=1)
  x = keras.layers.Conv2D(5, 3, strides=2, padding='same', **first)(x)
  x = keras.layers.BatchNormalization(axis=1)(x)
  x = keras.layers.ReLU(name='maps')(x)
  x = keras.layers.GlobalAveragePooling2D(**first)(x)
  return keras.Model(image, keras.layers.Dense(3)(x))


def _registers():
  return networks.transformer((8, 8, 1), 3, extra=5)


class GivenTeacherTest(parameterized.TestCase):
  def _run(self, folder, name):
    return run_dir.RunDir(os.path.join(folder, name))

  @parameterized.named_parameters(
    ('nested', _nested, 'backbone/maps', 'float32'),
    ('transformer', _transformer, 'tokens', 'float32'),
    ('two_layers', _normalised, 'maps,-1', 'float32', '-2,auto'),
  )
  def test_goes_the_whole_way_to_a_student(
    self, make, layer, precision, student_layer='auto'
  ):
    self._assert_serves(make, layer, precision, student_layer)

  @parameterized.named_parameters(
    ('sequential', _sequential, 'auto', 'float32'),
    ('normalised', _normalised, 'auto', 'float32'),
    ('mixed_precision', _mixed, 'maps', 'float32'),
    ('of_a_mixed_precision_student', _sequential, 'maps', 'mixed_bfloat16'),
    ('seven_by_seven_maps', _seven, 'auto', 'float32', '-2'),  # on 4x4
    ('mixed_precision_transformer', _transformer, 'auto', 'mixed_bfloat16'),
  )
  @pytest.mark.slow
  def test_goes_the_whole_way_whatever_its_layers(
    self, make, layer, precision, student_layer='auto'
  ):
    self._assert_serves(make, layer, precision, student_layer)

  @parameterized.named_parameters(
    ('of_any_size', _open),
    ('channels_first', _channels_first),
    ('registers', _registers),
  )
  @pytest.mark.slow
  def test_unusual_teacher_goes_the_whole_way(self, make):
    self._assert_serves(make)

  def _assert_serves(
    self, make, layer='auto', precision='float32', student_layer='auto'
  ):
    keras.utils.set_random_seed(0)
    given = networks.disturb(make())
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'given.keras')
    given.save(path)
    dataset = fixtures.blobs()
    recipe = fixtures.short_recipe(
      teacher=path,
      teacher_layer=layer,
      student_layer=student_layer,
      precision=precision,
      paraphraser_epochs=1,
      student_epochs=1,
    )
    resolved = teachers.resolve(recipe, dataset)
    recipe = recipe_fit.check_parts(recipe, dataset, resolved.model).recipe
    work = {'strategy': fixtures.strategy(), 'options': loop.Options()}
    runs = {
      name: self._run(folder, name)
      for name in ('teacher', 'paraphraser', 'student')
    }
    placed = teacher.obtain_teacher(
      recipe, dataset, run=runs['teacher'], given=resolved, **work
    )
    # The class is the given model's, whatever was done to it.
    ours = metrics.logits(
      predictors.KerasPredictor(model_files.load(runs['teacher'].model)),
      dataset.test.images,
    )
    theirs = given.predict(dataset.test.images, batch_size=1, verbose=0)
    np.testing.assert_array_equal(ours.argmax(axis=1), theirs.argmax(axis=1))
    before = run_dir.digest(runs['teacher'].model)
    paraphrasers = paraphraser.train_paraphrasers(
      recipe,
      dataset,
      teacher=placed,
      run=runs['paraphraser'],
      **work,
    )
    result = student.train_student(
      recipe,
      dataset,
      teacher=placed,
      paraphrasers=paraphrasers,
      run=runs['student'],
      **work,
    )
    self.assertTrue(np.isfinite(result['loss']))
    rows = runs['student'].metrics()
    terms = [name for name in rows[-1] if name.startswith('factor_transfer')]
    self.assertLen(terms, len(paraphrasers))
    for term in terms:
      self.assertGreater(rows[-1][term], 0)
    self.assertEqual(before, run_dir.digest(runs['teacher'].model))

  def test_evaluation_changes_no_variable(self):
    for make in (_sequential, _normalised, _nested):
      model = networks.disturb(make())
      before = [tf.identity(v.value) for v in model.variables]
      metrics.evaluate(predictors.KerasPredictor(model), fixtures.blobs().test)
      for was, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, variable)


class TakenTest(absltest.TestCase):
  """How the file is read, and what of it a run keeps."""

  def setUp(self):
    super().setUp()
    folder = self.create_tempdir().full_path
    self.teacher = os.path.join(folder, 'mine.keras')
    self.run_dir = run_dir.RunDir(os.path.join(folder, 'run'))
    keras.utils.set_random_seed(0)

  def _obtain(self, recipe, given=None):
    """Writes the teacher that a recipe gives into the run's folder."""
    teacher.obtain_teacher(
      recipe,
      fixtures.blobs(),
      run=self.run_dir,
      given=given or teachers.resolve(recipe, fixtures.blobs()),
      strategy=fixtures.strategy(),
      options=loop.Options(),
    )

  def test_softmax_teacher_on_scaled_images_is_taken_as_it_wants_them(self):
    """A head on a backbone, trained on 0..1, that gives probabilities."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, padding='same', activation='relu')(image)
    backbone = keras.Model(image, x, name='backbone')
    x = keras.layers.Flatten()(backbone(image))
    x = keras.layers.Dense(3, activation='softmax')(x)
    model = keras.Model(image, x)
    # With a rate as high, and no more variables than the model has.
    model.compile(keras.optimizers.SGD(0.5), 'sparse_categorical_crossentropy')
    train = fixtures.blobs().train
    model.fit(train.images / 255, train.labels, epochs=10, verbose=0)
    test = fixtures.blobs().test
    answers = np.argmax(model(test.images / 255), axis=1)
    expected = np.mean(answers == test.labels)
    model.save(self.teacher)
    # What Keras calls the layer depends on those made before.
    name = backbone.layers[-1].name
    recipe = fixtures.short_recipe(
      teacher=self.teacher,
      preprocessing='0..1',
      teacher_layer=f'backbone/{name}',
    )
    given = teachers.resolve(recipe, fixtures.blobs())
    recipe_fit.check_parts(recipe, fixtures.blobs(), given.model)
    self._obtain(recipe, given)
    result = self.run_dir.read('result.json')
    self.assertAlmostEqual(result['accuracy'], expected)
    self.assertGreater(result['accuracy'], 0.6)
    ours = model_files.load(self.run_dir.model)
    self.assertFalse(heads.look_like_probabilities(ours(test.images).numpy()))
    self.assertIn(f'backbone.{name}', [layer.name for layer in ours.layers])

  def test_teacher_that_hardly_beats_chance_is_questioned(self):
    spec = specs.spec(fixtures.short_recipe(), fixtures.blobs())
    zoo.build('short-wide', spec).save(self.teacher)  # not trained
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      self._obtain(fixtures.short_recipe(teacher=self.teacher))
    self.assertIn('hardly better than chance', said.getvalue())
    self.assertIn('left, middle, right', said.getvalue())
    self.assertIn('--preprocessing=none', said.getvalue())

  def test_teacher_that_is_no_softmax_though_it_looks_so_stays_so(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(image))
    x = keras.layers.Dense(3, activation='softmax')(x)
    model = keras.Model(image, x)
    model.save(self.teacher)
    recipe = fixtures.short_recipe(
      teacher=self.teacher, teacher_outputs='logits'
    )
    self._obtain(recipe)
    images = fixtures.blobs().test.images
    np.testing.assert_allclose(
      teachers.load(self.run_dir.model, fixtures.blobs()).model(images),
      model(images),
      atol=1e-6,
    )

  def test_teacher_with_code_serves_when_it_is_trusted(self):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Lambda(lambda x: x / 255)(image)
    x = keras.layers.Conv2D(4, 3, activation='relu')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    model.save(self.teacher)
    recipe = fixtures.short_recipe(
      teacher=self.teacher, method='ft_no_paraphraser', student_epochs=1
    )
    with self.assertRaisesRegex(errors.UsageError, '--allow_unsafe_model'):
      teachers.resolve(recipe, fixtures.blobs())
    images = fixtures.blobs().test.images
    with fixtures.unsafe():
      given = teachers.resolve(recipe, fixtures.blobs())
      self.assertEqual(given.path, self.teacher)
      np.testing.assert_allclose(given.model(images), model(images), atol=1e-6)
      result = student.train_student(
        recipe,
        fixtures.blobs(),
        teacher=given,
        run=self.run_dir,
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
    self.assertIn('teacher_agreement', result)


if __name__ == '__main__':
  absltest.main()
