"""Factor transfer by compile and fit: what moves, what is equal, any task."""

import inspect
import os
from unittest import mock

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

import ft_tf
from ft_tf import definitions, errors, factors, recipes, specs
from ft_tf.data import views
from ft_tf.methods import registry
from ft_tf.models import fused, zoo
from ft_tf.signals import compiled
from ft_tf.training import distillation, sgd
from ft_tf.training import paraphraser as paraphraser_stage
from tests import fixtures, networks, small_models

_SHAPE = (8, 8, 1)
_LABELS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _network(channels, outputs=None, *, shape=_SHAPE, strides=1, dropout=0.0):
  """Returns a small network without batch norm, its feature map `maps`."""
  image = keras.Input(shape)
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(
    channels, 3, strides, padding='same', activation='relu', name='maps'
  )(x)
  if outputs:
    return keras.Model(image, outputs(x))
  x = keras.layers.GlobalAveragePooling2D()(x)
  if dropout:
    x = keras.layers.Dropout(dropout)(x)
  x = keras.layers.Dense(3, dtype='float32')(x)
  return keras.Model(image, x)


def _distiller(seed=0, teacher=None, student=None, **arguments):
  """Returns a distiller of small networks with first weights by the seed."""
  keras.utils.set_random_seed(seed)
  return ft_tf.Distiller(
    teacher or _network(6),
    student or _network(4),
    **{'teacher_layer': 'maps', 'student_layer': 'maps', **arguments},
  )


def _data(count=16):
  train = fixtures.blobs().train
  return train.images[:count].astype(np.float32), train.labels[:count]


def _trained(seed=0, **arguments):
  """Returns a distiller with a paraphraser that counts as trained."""
  keras.utils.set_random_seed(seed)
  paraphraser = factors.Paraphraser(0.5)
  paraphraser.build((None, 8, 8, 6))
  distiller = _distiller(seed, paraphraser=paraphraser, **arguments)
  distiller.compile(keras.optimizers.SGD(0.1), _LABELS)
  return distiller


def _assert_weights_close(test, ours, theirs, atol=1e-5):
  test.assertEqual(len(ours), len(theirs))
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)


