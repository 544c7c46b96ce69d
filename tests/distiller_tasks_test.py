"""Factor transfer by compile and fit for any task and data."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

import ft_tf
from tests import fixtures, networks
from tests import small_distillers as small


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
      small.LABELS,
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
    images, labels = small.data(48)
    keras.utils.set_random_seed(0)
    student = small.network(4, outputs)
    distiller = small.trained(student=student)
    distiller.compile(keras.optimizers.SGD(0.1), loss)
    data = tf.data.Dataset.from_tensor_slices((images, targets(images, labels)))
    data = data.batch(16)
    history = distiller.fit(
      data, epochs=3, validation_data=data, verbose=0
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
    images, labels = small.data(32)
    known = tf.data.Dataset.from_tensor_slices((images, labels))
    known = known.batch(16, drop_remainder=True)
    unknown = known.filter(lambda *_: True)
    distiller = small.make()
    # Weights that stay as they are have the same means, of whatever data.
    optimizer = keras.optimizers.SGD(0.0)
    means = distiller.fit_paraphraser(
      unknown, optimizer=optimizer, validation_data=known, verbose=0
    ).history
    self.assertEqual(int(optimizer.iterations), 2)
    np.testing.assert_allclose(means['loss'], means['val_loss'], rtol=1e-5)
    distiller.compile(
      keras.optimizers.SGD(0.0), small.LABELS, metrics=['accuracy']
    )
    theirs, ours = (
      distiller.fit(data, validation_data=data, verbose=0).history
      for data in (known, unknown)
    )
    self.assertEqual(int(distiller.optimizer.iterations), 2 + 2)
    self.assertEqual(ours.keys(), theirs.keys())
    for name in ours:
      np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)

  def test_data_of_unknown_length_with_a_smaller_last_batch(self):
    images, labels = small.data(40)

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
    ours, theirs = small.trained(), small.trained()
    first = ours.fit(data, verbose=0).history
    arrays = theirs.fit(
      images, labels, batch_size=16, shuffle=False, verbose=0
    ).history
    for name in arrays:
      np.testing.assert_allclose(first[name], arrays[name], rtol=1e-5)
    small.assert_weights_close(self, ours.get_weights(), theirs.get_weights())

  def test_images_that_are_not_square_and_maps_of_other_sizes(self):
    hostile = fixtures.hostile().train
    shape = hostile.images.shape[1:]
    keras.utils.set_random_seed(0)
    teacher = small.network(6, shape=shape, strides=2)
    larger, smaller = (
      small.network(4, shape=shape, strides=strides) for strides in (1, 4)
    )
    first = small.make(teacher=teacher, student=larger)
    first.fit_paraphraser(hostile.images, optimizer='sgd', verbose=0)
    second = small.make(
      teacher=teacher, student=smaller, paraphraser=first.paraphrasers[0]
    )
    for distiller in (first, second):
      distiller.compile('sgd', small.LABELS)
      history = distiller.fit(
        hostile.images, hostile.labels, epochs=3, verbose=0
      ).history
      losses = history['factor_transfer']
      self.assertLess(losses[-1], losses[0])

  def test_dropout_of_the_student_is_in_training_alone(self):
    images, labels = small.data(16)
    distiller = small.trained(student=small.network(4, dropout=0.5))
    distiller.compile(keras.optimizers.SGD(0.0), small.LABELS)
    data = {'x': images, 'y': labels, 'batch_size': 16, 'verbose': 0}
    losses = distiller.fit(**data, epochs=3).history['task_loss']
    self.assertLen(set(losses), 3)
    self.assertEqual(distiller.evaluate(**data), distiller.evaluate(**data))

  def test_callbacks_see_and_steer_the_training(self):
    images, labels = small.data(16)
    distiller = small.trained()
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
    again = small.make(seed=5)
    again.load_weights(path)
    again.compile(loss=small.LABELS)
    best = min(loss for _, loss in rates)
    self.assertAlmostEqual(
      again.evaluate(images[8:], labels[8:], verbose=0), best, places=5
    )


class NestedTest(absltest.TestCase):
  def _nested(self, channels):
    image = keras.Input(small.SHAPE, name='image')
    x = keras.layers.Conv2D(channels, 3, padding='same', name='inner')(image)
    backbone = keras.Model(image, keras.layers.ReLU()(x), name='backbone')
    return keras.Sequential(
      [
        keras.Input(small.SHAPE),
        keras.layers.Rescaling(1 / 255),
        backbone,
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
      ]
    )

  def test_nested_models_are_opened_and_stay_as_they_are(self):
    images, labels = small.data(16)
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
    distiller.fit_paraphraser(images, optimizer='sgd', verbose=0)
    distiller.compile(keras.optimizers.SGD(0.1), small.LABELS)
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
    distiller.compile(keras.optimizers.SGD(0.1), small.LABELS)
    history = distiller.fit(images, np.arange(8) % 3, verbose=0).history
    self.assertContainsSubset(
      ['factor_transfer_1', 'factor_transfer_2', 'task_loss'], history
    )
    self.assertLen(distiller.trainable_variables, 29 + 12)


if __name__ == '__main__':
  absltest.main()
