"""The twin: the student's numbers without rounding, and gradients with it."""

import functools

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import layers, taps, zoo
from ft_tf.quantisation import twin as twins
from tests import networks, quantised_networks, small_models

_SPEC = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)


def _observed(student, **options):
  twin = twins.build(student, **options)
  twin.observe(quantised_networks.images(64)[0])
  return twin


@functools.cache
def _shared_twin(weight_scales='channel'):
  """Returns the trained network's twin; tests leave it as it was."""
  return _observed(quantised_networks.trained(), weight_scales=weight_scales)


def _in_float(twin, images):
  with twin.observing():
    return twin.model(images, training=False).numpy()


class TwinTest(parameterized.TestCase):
  @parameterized.parameters(
    'resnet8',
    'resnet8-parameter-free',
    'wrn-10-1',
    'mobilenetv2x0.35',
    'mobilenetv3small',
  )
  def test_without_rounding_it_is_the_student(self, name):
    student = networks.disturb(zoo.build(name, _SPEC))
    twin, images = twins.build(student), networks.images(4, 32, 3)
    np.testing.assert_allclose(
      _in_float(twin, images),
      student(images, training=False),
      rtol=1e-4,
      atol=1e-4,
    )

  def test_rounding_changes_logits_a_little(self):
    student = quantised_networks.trained()
    images, _ = quantised_networks.images(64)
    logits = student(images, training=False).numpy()
    rounded = _shared_twin().model(images, training=False).numpy()
    self.assertGreater(np.abs(rounded - logits).max(), 1e-3)
    self.assertLess(np.abs(rounded - logits).mean(), 0.03 * np.ptp(logits))

  def _gradients(self, twin):
    """Returns each variable of a twin with its gradient in training."""
    images, labels = quantised_networks.images(32)
    with tf.GradientTape() as tape:
      loss = keras.losses.sparse_categorical_crossentropy(
        labels, twin.model(images, training=True), from_logits=True
      )
    variables = twin.model.trainable_variables
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
      self.assertIsNotNone(gradient, variable.path)
      self.assertTrue(np.isfinite(gradient).all(), variable.path)
    return list(zip(variables, gradients, strict=True))

  @parameterized.parameters(
    quantised_networks.trained, quantised_networks.trained_branched
  )
  def test_gradients_reach_kernels_and_norms(self, trained):
    student = trained()
    twin = _observed(student)
    gradients = self._gradients(twin)
    shared = {id(variable) for variable in student.trainable_variables}
    self.assertLen(gradients, len(shared) + len(twin.ranges))
    for variable, gradient in gradients:
      if id(variable) in shared:
        self.assertGreater(np.abs(gradient).max(), 0, variable.path)

  @parameterized.parameters('stem_act', 'scale', 'logits')
  def test_gradients_reach_ranges_that_cut_values(self, place):
    twin = _shared_twin()
    ranges = twin.ranges_by_place()
    self.addCleanup(twin.set_ranges, ranges)
    low, high = ranges[place]
    twin.set_ranges(ranges | {place: (low, 0.5 * high)})
    index = 2 * list(ranges).index(place) + 1
    found = {id(v): g for v, g in self._gradients(twin)}
    self.assertNotEqual(float(found[id(twin.ranges[index])]), 0)

  def test_gradients_are_near_those_of_float(self):
    student = quantised_networks.trained()
    twin, (images, labels) = _shared_twin(), quantised_networks.images(64)

    def gradient(model, training):
      with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
          labels, model(images, training=training), from_logits=True
        )
      values = tape.gradient(loss, student.trainable_variables)
      return np.concatenate([np.ravel(value) for value in values])

    # The student's batch norm stands still as the twin's does.
    ours, theirs = gradient(twin.model, True), gradient(student, False)
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    self.assertGreater(cosine, 0.8)

  def test_moving_statistics_stand_still(self):
    student = quantised_networks.fresh()
    before = [v.numpy() for v in student.non_trainable_variables]
    twin = _observed(student)
    twin.model(quantised_networks.images(8)[0], training=True)
    for now, then in zip(student.non_trainable_variables, before, strict=True):
      np.testing.assert_array_equal(now.numpy(), then)

  def test_weights_are_shared_and_layers_keep_their_names(self):
    student = quantised_networks.fresh()
    twin = _observed(student)
    images, _ = quantised_networks.images(8)
    before = twin.model(images).numpy()
    student.get_layer('project').kernel.assign_add(
      tf.ones_like(student.get_layer('project').kernel)
    )
    self.assertGreater(np.abs(twin.model(images) - before).max(), 0)
    names = ['stem_bn', 'residual', 'last_act']
    tapped = taps.logits_and_features(twin.model, names)
    _, ours = tapped(images, training=False)
    _, theirs = taps.logits_and_features(student, names)(images, training=False)
    for name in names:
      span = float(tf.reduce_max(theirs[name]) - tf.reduce_min(theirs[name]))
      np.testing.assert_allclose(ours[name], theirs[name], atol=0.2 * span)

  @parameterized.parameters('channel', 'tensor')
  def test_compiled_is_eager(self, weight_scales):
    twin = _shared_twin(weight_scales)
    images, _ = quantised_networks.images(16)
    compiled = tf.function(lambda x: twin.model(x, training=False))(images)
    eager = twin.model(images, training=False)
    np.testing.assert_array_equal(tf.argmax(compiled, 1), tf.argmax(eager, 1))
    low, high = twin.ranges_by_place()['logits']
    # Values on the border between two steps may round either way.
    np.testing.assert_allclose(compiled, eager, atol=2.1 * (high - low) / 255)

  def test_mixed_precision_is_computed_in_float32(self):
    student = quantised_networks.fresh('mixed_bfloat16')
    twin, (images, _) = twins.build(student), quantised_networks.images(8)
    same = quantised_networks.fresh()
    same.set_weights(student.get_weights())
    np.testing.assert_allclose(
      _in_float(twin, images), same(images), rtol=1e-4, atol=1e-4
    )

  def test_dropout_is_for_training_alone(self):
    twin = _observed(quantised_networks.fresh(dropout=0.5))
    images, _ = quantised_networks.images(8)
    one, other = (twin.model(images, training=True) for _ in range(2))
    self.assertGreater(np.abs(one - other).max(), 0)
    np.testing.assert_array_equal(
      twin.model(images, training=False), twin.model(images, training=False)
    )

  def test_nested_and_sequential_models_are_opened(self):
    images = networks.images(4, 8, 3)
    for student in (small_models.nested(), small_models.sequential()):
      twin = twins.build(student)
      np.testing.assert_allclose(
        _in_float(twin, images),
        student(images.astype(np.float32)),
        rtol=1e-4,
        atol=1e-3,
      )

  def test_still_channel_takes_no_part_in_the_scale_of_all_weights(self):
    student = quantised_networks.with_still_channel()
    images, _ = quantised_networks.images(200, seed=1)
    logits = student(images, training=False).numpy()
    twin = _observed(student, weight_scales='tensor')
    rounded = twin.model(images, training=False).numpy()
    self.assertLess(np.abs(rounded - logits).mean(), 0.03 * np.ptp(logits))
    step = next(each for each in twin.steps if each.name == 'depthwise')
    integers, _ = step.integers()
    self.assertEqual(np.abs(integers[:, 0]).max(), 0)
    self.assertEqual(np.abs(integers).max(), 127)
    # What the channel always is stays.
    np.testing.assert_allclose(
      _in_float(twin, images), logits, rtol=1e-4, atol=1e-4
    )

  def test_layer_of_small_variance_keeps_its_channels(self):
    student = quantised_networks.fresh()
    student.set_weights(quantised_networks.trained().get_weights())
    kernel = student.get_layer('depthwise').kernel
    kernel.assign(1e-6 * kernel)
    norm = student.get_layer('depthwise_bn')
    norm.moving_mean.assign(1e-6 * norm.moving_mean)
    norm.moving_variance.assign(1e-12 * norm.moving_variance)
    twin = _observed(student, weight_scales='tensor')
    step = next(each for each in twin.steps if each.name == 'depthwise')
    self.assertGreater(np.abs(step.integers()[0]).max(axis=0).min(), 0)

  def test_layer_called_twice_has_a_range_for_each_call(self):
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding='same', name='shared')
    twin = twins.build(keras.Model(image, shared(shared(image))))
    self.assertEqual(list(twin.ranges_by_place()), ['shared', 'shared_call2'])

  def test_preprocessing_by_operations_is_computed(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name='rescale')(image)
    x = (x / 2.0 - 0.25) * 3.0
    x = keras.layers.Conv2D(4, 3, activation='hard_sigmoid')(x)
    student = keras.Model(image, keras.layers.Flatten()(x))
    twin, images = twins.build(student), networks.images(8, 8, 3)
    np.testing.assert_allclose(
      _in_float(twin, images), student(images.astype('float32')), atol=1e-4
    )
    self.assertIn('rescale/product', twin.ranges_by_place())


