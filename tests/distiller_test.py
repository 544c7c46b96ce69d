"""Factor transfer by compile and fit: what moves, is saved, is refused."""

import os
from unittest import mock

import h5py
import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

import ft_tf
from ft_tf import errors, factors
from ft_tf.models import fused, layers
from tests import fixtures, networks, small_models
from tests import small_distillers as small


class StepTest(parameterized.TestCase):
  def test_a_step_moves_student_and_translator_once_and_nothing_else(self):
    keras.utils.set_random_seed(0)
    spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
    teacher, student = networks.short(spec, 8), networks.short(spec, 4)
    twin = keras.models.clone_model(student)
    twin.set_weights(student.get_weights())
    distiller = ft_tf.Distiller(teacher, student)
    # As many as the student and a translator of three convolutions have.
    self.assertLen(student.trainable_variables, 12)
    self.assertLen(distiller.trainable_variables, 18)
    images = networks.images(8, 16, 1)
    distiller.fit_paraphraser(images, optimizer='sgd', verbose=0)
    frozen = [teacher, *distiller.paraphrasers]
    before = [model.get_weights() for model in frozen]
    moving = [v.numpy() for v in distiller.trainable_variables]
    distiller.compile(keras.optimizers.SGD(0.1), small.LABELS)
    distiller.fit(images, np.arange(8) % 3, batch_size=8, verbose=0)
    # One forward pass in training mode moves batch norm's statistics once.
    fused.fuse(twin)(images, training=True)
    small.assert_weights_close(
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

  def test_step_is_that_of_fit_for_layers_frozen_later_and_own_losses(self):
    penalties = {'kernel_regularizer': 'l2', 'activity_regularizer': 'l1'}
    images, labels = small.data(8)
    ends = []
    for kind in ('distiller', 'fit'):
      keras.utils.set_random_seed(0)
      image = keras.Input(small.SHAPE)
      x = keras.layers.Conv2D(4, 3, name='maps', **penalties)(image)
      x = keras.layers.BatchNormalization(name='frozen')(x)
      x = keras.layers.Conv2D(4, 1, strides=2, **penalties)(x)
      x = keras.layers.BatchNormalization(name='freed', trainable=False)(x)
      x = keras.layers.GlobalAveragePooling2D()(x)
      model = student = keras.Model(image, keras.layers.Dense(3)(x))
      if kind == 'distiller':
        model = small.trained(student=student, beta=0.0)
      for name in ('frozen', 'freed'):
        layer = student.get_layer(name)
        layer.trainable = not layer.trainable
      model.compile(keras.optimizers.SGD(0.1), small.LABELS)
      history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
      ends.append((history.history['loss'], student.get_weights()))
    (losses, ours), (expected, theirs) = ends
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    small.assert_weights_close(self, ours, theirs)

  def test_weights_of_examples_count_in_both_losses(self):
    images, labels = small.data(16)
    alone = small.trained()
    alone.train_on_batch(images[:8], labels[:8])
    # A mean over 16 with the weights 2 and 0 is the mean over the first 8.
    weights = np.repeat([2.0, 0.0], 8)
    for shape in ((16,), (16, 1)):
      weighted = small.trained()
      data = tf.data.Dataset.from_tensors(
        (images, labels, np.reshape(weights, shape))
      )
      weighted.fit(data, verbose=0)
      small.assert_weights_close(
        self, weighted.student.get_weights(), alone.student.get_weights()
      )
      small.assert_weights_close(
        self,
        weighted.translators[0].get_weights(),
        alone.translators[0].get_weights(),
      )

  def test_weights_of_examples_count_for_the_paraphraser(self):
    images, _ = small.data(16)
    alone, weighted = small.make(), small.make()
    alone.fit_paraphraser(
      images[:8], optimizer=keras.optimizers.SGD(0.1), batch_size=8, verbose=0
    )
    weights = np.repeat([2.0, 0.0], 8)
    weighted.fit_paraphraser(
      tf.data.Dataset.from_tensors((images, images, weights)),
      optimizer=keras.optimizers.SGD(0.1),
      verbose=0,
    )
    small.assert_weights_close(
      self,
      weighted.paraphrasers[0].get_weights(),
      alone.paraphrasers[0].get_weights(),
    )

  def test_weights_of_pixels_leave_the_factor_loss(self):
    losses = []
    images, _ = small.data(16)
    distiller = small.trained(
      student=small.network(4, lambda x: keras.layers.Conv2D(3, 1)(x))
    )
    distiller.compile(keras.optimizers.SGD(0.0), small.LABELS)
    for weight in (1.0, 0.0):
      weights = np.full((16, 8, 8), weight)
      data = (images, np.zeros((16, 8, 8)), weights)
      history = distiller.fit(
        tf.data.Dataset.from_tensors(data), verbose=0
      ).history
      losses.append((history['task_loss'][0], history['factor_transfer'][0]))
    self.assertEqual(losses[0][1], losses[1][1])
    self.assertGreater(losses[0][0], 0)
    self.assertEqual(losses[1][0], 0)

  def test_two_replicas_equal_one(self):
    images, labels = small.data(48)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)
    results = []
    for strategy in (tf.distribute.get_strategy(), fixtures.strategy(2)):
      with strategy.scope():
        distiller = small.make()
      first = distiller.fit_paraphraser(data, optimizer='sgd', verbose=0)
      with strategy.scope():
        distiller.compile('sgd', small.LABELS, metrics=['accuracy'])
      second = distiller.fit(data, validation_data=data, verbose=0)
      results.append((distiller.get_weights(), first.history, second.history))
    (one, *one_logs), (two, *two_logs) = results
    small.assert_weights_close(self, two, one)
    for ours, theirs in zip(two_logs, one_logs, strict=True):
      self.assertEqual(ours.keys(), theirs.keys())
      for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)

  def test_eager_equals_compiled(self):
    images, labels = small.data(24)
    weights = []
    for eager in (False, True):
      distiller = small.trained()
      distiller.compile(
        keras.optimizers.SGD(0.1), small.LABELS, run_eagerly=eager
      )
      distiller.fit(images, labels, batch_size=16, verbose=0, shuffle=False)
      weights.append(distiller.get_weights())
    small.assert_weights_close(self, *weights)

  def test_half_precision_is_the_students(self):
    images, labels = small.data(16)
    full = small.trained().train_on_batch(images, labels, return_dict=True)
    self.addCleanup(keras.config.set_dtype_policy, 'float32')
    for policy in ('mixed_bfloat16', 'mixed_float16'):
      keras.config.set_dtype_policy(policy)
      keras.utils.set_random_seed(0)
      teacher, student = small.network(6), small.network(4)
      # Whatever the policy is when they are connected.
      keras.config.set_dtype_policy('float32')
      half = small.trained(teacher=teacher, student=student)
      self.assertEqual(half.dtype_policy.name, policy)
      self.assertEqual(
        isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer),
        policy == 'mixed_float16',
      )
      history = half.fit(images, labels, batch_size=16, verbose=0).history
      np.testing.assert_allclose(
        history['task_loss'], [full['task_loss']], rtol=0.02
      )
      for variable in half.trainable_variables:
        self.assertEqual(variable.dtype, 'float32')