class EqualStepsTest(parameterized.TestCase):
  """The steps are those of the project's own compiled loops."""

  def _parts(self, method='ft', **values):
    recipe = fixtures.recipe(method=method, **values)
    keras.utils.set_random_seed(0)
    spec = specs.spec(recipe, fixtures.blobs())
    teacher = networks.disturb(zoo.build('resnet8x0.5', spec))
    student = zoo.build('resnet8x0.25', spec)
    with fixtures.strategy().scope():
      twin = zoo.build('resnet8x0.25', spec)
    twin.set_weights(student.get_weights())
    distiller = ft_tf.Distiller(
      teacher,
      student,
      method=method,
      rate=recipe.paraphraser.rate,
      beta=recipe.student.beta,
      beta_elements=recipe.student.beta_elements,
      p=recipe.student.p,
      reconstruction=recipe.paraphraser.reconstruction,
    )
    stream = views.stream(
      fixtures.blobs().train, recipe.data, seed=0, first_step=0, last_step=3
    )
    batches = stream.map(lambda batch: (batch['image'], batch['label']))
    return recipe, teacher, twin, distiller, stream, batches

  def test_student_and_translator(self):
    self._check_steps('ft', {})

  @parameterized.parameters(
    ('ft', {'p': 2, 'beta': 500.0, 'beta_elements': 2048}),
    ('ft_no_paraphraser', {}),
    ('ft_no_translator', {}),
  )
  @pytest.mark.slow
  def test_student_and_translator_of_other_numbers(self, method, values):
    self._check_steps(method, values)

  def _check_steps(self, method, values):
    recipe, teacher, twin, distiller, stream, batches = self._parts(
      method, **values
    )
    if distiller.paraphrasers:
      distiller.fit_paraphraser(batches, verbose=0)
    strategy = fixtures.strategy()
    with strategy.scope():
      methods = registry.make(
        recipe,
        registry.Parts(
          teacher=teacher,
          student=twin,
          paraphrasers=distiller.paraphrasers,
          examples=fixtures.blobs().train,
        ),
      )
      optimizer, _ = sgd.make(recipe.student, 3.0)
      optimizer.build(distillation.trained_variables(twin, methods))
    adapters = [m.adapter for m in methods if m.adapter is not None]
    for adapter, translator in zip(
      adapters, distiller.translators, strict=True
    ):
      adapter.set_weights(translator.get_weights())
    train_steps = distillation.compile_steps(
      strategy,
      twin,
      methods,
      optimizer,
      distillation.make_forward(
        twin,
        methods,
        16,
        signal=compiled.compile_signal(teacher, methods, 'float32'),
      ),
    )
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(3)
    )
    distiller.compile(sgd.make(recipe.student, 3.0)[0], _LABELS)
    history = distiller.fit(batches, verbose=0).history
    _assert_weights_close(
      self, distiller.student.get_weights(), twin.get_weights()
    )
    for adapter, translator in zip(
      adapters, distiller.translators, strict=True
    ):
      _assert_weights_close(
        self, translator.get_weights(), adapter.get_weights()
      )
    for ours, theirs in (
      ('loss', 'loss'),
      ('task_loss', 'cross_entropy'),
      ('factor_transfer', 'factor_transfer'),
    ):
      np.testing.assert_allclose(
        history[ours][0], np.mean(terms[theirs]), rtol=1e-4
      )

  @parameterized.parameters('l1', 'l2')
  def test_paraphraser(self, kind):
    recipe, teacher, _, distiller, stream, batches = self._parts(
      reconstruction=kind, paraphraser_learning_rate=1.0
    )
    (ours,) = distiller.paraphrasers
    first = ours.get_weights()
    strategy = fixtures.strategy()
    with strategy.scope():
      theirs = factors.Paraphraser(0.5)
      theirs.build((None, 2, 2, 32))
      optimizer, _ = sgd.make(recipe.paraphraser, 3.0)
      optimizer.build(theirs.trainable_variables)
    theirs.set_weights(first)
    train_steps = paraphraser_stage.compile_steps(
      strategy,
      paraphraser_stage.compile_feature(teacher, 'group3', 'float32'),
      theirs,
      optimizer,
      kind,
      16,
    )
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(3)
    )
    history = distiller.fit_paraphraser(
      batches, optimizer=sgd.make(recipe.paraphraser, 3.0)[0], verbose=0
    )
    np.testing.assert_allclose(
      history.history['loss'][0], np.mean(terms['loss']), rtol=1e-4
    )
    moved = zip(ours.get_weights(), first, strict=True)
    self.assertGreater(
      max(np.abs(now - then).max() for now, then in moved), 0.01
    )
    _assert_weights_close(self, ours.get_weights(), theirs.get_weights())

  def test_defaults_are_those_of_the_flags(self):
    defaults = {
      name: parameter.default
      for name, parameter in inspect.signature(
        ft_tf.Distiller
      ).parameters.items()
    }
    fields = {leaf.flag: leaf.field.default for leaf in recipes.leaves()}
    shared = defaults.keys() & fields.keys() - {'teacher', 'student'}
    self.assertLen(shared, 11)
    for name in shared:
      self.assertEqual(defaults[name], fields[name], name)
    numbers = definitions.registered()['ft'].number_fields()
    # Without beta_ratio, the target of beta='auto'.
    self.assertContainsSubset(
      {field.name for field in numbers} - {'beta_ratio'}, shared
    )