class RangesTest(parameterized.TestCase):
  def test_ranges_hold_all_observed_values_and_zero(self):
    student = quantised_networks.trained()
    images, _ = quantised_networks.images(150)
    twin = twins.build(student)
    twin.observe(images)
    low, high = twin.ranges_by_place()['logits']
    logits = student(images, training=False).numpy()
    self.assertAlmostEqual(low, min(logits.min(), 0), places=3)
    self.assertAlmostEqual(high, logits.max(), places=3)
    for low, high in twin.ranges_by_place().values():
      self.assertLessEqual(low, 0)
      self.assertLess(low, high)

  def test_ranges_are_kept(self):
    ranges = _shared_twin().ranges_by_place()
    other = twins.build(quantised_networks.trained())
    other.set_ranges(ranges)
    self.assertEqual(other.ranges_by_place(), ranges)

  @parameterized.parameters(
    (lambda r: r | {'other': (0, 1)}, 'differ in other'),
    (lambda r: {k: v for k, v in r.items() if k != 'pool'}, 'differ in pool'),
    (lambda r: r | {'pool': (0, float('nan'))}, 'pool are not finite'),
    (lambda r: r | {'pool': (float('-inf'), 1)}, 'pool are not finite'),
    (lambda r: r | {'pool': (1, 1)}, 'range of pool .* is empty'),
  )
  def test_bad_ranges_are_refused_and_none_is_set(self, change, message):
    twin = _shared_twin()
    before = twin.ranges_by_place()
    with self.assertRaisesRegex(errors.UsageError, message):
      twin.set_ranges(change(dict(before)))
    self.assertEqual(twin.ranges_by_place(), before)

  @parameterized.parameters(np.nan, np.inf)
  def test_weights_that_are_not_finite_are_refused(self, value):
    twin = _shared_twin()
    kernel = twin.student.get_layer('stem').kernel
    self.addCleanup(kernel.assign, kernel.numpy())
    kernel.assign(tf.fill(kernel.shape, value))
    with self.assertRaisesRegex(errors.UsageError, 'stem/kernel is not finite'):
      twin.observe(quantised_networks.images(64)[0])

  def test_dead_student_is_refused(self):
    student = quantised_networks.fresh()
    gamma = student.get_layer('last_bn').gamma
    gamma.assign(tf.zeros_like(gamma))
    with self.assertRaisesRegex(errors.UsageError, 'same logits for all 64'):
      _observed(student)

  def test_maps_of_zeros_are_allowed_where_the_logits_are_alive(self):
    student = quantised_networks.fresh()
    for name in ('gamma', 'beta'):
      weight = getattr(student.get_layer('project_bn'), name)
      weight.assign(tf.zeros_like(weight))
    self.assertEqual(_observed(student).ranges_by_place()['project'], (0, 1))

  def test_range_without_zero_is_widened(self):
    twin = _shared_twin()
    self.addCleanup(twin.set_ranges, twin.ranges_by_place())
    images, _ = quantised_networks.images(8)
    for low in twin.ranges[::2]:
      low.assign(0.5)  # As a step of training may.
    self.assertTrue(np.isfinite(twin.model(images)).all())

  def test_unknown_weight_scales_are_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'channel or tensor'):
      twins.build(quantised_networks.fresh(), weight_scales='layer')


if __name__ == '__main__':
  absltest.main()