class SavingTest(absltest.TestCase):
  def test_weights_are_all_but_the_teachers_and_training_goes_on(self):
    images, labels = small.data(16)
    teacher = small.network(6)
    first = small.trained(teacher=teacher)
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
    second = small.make(seed=7, teacher=teacher)
    second.load_weights(path)  # The paraphraser's, so that it is trained.
    second.compile(keras.optimizers.SGD(0.1), small.LABELS)
    for distiller in (first, second):
      distiller.fit(images, labels, batch_size=16, verbose=0)
    small.assert_weights_close(self, first.get_weights(), second.get_weights())

  def test_weights_that_are_loaded_reach_a_compiled_step(self):
    images, labels = small.data(16)
    teacher = small.network(6)
    first, second = (small.trained(seed, teacher=teacher) for seed in (0, 1))
    path = os.path.join(self.create_tempdir().full_path, 'it.weights.h5')
    first.save_weights(path)
    second.train_on_batch(images, labels)  # Compiles its first paraphraser.
    second.load_weights(path)
    second.reset_metrics()
    losses = [
      each.train_on_batch(images, labels, return_dict=True)['factor_transfer']
      for each in (first, second)
    ]
    self.assertAlmostEqual(*losses, places=6)

  def test_a_paraphraser_that_is_trained_on_reaches_a_compiled_step(self):
    images, labels = small.data(16)
    distiller = small.trained()
    distiller.compile(keras.optimizers.SGD(0.0), small.LABELS)

    def loss():
      distiller.reset_metrics()
      return distiller.train_on_batch(images, labels, return_dict=True)[
        'factor_transfer'
      ]

    before = loss()
    distiller.fit_paraphraser(
      images, epochs=20, optimizer=keras.optimizers.SGD(0.1), verbose=0
    )
    self.assertNotAlmostEqual(before, loss(), places=5)

  def test_whole_is_not_saved_and_the_student_is(self):
    distiller = small.trained()
    folder = self.create_tempdir().full_path
    with self.assertRaisesRegex(errors.UsageError, 'save distiller.student'):
      distiller.save(os.path.join(folder, 'whole.keras'))
    path = os.path.join(folder, 'student.keras')
    distiller.student.save(path)
    images, _ = small.data(16)
    np.testing.assert_array_equal(
      keras.models.load_model(path)(images), distiller(images)
    )