class StepTest(parameterized.TestCase):
  def test_a_step_moves_student_and_translator_once_and_nothing_else(self):
    keras.utils.set_random_seed(0)
    teacher, student = networks.pair()
    twin = keras.models.clone_model(student)
    twin.set_weights(student.get_weights())
    distiller = ft_tf.Distiller(teacher, student)
    # As many as the student and a translator of three convolutions have.
    self.assertLen(student.trainable_variables, 29)
    self.assertLen(distiller.trainable_variables, 35)
    images = networks.images(8, 16, 1)
    distiller.fit_paraphraser(images, verbose=0)
    frozen = [teacher, *distiller.paraphrasers]
    before = [model.get_weights() for model in frozen]
    moving = [v.numpy() for v in distiller.trainable_variables]
    distiller.compile(keras.optimizers.SGD(0.1), _LABELS)
    distiller.fit(images, np.arange(8) % 3, batch_size=8, verbose=0)
    # One forward pass in training mode moves batch norm's statistics once.
    fused.fuse(twin)(images, training=True)
    _assert_weights_close(
      self,
      [v.numpy() for v in student.non_trainable_variables],
      [v.numpy() for v in twin.non_trainable_variables],
    )
    for variable, then in zip(
      distiller.trainable_variables, moving, strict=True
    ):
      self.assertTrue((variable.numpy() != then).any(), variable.path)
    for model, weights in zip(frozen, before, strict=True):
      for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)

  def test_weights_of_examples_count_in_both_losses(self):
    images, labels = _data(16)
    alone = _trained()
    alone.fit(images[:8], labels[:8], batch_size=8, verbose=0)
    # A mean over 16 with the weights 2 and 0 is the mean over the first 8.
    weights = np.repeat([2.0, 0.0], 8)
    for shape in ((16,), (16, 1)):
      weighted = _trained()
      data = tf.data.Dataset.from_tensors(
        (images, labels, np.reshape(weights, shape))
      )
      weighted.fit(data, verbose=0)
      _assert_weights_close(
        self, weighted.student.get_weights(), alone.student.get_weights()
      )
      _assert_weights_close(
        self,
        weighted.translators[0].get_weights(),
        alone.translators[0].get_weights(),
      )

  def test_weights_of_examples_count_for_the_paraphraser(self):
    images, _ = _data(16)
    alone, weighted = _distiller(), _distiller()
    alone.fit_paraphraser(images[:8], batch_size=8, verbose=0)
    weights = np.repeat([2.0, 0.0], 8)
    weighted.fit_paraphraser(
      tf.data.Dataset.from_tensors((images, images, weights)), verbose=0
    )
    _assert_weights_close(
      self,
      weighted.paraphrasers[0].get_weights(),
      alone.paraphrasers[0].get_weights(),
    )

  def test_weights_of_pixels_leave_the_factor_loss(self):
    losses = []
    for weight in (1.0, 0.0):
      keras.utils.set_random_seed(0)
      distiller = _trained(
        student=_network(4, lambda x: keras.layers.Conv2D(3, 1)(x))
      )
      weights = np.full((16, 8, 8), weight)
      images, _ = _data(16)
      data = (images, np.zeros((16, 8, 8)), weights)
      history = distiller.fit(
        tf.data.Dataset.from_tensors(data), verbose=0
      ).history
      losses.append((history['task_loss'][0], history['factor_transfer'][0]))
    self.assertEqual(losses[0][1], losses[1][1])
    self.assertGreater(losses[0][0], 0)
    self.assertEqual(losses[1][0], 0)

  def test_two_replicas_equal_one(self):
    images, labels = _data(48)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    results = []
    for replicas in (1, 2):
      with fixtures.strategy(replicas).scope():
        distiller = _distiller()
      first = distiller.fit_paraphraser(data, epochs=2, verbose=0)
      with fixtures.strategy(replicas).scope():
        distiller.compile('sgd', _LABELS, metrics=['accuracy'])
      second = distiller.fit(data, epochs=2, validation_data=data, verbose=0)
      results.append((distiller.get_weights(), first.history, second.history))
    (one, *one_logs), (two, *two_logs) = results
    _assert_weights_close(self, two, one)
    for ours, theirs in zip(two_logs, one_logs, strict=True):
      self.assertEqual(ours.keys(), theirs.keys())
      for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)

  def test_eager_equals_compiled(self):
    images, labels = _data(24)
    weights = []
    for eager in (False, True):
      distiller = _distiller()
      distiller.fit_paraphraser(images, batch_size=16, verbose=0, shuffle=False)
      distiller.compile(keras.optimizers.SGD(0.1), _LABELS, run_eagerly=eager)
      distiller.fit(images, labels, batch_size=16, verbose=0, shuffle=False)
      weights.append(distiller.get_weights())
    _assert_weights_close(self, *weights)

  @parameterized.parameters('mixed_bfloat16', 'mixed_float16')
  def test_half_precision_is_the_students(self, policy):
    images, labels = _data(16)
    full = _trained()
    full_history = full.fit(images, labels, batch_size=16, verbose=0).history
    keras.config.set_dtype_policy(policy)
    self.addCleanup(keras.config.set_dtype_policy, 'float32')
    keras.utils.set_random_seed(0)
    networks_ = _network(6), _network(4)
    # Whatever the policy is when they are connected.
    keras.config.set_dtype_policy('float32')
    half = _trained(teacher=networks_[0], student=networks_[1])
    self.assertEqual(half.dtype_policy.name, policy)
    self.assertEqual(
      isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer),
      policy == 'mixed_float16',
    )
    history = half.fit(images, labels, batch_size=16, verbose=0).history
    np.testing.assert_allclose(
      history['task_loss'], full_history['task_loss'], rtol=0.02
    )
    for variable in half.trainable_variables:
      self.assertEqual(variable.dtype, 'float32')


