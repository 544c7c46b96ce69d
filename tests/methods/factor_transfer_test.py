"""Factor transfer as a method: its signal, its adapter, what it refuses."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, factors, losses
from ft_tf.methods import factor_transfer
from ft_tf.models import layers, taps, zoo

_SPEC = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))


def _paraphraser(teacher, rate=0.5):
  paraphraser = factors.Paraphraser(rate)
  paraphraser.build(teacher.get_layer('group3').output.shape)
  return paraphraser


def _images(count=4):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, 16, 16, 1)).astype(np.uint8)


class FactorTransferTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)
    self.teacher = zoo.build('resnet14x0.5', _SPEC)
    self.student = zoo.build('resnet8x0.25', _SPEC)
    self.paraphraser = _paraphraser(self.teacher)
    self.method = self._method()

  def _method(self, **changes):
    return factor_transfer.FactorTransfer(
      **{
        'teacher': self.teacher,
        'paraphraser': self.paraphraser,
        'student': self.student,
        'beta': 500.0,
        'p': 1,
        **changes,
      }
    )

  def test_signal_is_the_paraphrased_last_feature_map(self):
    images = _images()
    features = taps.features(self.teacher, ['group3'])
    expected = self.paraphraser.encode(
      features(images, training=False)['group3']
    )
    signal = self.method.signal(images)
    self.assertEqual(signal.shape, (4, 4, 4, 16))
    # Batch norm is folded into the teacher's convolutions.
    np.testing.assert_allclose(signal, expected, rtol=1e-4, atol=1e-6)

  def test_signal_is_a_function_of_the_images_alone(self):
    images = _images()
    before = self.method.signal(images)
    self.method.signal(255 - images)  # would move batch-norm statistics
    np.testing.assert_array_equal(self.method.signal(images), before)

  def test_adapter_translates_the_students_last_map_to_the_factors_shape(self):
    images = _images()
    features = taps.features(self.student, self.method.student_layers)
    adapted = self.method.adapt(features(images, training=False))
    signal = self.method.signal(images)
    self.assertEqual(adapted.shape, signal.shape)
    np.testing.assert_array_equal(
      self.method.loss(adapted, signal),
      losses.factor_transfer(adapted, signal),
    )
    squared = self._method(p=2).loss(adapted, signal)
    np.testing.assert_array_equal(
      squared, losses.factor_transfer(adapted, signal, p=2)
    )

  def test_only_the_translator_is_trained_beside_the_student(self):
    self.assertIsInstance(self.method.adapter, factors.Translator)
    self.assertLen(self.method.adapter.trainable_variables, 6)
    for model in self.method.frozen:
      self.assertEmpty(model.trainable_variables)

  def test_paraphraser_of_another_teacher_is_refused(self):
    other = _paraphraser(zoo.build('resnet8x2', _SPEC))
    with self.assertRaisesRegex(errors.UsageError, '128 channels.*has 32'):
      self._method(paraphraser=other)

  def test_maps_of_other_height_and_width_are_refused(self):
    image = keras.Input((16, 16, 1), dtype='uint8')
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, padding='same')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    shallow = keras.Model(image, keras.layers.Dense(3)(x))
    with self.assertRaisesRegex(
      errors.UsageError, r'\(4, 4\) in the teacher and \(16, 16\)'
    ):
      self._method(student=shallow)


if __name__ == '__main__':
  absltest.main()
