"""What would end the converter's process is refused in words."""

import ctypes

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.export import constant_graph, convert, finite_maps, formats
from ft_tf.models import layers, zoo

_M_PERTURB = -6  # of glibc's malloc.h


def _student(activation, scale):
  image = keras.Input((8, 8, 3))
  x = keras.layers.Rescaling(scale)(image)
  x = keras.layers.Conv2D(4, 3, kernel_initializer='ones')(x)
  x = keras.layers.Activation(activation)(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3)(x), name='small')


def _images():
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(32, 8, 8, 3)).astype(np.uint8)


class FiniteMapsTest(parameterized.TestCase):
  @parameterized.parameters('softplus', 'selu')
  def test_value_that_is_infinite_in_tflite_alone_is_refused(self, activation):
    # Of raw values: sums of 27 weights reach 6,885, and exp(88.8) is infinite.
    student = _student(activation, 1.0)
    self.assertTrue(np.isfinite(student.predict(_images(), verbose=0)).all())
    for form in ('int8', 'int16x8'):
      with self.assertRaisesRegex(errors.UsageError, 'are infinite in TFLite'):
        formats.FORMATS[form].make(formats.Source(student, _images()))

  @parameterized.parameters('softplus', 'selu', 'exponential')
  def test_the_same_of_scaled_images_is_converted(self, activation):
    student = _student(activation, 1 / 255)
    content = formats.FORMATS['int8'].make(formats.Source(student, _images()))
    self.assertNotEmpty(content)

  @parameterized.parameters(
    keras.layers.SimpleRNN, keras.layers.LSTM, keras.layers.GRU
  )
  def test_loop_is_refused_and_the_same_without_it_converted(self, layer):
    def student(**options):
      image = keras.Input((8, 8, 3))
      rows = keras.layers.Reshape((8, 24))(image / 255)
      x = layer(4, **options)(rows)
      return keras.Model(image, keras.layers.Dense(3)(x), name='small')

    images = _images()
    int8 = formats.FORMATS['int8']
    with self.assertRaisesRegex(errors.UsageError, 'small .*unroll=True'):
      int8.make(formats.Source(student(), images))
    content = int8.make(formats.Source(student(unroll=True), images))
    self.assertNotEmpty(content)

  def test_what_memory_held_before_does_not_count(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.DepthwiseConv2D(3, activation='gelu')(x)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    student = keras.Model(image, keras.layers.Dense(3)(x), name='small')
    content = convert.tflite_float32(convert.float32_twin(student, 'float32'))
    c_library = ctypes.CDLL(None)
    if not hasattr(c_library, 'mallopt'):
      self.skipTest('needs glibc')
    # It fills what it gives out: with bytes of 255, NaN as float32.
    self.assertTrue(c_library.mallopt(_M_PERTURB, 256))
    try:
      self.assertTrue(np.isnan(np.empty(1000, np.float32)).all())
      finite_maps.check(content, _images(), student.name)
    finally:
      c_library.mallopt(_M_PERTURB, 0)

  def test_logarithm_of_zero_is_refused(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.log(image))
    student = keras.Model(image, keras.layers.Dense(3)(x))
    images = _images()
    images[0, 0] = 0
    with self.assertRaisesRegex(errors.UsageError, 'are infinite in TFLite'):
      formats.FORMATS['int8'].make(formats.Source(student, images))

  @parameterized.parameters('resnet8x0.25', 'mobilenetv2x0.35')
  def test_usual_networks_need_no_look(self, name):
    spec = layers.Spec((32, 32, 3), 5, (0.5,) * 3, (0.25,) * 3)
    student = zoo.build(name, spec)
    graph = constant_graph.of_model(student)
    self.assertTrue(finite_maps.are_sure(graph))

  def test_only_what_depends_on_the_image_counts(self):
    with tf.Graph().as_default() as graph:
      image = tf.compat.v1.placeholder(tf.float32, [1, 4])
      tf.add(image / tf.exp(tf.constant(2.0)), 1.0)
    self.assertTrue(finite_maps.are_sure(graph))
    for unsure in (lambda x: 1 / x, tf.exp, tf.math.log):
      with tf.Graph().as_default() as graph:
        unsure(tf.nn.relu(tf.compat.v1.placeholder(tf.float32, [1, 4])))
      self.assertFalse(finite_maps.are_sure(graph))


if __name__ == '__main__':
  absltest.main()