def _heads(x):
  pooled = keras.layers.GlobalAveragePooling2D()(x)
  return {
    'place': keras.layers.Dense(2, name='place')(pooled),
    'mask': keras.layers.Conv2D(1, 1, name='mask')(x),
  }


class TaskTest(parameterized.TestCase):
  """The task is the user's: any outputs, targets, losses and data sets."""

  @parameterized.named_parameters(
    (
      'regression',
      lambda x: keras.layers.Dense(2)(keras.layers.Flatten()(x)),
      lambda _, labels: np.stack([labels, -labels], axis=1).astype(np.float32),
      'mse',
    ),
    (
      'labels',
      lambda x: keras.layers.Dense(3)(keras.layers.GlobalMaxPooling2D()(x)),
      lambda _, labels: np.float32(labels[:, None] >= np.arange(3)),
      keras.losses.BinaryCrossentropy(from_logits=True),
    ),
    (
      'pixels',
      lambda x: keras.layers.Conv2D(3, 1)(x),
      lambda images, _: (images[..., 0] > 100).astype(np.int64),
      _LABELS,
    ),
    (
      'dict',
      _heads,
      lambda _, labels: {
        'place': np.stack([labels, labels], axis=1).astype(np.float32),
        'mask': np.ones((len(labels), 8, 8, 1), np.float32),
      },
      {'place': 'mse', 'mask': 'mae'},
    ),
    (
      'list',
      lambda x: list(_heads(x).values()),
      lambda _, labels: (
        np.stack([labels, labels], axis=1).astype(np.float32),
        np.ones((len(labels), 8, 8, 1), np.float32),
      ),
      {'place': 'mse', 'mask': 'mae'},
    ),
  )
  def test_task(self, outputs, targets, loss):
    images, labels = _data(48)
    keras.utils.set_random_seed(0)
    student = _network(4, outputs)
    distiller = _distiller(student=student)
    distiller.fit_paraphraser(images, epochs=3, verbose=0)
    distiller.compile(keras.optimizers.Adam(3e-3), loss)
    data = tf.data.Dataset.from_tensor_slices((images, targets(images, labels)))
    data = data.batch(16)
    history = distiller.fit(
      data, epochs=8, validation_data=data, verbose=0
    ).history
    for name in ('loss', 'task_loss', 'factor_transfer', 'val_loss'):
      self.assertLess(history[name][-1], history[name][0], name)
    self.assertNoCommonElements(
      history, ['val_task_loss', 'val_factor_transfer']
    )
    # What is called, evaluated and predicted is the student alone.
    student.compile(loss=loss)
    scores = distiller.evaluate(data, verbose=0, return_dict=True)
    alone = student.evaluate(data, verbose=0, return_dict=True)
    self.assertEqual(scores.keys(), alone.keys())
    for name, value in alone.items():
      self.assertAlmostEqual(scores[name], value, places=5)
    keras.tree.map_structure(
      np.testing.assert_array_equal,
      distiller.predict(images, verbose=0),
      student.predict(images, verbose=0),
    )

  def test_a_step_without_a_batch_does_not_count(self):
    # So Keras finds the end of a data set of unknown length.
    images, labels = _data(32)
    known = tf.data.Dataset.from_tensor_slices((images, labels))
    known = known.batch(16, drop_remainder=True)
    unknown = known.filter(lambda *_: True)
    results = []
    for data in (known, unknown):
      distiller = _distiller()
      history = [distiller.fit_paraphraser(data, verbose=0).history]
      distiller.compile('sgd', _LABELS, metrics=['accuracy'])
      history.append(
        distiller.fit(data, validation_data=data, verbose=0).history
      )
      self.assertEqual(int(distiller.optimizer.iterations), 2)
      results.append(history)
    for ours, theirs in zip(*results, strict=True):
      self.assertEqual(ours.keys(), theirs.keys())
      for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)

  def test_data_of_unknown_length_with_a_smaller_last_batch(self):
    images, labels = _data(40)

    def batches():
      for first in range(0, 40, 16):
        yield images[first : first + 16], labels[first : first + 16]

    data = tf.data.Dataset.from_generator(
      batches,
      output_signature=(
        tf.TensorSpec([None, None, None, 1], tf.float32),
        tf.TensorSpec([None], tf.int64),
      ),
    )
    ours, theirs = _trained(), _trained()
    first = ours.fit(data, verbose=0).history
    arrays = theirs.fit(
      images, labels, batch_size=16, shuffle=False, verbose=0
    ).history
    for name in arrays:
      np.testing.assert_allclose(first[name], arrays[name], rtol=1e-5)
    _assert_weights_close(self, ours.get_weights(), theirs.get_weights())

  def test_images_that_are_not_square_and_maps_of_other_sizes(self):
    hostile = fixtures.hostile().train
    shape = hostile.images.shape[1:]
    for strides in ((2, 1), (1, 2)):
      keras.utils.set_random_seed(0)
      distiller = _distiller(
        teacher=_network(6, shape=shape, strides=strides[0]),
        student=_network(4, shape=shape, strides=strides[1]),
      )
      distiller.fit_paraphraser(hostile.images, epochs=2, verbose=0)
      distiller.compile('adam', _LABELS)
      history = distiller.fit(
        hostile.images, hostile.labels, epochs=4, verbose=0
      ).history
      losses = history['factor_transfer']
      self.assertLess(losses[-1], losses[0])

  def test_dropout_of_the_student_is_in_training_alone(self):
    images, labels = _data(16)
    distiller = _trained(student=_network(4, dropout=0.5))
    distiller.compile(keras.optimizers.SGD(0.0), _LABELS)
    data = {'x': images, 'y': labels, 'batch_size': 16, 'verbose': 0}
    losses = distiller.fit(**data, epochs=3).history['task_loss']
    self.assertLen(set(losses), 3)
    self.assertEqual(distiller.evaluate(**data), distiller.evaluate(**data))

  def test_callbacks_see_and_steer_the_training(self):
    images, labels = _data(16)
    distiller = _trained()
    path = os.path.join(self.create_tempdir().full_path, 'best.weights.h5')
    rates = []
    distiller.fit(
      images,
      labels,
      epochs=3,
      validation_split=0.5,
      verbose=0,
      callbacks=[
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
        keras.callbacks.LambdaCallback(
          on_epoch_end=lambda epoch, logs: rates.append(
            (float(distiller.optimizer.learning_rate), logs['val_loss'])
          )
        ),
        keras.callbacks.ModelCheckpoint(
          path, save_weights_only=True, save_best_only=True
        ),
      ],
    )
    np.testing.assert_allclose(
      [rate for rate, _ in rates], [0.1, 0.05, 0.1 / 3], rtol=1e-6
    )
    again = _distiller(seed=5)
    again.load_weights(path)
    again.compile(loss=_LABELS)
    best = min(loss for _, loss in rates)
    self.assertAlmostEqual(
      again.evaluate(images[8:], labels[8:], verbose=0), best, places=5
    )


