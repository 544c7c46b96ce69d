"""Factor transfer as a method: its signal, its adapter, what it refuses."""

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, factors, losses
from ft_tf.methods import base, factor_transfer
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

  def _said(self, network, layer='group3'):
    """Returns a network's outputs for some images."""
    return base.Outputs(
      *taps.logits_and_features(network, [layer])(_images(), training=False)
    )

  def test_signal_is_the_paraphrased_last_feature_map(self):
    said = self._said(self.teacher)
    expected = self.paraphraser.encode(said.features['group3'])
    signal = self.method.signal(said)
    self.assertEqual(self.method.teacher_layers, ('group3',))
    self.assertEqual(signal.shape, (4, 4, 4, 16))
    np.testing.assert_allclose(signal, expected, rtol=1e-5)

  def test_adapter_translates_the_students_last_map_to_the_factors_shape(self):
    adapted = self.method.adapt(self._said(self.student))
    signal = self.method.signal(self._said(self.teacher))
    self.assertEqual(adapted.shape, signal.shape)
    for changes in ({}, {'p': 2}, {'normalized': 'squared_mean'}):
      np.testing.assert_array_equal(
        self._method(**changes).loss(adapted, signal, None),
        losses.factor_transfer(adapted, signal, **changes),
      )

  def test_without_a_paraphraser_the_signal_is_the_map_itself(self):
    method = self._method(paraphraser=None)
    said = self._said(self.teacher)
    np.testing.assert_array_equal(method.signal(said), said.features['group3'])
    self.assertEqual(method.adapt(self._said(self.student)).shape[-1], 32)
    self.assertEmpty(method.frozen)

  def test_without_a_translator_the_students_map_is_its_factor(self):
    method = self._method(translates=False)
    self.assertIsNone(method.adapter)
    said = self._said(self.student)
    np.testing.assert_array_equal(method.adapt(said), said.features['group3'])
    with self.assertRaisesRegex(
      errors.UsageError, '32 in the teacher and 16 .*give --rate=0.5'
    ):
      self._method(
        paraphraser=_paraphraser(self.teacher, 1.0), translates=False
      )

  def test_beta_is_for_so_many_elements(self):
    # 4 x 4 x 16 elements, an eighth of the public code's.
    self.assertEqual(self.method.elements, 256)
    self.assertEqual(self.method.weight, 500)
    method = self._method(beta_elements=2048)
    self.assertAlmostEqual(method.weight, 500 / 8**0.5)
    method = self._method(beta_elements=2048, p=2)
    self.assertAlmostEqual(method.weight, 500 / 8)

  def test_strength_of_beta_does_not_depend_on_the_number_of_elements(self):
    rng = np.random.default_rng(0)
    strengths = []
    for channels in (8, 128):
      pair = rng.normal(size=(2, 64, 4, 4, channels)).astype(np.float32)
      each = losses.factor_transfer(*pair)
      strengths.append((16 * channels / 2048) ** 0.5 * np.mean(each))
    self.assertAlmostEqual(strengths[0] / strengths[1], 1, delta=0.05)

  def test_other_layers_may_be_tapped(self):
    method = self._method(
      paraphraser=None, teacher_layer='group2', student_layer='g2b1_add'
    )
    self.assertEqual(method.teacher_layers, ('group2',))
    self.assertEqual(method.student_layers, ('g2b1_add',))
    self.assertEqual(method.elements, 8 * 8 * 16)

  def test_paraphraser_of_another_layer_is_refused(self):
    paraphraser = factors.Paraphraser(0.5, layer='group2')
    paraphraser.build((None, 8, 8, 32))
    with self.assertRaisesRegex(errors.UsageError, '--teacher_layer=group2'):
      self._method(paraphraser=paraphraser)

  def test_only_the_translator_is_trained_beside_the_student(self):
    self.assertIsInstance(self.method.adapter, factors.Translator)
    self.assertLen(self.method.adapter.trainable_variables, 6)
    self.assertEqual(self.method.frozen, (self.paraphraser,))
    self.assertEmpty(self.paraphraser.trainable_variables)

  def test_paraphraser_of_another_teacher_is_refused(self):
    other = _paraphraser(zoo.build('resnet8x2', _SPEC))
    with self.assertRaisesRegex(errors.UsageError, '128 channels.*has 32'):
      self._method(paraphraser=other)

  def test_larger_maps_are_averaged_to_the_smaller(self):
    image = keras.Input((16, 16, 1), dtype='uint8')
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(16, 3, padding='same', name='wide')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    shallow = keras.Model(image, keras.layers.Dense(3)(x))
    for student, teacher, layers_of in (
      (shallow, self.teacher, ('wide', 'group3')),
      (self.student, shallow, ('group3', 'wide')),
    ):
      method = self._method(student=student, teacher=teacher, paraphraser=None)
      self.assertIn(', averaged to 4x4', method.summary)
      adapted = method.adapt(self._said(student, layers_of[0]))
      signal = method.signal(self._said(teacher, layers_of[1]))
      self.assertEqual(adapted.shape, signal.shape)
      self.assertEqual(signal.shape[1:3], (4, 4))


if __name__ == '__main__':
  absltest.main()
