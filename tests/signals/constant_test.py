"""The constant signal: a function's values from a graph of constants."""

import gc
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf.models import folding, layers, taps, zoo
from ft_tf.signals import constant

_SPEC = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))


def _images(count=4):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, 16, 16, 1)).astype(np.uint8)


class ConstantSignalTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)
    self.model = zoo.build('resnet8x0.25', _SPEC)
    self.tapped = taps.logits_and_features(self.model, ['group3', 'group2'])
    self.signal = constant.ConstantSignal(self._function, (16, 16, 1))

  def _function(self, images):
    logits, features = self.tapped(images, training=False)
    return [features['group3'], {'logits': logits, 'map': features['group2']}]

  def test_value_and_structure_are_the_functions(self):
    images = _images()
    found = self.signal(images)
    expected = self._function(images)
    self.assertEqual(self.signal.width, 4 * 4 * 16 + 3 + 8 * 8 * 8)
    tf.nest.assert_same_structure(found, expected)
    for ours, theirs in zip(
      tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
      self.assertEqual(ours.shape, theirs.shape)
      np.testing.assert_allclose(ours, theirs, atol=1e-5)

  def test_rows_come_back_as_the_value(self):
    images = _images(3)
    rows = self.signal.rows(images)
    self.assertEqual(
      (rows.shape, rows.dtype), ((3, self.signal.width), 'float32')
    )
    back = self.signal.from_rows(tf.constant(rows.astype(np.float16)))
    tf.nest.assert_same_structure(back, self._function(images))
    for ours, theirs in zip(
      tf.nest.flatten(back), tf.nest.flatten(self.signal(images)), strict=True
    ):
      self.assertEqual(ours.dtype, tf.float32)
      np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)

  def test_images_come_in_the_dtype_of_the_signal(self):
    images = _images(3)
    signal = constant.ConstantSignal(
      lambda images: images / 2, (16, 16, 1), 'float32'
    )
    for given in (images, images + 0.25):
      np.testing.assert_array_equal(signal(given), np.float32(given) / 2)
    np.testing.assert_array_equal(
      signal.rows(images), images.reshape(3, -1) / 2
    )

  def test_rows_of_a_signal_in_bfloat16_are_float32(self):
    folded = folding.fold(taps.features(self.model, ['group3']), 'bfloat16')
    signal = constant.ConstantSignal(
      lambda images: folded(images)['group3'], (16, 16, 1)
    )
    self.assertEqual(signal(_images()).dtype, tf.bfloat16)
    self.assertEqual(signal.rows(_images()).dtype, np.float32)

  def test_later_changes_of_weights_do_not_reach_it(self):
    images = _images()
    before = self.signal.rows(images)
    for weight in self.model.weights:
      weight.assign(weight + 1.0)
    np.testing.assert_array_equal(self.signal.rows(images), before)

  def test_graph_reads_no_variable(self):
    operations = {op.type for op in self.signal._frozen.graph.get_operations()}
    self.assertNoCommonElements(operations, {'ReadVariableOp', 'VarHandleOp'})
    self.assertIn('Conv2D', operations)
    self.assertEmpty(self.signal._frozen.variables)

  def test_no_unused_head_is_in_the_graph(self):
    feature = folding.fold(taps.features(self.model, ['group3']))
    signal = constant.ConstantSignal(
      lambda images: feature(images)['group3'], (16, 16, 1)
    )
    operations = {op.type for op in signal._frozen.graph.get_operations()}
    self.assertNoCommonElements(operations, {'MatMul', 'Mean', 'Rsqrt'})

  def test_large_networks_stay_variables_and_say_the_same(self):
    images = _images()
    with mock.patch.object(constant, '_MOST_CONSTANT_BYTES', {}):
      signal = constant.ConstantSignal(
        # Nothing else holds the folded network.
        folding.fold(taps.features(self.model, ['group3'])).__call__,
        (16, 16, 1),
      )
    gc.collect()
    self.assertFalse(signal.calls_python)
    np.testing.assert_allclose(
      signal(images)['group3'], self._function(images)[0], atol=1e-5
    )
    self.assertLen(signal.rows(_images(5)), 5)

  def test_four_mebibytes_are_constants_and_more_stay_variables(self):
    images = np.full([2, 1, 1, 1], 3, np.uint8)

    def weighted(images):
      return tf.cast(images, tf.float32) * tf.reduce_mean(weights)

    for side, read in ((1024, 0), (1025, 1)):  # 4 MiB are 1024 ** 2 floats.
      weights = tf.Variable(tf.ones([side, side]))
      signal = constant.ConstantSignal(weighted, (1, 1, 1))
      np.testing.assert_array_equal(signal.rows(images), [[3], [3]])
      weights.assign(tf.zeros_like(weights))
      np.testing.assert_array_equal(
        signal.rows(images), np.full([2, 1], 3 * (1 - read))
      )

  def test_any_batch_size_fits(self):
    for count in (1, 5):
      self.assertLen(self.signal.rows(_images(count)), count)


if __name__ == '__main__':
  absltest.main()