class SavingTest(absltest.TestCase):
  def test_weights_are_all_but_the_teachers_and_training_goes_on(self):
    images, labels = _data(16)
    teacher = _network(6)
    first = _trained(teacher=teacher)
    path = os.path.join(self.create_tempdir().full_path, 'it.weights.h5')
    first.save_weights(path)
    with h5py.File(path) as file:
      paths = []
      file.visit(paths.append)
      self.assertNotIn('teacher', ' '.join(paths))
      kernels = [
        value.shape
        for value in map(file.get, paths)
        if isinstance(value, h5py.Dataset) and value.ndim == 4
      ]
    # The student's convolution, six of a paraphraser, three of a translator.
    self.assertLen(kernels, 10)
    second = _distiller(seed=7, teacher=teacher)
    second.load_weights(path)  # The paraphraser's, so that it is trained.
    second.compile(keras.optimizers.SGD(0.1), _LABELS)
    for distiller in (first, second):
      distiller.fit(images, labels, batch_size=16, verbose=0)
    _assert_weights_close(self, first.get_weights(), second.get_weights())

  def test_weights_that_are_loaded_reach_a_compiled_step(self):
    images, labels = _data(16)
    teacher = _network(6)
    first, second = (_trained(seed, teacher=teacher) for seed in (0, 1))
    path = os.path.join(self.create_tempdir().full_path, 'it.weights.h5')
    first.save_weights(path)
    second.fit(images, labels, verbose=0)  # Compiles its first paraphraser.
    second.load_weights(path)
    second.reset_metrics()
    losses = [
      each.train_on_batch(images, labels, return_dict=True)['factor_transfer']
      for each in (first, second)
    ]
    self.assertAlmostEqual(*losses, places=6)

  def test_a_paraphraser_that_is_trained_on_reaches_a_compiled_step(self):
    images, labels = _data(16)
    distiller = _trained()
    distiller.compile(keras.optimizers.SGD(0.0), _LABELS)
    data = {'x': images, 'y': labels, 'batch_size': 16, 'verbose': 0}
    before = distiller.fit(**data).history['factor_transfer']
    distiller.fit_paraphraser(images, epochs=20, verbose=0)
    after = distiller.fit(**data).history['factor_transfer']
    self.assertNotAlmostEqual(before[0], after[0], places=5)

  def test_whole_is_not_saved_and_the_student_is(self):
    distiller = _trained()
    folder = self.create_tempdir().full_path
    with self.assertRaisesRegex(errors.UsageError, 'save distiller.student'):
      distiller.save(os.path.join(folder, 'whole.keras'))
    path = os.path.join(folder, 'student.keras')
    distiller.student.save(path)
    images, _ = _data(16)
    np.testing.assert_array_equal(
      keras.models.load_model(path)(images), distiller(images)
    )