class RefusedTest(parameterized.TestCase):
  def test_fit_before_fit_paraphraser(self):
    images, labels = small.data(16)
    distiller = small.make()
    distiller.compile('sgd', small.LABELS)
    for train in (distiller.fit, distiller.train_on_batch):
      with self.assertRaisesRegex(
        errors.UsageError, 'not trained: call fit_paraphraser before fit'
      ):
        train(images, labels)

  def test_a_trained_paraphraser_is_taken_as_it_is(self):
    images, labels = small.data(16)
    first = small.trained()
    (paraphraser,) = first.paraphrasers
    before = paraphraser.get_weights()
    distiller = small.make(paraphraser=paraphraser)
    distiller.compile('sgd', small.LABELS)
    distiller.train_on_batch(images, labels)
    self.assertIs(distiller.paraphrasers[0], paraphraser)
    for now, then in zip(paraphraser.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_method_without_paraphraser_has_none_to_train(self):
    images, labels = small.data(16)
    distiller = small.make(method='ft_no_paraphraser')
    distiller.compile('sgd', small.LABELS)
    distiller.train_on_batch(images, labels)
    with self.assertRaisesRegex(errors.UsageError, 'leave out fit_paraphraser'):
      distiller.fit_paraphraser(images)

  def test_paraphraser_that_diverges_is_an_error(self):
    with self.assertRaisesRegex(errors.TrainingError, 'lower learning rate'):
      small.make().fit_paraphraser(
        small.data()[0] * np.nan, optimizer='sgd', batch_size=16, verbose=0
      )

  def test_data_of_other_images(self):
    distiller = small.make()
    with self.assertRaisesRegex(
      errors.UsageError, r'take images \[B, 8, 8, 1\]: give batches of these'
    ):
      distiller.fit_paraphraser(np.zeros((4, 9, 8, 1)), verbose=0)
    distiller = small.trained()
    with self.assertRaisesRegex(errors.UsageError, 'data set has .*Tensor'):
      distiller.fit(np.zeros((4, 8, 8, 3)), np.zeros(4), verbose=0)

  @parameterized.parameters(
    ({'student': small_models.Subclassed()}, 'the student must take images'),
    ({'teacher': 'teacher.keras'}, 'teacher is a str: give a keras.Model'),
    ({'student': small.network(4, shape=(8, 9, 1))}, 'Resizing'),
    (
      {'student': small.network(4, shape=(8, 8, 3))},
      r'of \(8, 8, 1\), the student',
    ),
    (
      {
        'teacher': small.network(6, shape=(None, None, 1)),
        'student': small.network(4, shape=(None, None, 1)),
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
      small.make(**arguments)
    self.assertNotRegex(str(error.exception), r'--|\n')

  def test_student_that_shares_weights_with_the_teacher(self):
    teacher = small.network(6)
    part = keras.Model(teacher.input, teacher.get_layer('maps').output)
    for student in (teacher, part):
      with self.assertRaisesRegex(errors.UsageError, 'share weights'):
        small.make(teacher=teacher, student=student)

  def test_other_backend(self):
    with mock.patch.object(keras.config, 'backend', return_value='jax'):
      with self.assertRaisesRegex(
        errors.UsageError, 'KERAS_BACKEND=tensorflow'
      ):
        small.make()


if __name__ == '__main__':
  absltest.main()