class NestedTest(absltest.TestCase):
  def _nested(self, channels):
    image = keras.Input(_SHAPE, name='image')
    x = keras.layers.Conv2D(channels, 3, padding='same', name='inner')(image)
    backbone = keras.Model(image, keras.layers.ReLU()(x), name='backbone')
    return keras.Sequential(
      [
        keras.Input(_SHAPE),
        keras.layers.Rescaling(1 / 255),
        backbone,
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
      ]
    )

  def test_nested_models_are_opened_and_stay_as_they_are(self):
    images, labels = _data(16)
    keras.utils.set_random_seed(0)
    teacher, student = self._nested(6), self._nested(4)
    distiller = ft_tf.Distiller(
      teacher,
      student,
      teacher_layer='backbone/inner',
      student_layer='backbone/inner',
    )
    (term,) = distiller._parts.terms
    self.assertEqual(term.teacher_layers, ('backbone.inner',))
    before = student.get_weights()
    distiller.fit_paraphraser(images, verbose=0)
    distiller.compile(keras.optimizers.SGD(0.1), _LABELS)
    distiller.fit(images, labels, verbose=0)
    # Both were given by their owner, who knows them by these names.
    for model in (teacher, student):
      self.assertEqual(
        [layer.name for layer in model.get_layer('backbone').layers][:2],
        ['image', 'inner'],
      )
    for weight, then in zip(student.weights, before, strict=True):
      self.assertTrue((weight.numpy() != then).any(), weight.path)
    path = os.path.join(self.create_tempdir().full_path, 'student.keras')
    distiller.student.save(path)
    np.testing.assert_array_equal(
      keras.models.load_model(path)(images), student(images)
    )

  @pytest.mark.slow
  def test_several_layers_have_a_paraphraser_and_a_translator_each(self):
    keras.utils.set_random_seed(0)
    teacher, student = networks.pair()
    distiller = ft_tf.Distiller(
      teacher,
      student,
      teacher_layer='group2,group3',
      student_layer='group2,group3',
    )
    images = networks.images(8, 16, 1)
    losses = distiller.fit_paraphraser(images, epochs=2, verbose=0).history
    self.assertLess(losses['loss'][1], losses['loss'][0])
    distiller.compile(keras.optimizers.SGD(0.1), _LABELS)
    history = distiller.fit(images, np.arange(8) % 3, verbose=0).history
    self.assertContainsSubset(
      ['factor_transfer_1', 'factor_transfer_2', 'task_loss'], history
    )
    self.assertLen(distiller.trainable_variables, 29 + 12)


class RefusedTest(parameterized.TestCase):
  def test_fit_before_fit_paraphraser(self):
    images, labels = _data(16)
    distiller = _distiller()
    distiller.compile('sgd', _LABELS)
    for train in (distiller.fit, distiller.train_on_batch):
      with self.assertRaisesRegex(
        errors.UsageError, 'not trained: call fit_paraphraser before fit'
      ):
        train(images, labels)

  def test_a_trained_paraphraser_is_taken_as_it_is(self):
    images, labels = _data(16)
    first = _trained()
    (paraphraser,) = first.paraphrasers
    before = paraphraser.get_weights()
    distiller = _distiller(paraphraser=paraphraser)
    distiller.compile('sgd', _LABELS)
    distiller.fit(images, labels, verbose=0)
    self.assertIs(distiller.paraphrasers[0], paraphraser)
    for now, then in zip(paraphraser.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_method_without_paraphraser_has_none_to_train(self):
    images, labels = _data(16)
    distiller = _distiller(method='ft_no_paraphraser')
    distiller.compile('sgd', _LABELS)
    distiller.fit(images, labels, verbose=0)
    with self.assertRaisesRegex(errors.UsageError, 'leave out fit_paraphraser'):
      distiller.fit_paraphraser(images)

  def test_paraphraser_that_diverges_is_an_error(self):
    with self.assertRaisesRegex(errors.TrainingError, 'lower learning rate'):
      _distiller().fit_paraphraser(
        _data()[0] * np.nan, epochs=1, batch_size=16, verbose=0
      )

  def test_data_of_other_images(self):
    distiller = _distiller()
    with self.assertRaisesRegex(
      errors.UsageError, r'take images \[B, 8, 8, 1\]: give batches of these'
    ):
      distiller.fit_paraphraser(np.zeros((4, 9, 8, 1)), verbose=0)
    distiller = _trained()
    with self.assertRaisesRegex(errors.UsageError, 'data set has .*Tensor'):
      distiller.fit(np.zeros((4, 8, 8, 3)), np.zeros(4), verbose=0)

  @parameterized.parameters(
    ({'student': small_models.Subclassed()}, 'the student must take images'),
    ({'teacher': 'teacher.keras'}, 'teacher is a str: give a keras.Model'),
    ({'student': _network(4, shape=(8, 9, 1))}, 'Resizing'),
    ({'student': _network(4, shape=(8, 8, 3))}, r'of \(8, 8, 1\), the student'),
    (
      {
        'teacher': _network(6, shape=(None, None, 1)),
        'student': _network(4, shape=(None, None, 1)),
      },
      'keras.Input of a fixed size',
    ),
    ({'method': 'kd'}, "method='kd': give one of ft, ft_no_paraphraser"),
    ({'beta': 'auto'}, 'may have another loss: give a number'),
    ({'beta': -1.0}, 'beta=-1.0: weight of the factor loss'),
    ({'p': 3}, 'p=3'),
    ({'rate': 0.01}, 'of 6 feature channels leaves no factor'),
    ({'teacher_layer': 'no'}, "no feature map 'no'"),
    ({'paraphraser': factors.Paraphraser(0.5)}, 'without weights'),
    ({'paraphraser': 'it.keras'}, 'paraphraser is a str'),
    (
      {'teacher_layer': 'maps,maps'},
      'teacher_layer=maps,maps and student_layer=maps: give as many layers',
    ),
  )
  def test_what_does_not_fit(self, arguments, message):
    with self.assertRaisesRegex(errors.UsageError, message) as error:
      _distiller(**arguments)
    self.assertNotRegex(str(error.exception), r'--|\n')

  def test_student_that_shares_weights_with_the_teacher(self):
    teacher = _network(6)
    part = keras.Model(teacher.input, teacher.get_layer('maps').output)
    for student in (teacher, part):
      with self.assertRaisesRegex(errors.UsageError, 'share weights'):
        _distiller(teacher=teacher, student=student)

  def test_other_backend(self):
    with mock.patch.object(keras.backend, 'backend', return_value='jax'):
      with self.assertRaisesRegex(
        errors.UsageError, 'KERAS_BACKEND=tensorflow'
      ):
        _distiller()


class _Translates(keras.distillation.DistillationLoss):
  """Factor transfer as Keras's way of distillation would have it."""

  teacher_layer_name = student_layer_name = 'maps'

  def __init__(self, paraphraser, translator):
    super().__init__()
    self.paraphraser, self.translator = paraphraser, translator

  def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
    each = ft_tf.losses.factor_transfer(
      self.translator(student_outputs), self.paraphraser.encode(teacher_outputs)
    )
    return keras.ops.mean(each)


class KerasTest(absltest.TestCase):
  """Why Keras's own Distiller does not do; the class's docstring says so."""

  def setUp(self):
    super().setUp()
    if not keras.__version__.startswith('3.15.'):
      self.skipTest('is of Keras 3.15; look again, and adapt the docstring')
    keras.utils.set_random_seed(0)
    self.paraphraser = factors.Paraphraser(0.5)
    self.paraphraser.build((None, 8, 8, 6))
    self.translator = factors.Translator(3)
    self.translator.build((None, 8, 8, 4))

  def _fit(self, student):
    distiller = keras.distillation.Distiller(
      _network(6), student, _Translates(self.paraphraser, self.translator)
    )
    distiller.compile(keras.optimizers.SGD(0.1), _LABELS)
    images, labels = _data(16)
    distiller.fit(images, labels, batch_size=16, verbose=0)
    return distiller

  def test_it_does_not_train_a_translator(self):
    student = _network(4)
    before = self.translator.get_weights()
    distiller = self._fit(student)
    self.assertLen(
      distiller.trainable_variables, len(student.trainable_variables)
    )
    for now, then in zip(self.translator.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_it_runs_the_student_twice_per_step(self):
    image = keras.Input(_SHAPE)
    x = keras.layers.Conv2D(4, 3, padding='same', name='maps')(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name='norm')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    student = keras.Model(image, keras.layers.Dense(3)(x))
    maps = student.get_layer('maps')(_data(16)[0])
    self._fit(student)
    mean = np.mean(maps, axis=(0, 1, 2))
    # Once would be half the mean; twice, with the same weights, three quarters.
    np.testing.assert_allclose(
      student.get_layer('norm').moving_mean, 0.75 * mean, rtol=1e-4
    )


if __name__ == '__main__':
  absltest.main()
