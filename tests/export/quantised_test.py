"""The twin's int8 file computes what the twin computes, or is refused."""

import functools
import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from ft_tf import errors
from ft_tf.export import quantised
from ft_tf.quantisation import twin as twins
from tests import quantised_networks


def _twin(student=None, **options):
  twin = twins.build(student or quantised_networks.trained(), **options)
  twin.observe(quantised_networks.images(128)[0])
  return twin


@functools.cache
def _shared_twin(weight_scales='channel'):
  """Returns the trained network's twin; tests leave it as it was."""
  return _twin(weight_scales=weight_scales)


@functools.cache
def _shared_file(weight_scales='channel'):
  """Returns the int8 file of that twin."""
  return quantised.tflite(_shared_twin(weight_scales))


def _run(content, images):
  """Returns a file's raw outputs, and its scale and zero point."""
  interpreter = litert.Interpreter(model_content=content, num_threads=1)
  interpreter.allocate_tensors()
  (source,) = interpreter.get_input_details()
  (target,) = interpreter.get_output_details()
  if source['dtype'] == np.int8:
    images = (images.astype(np.int16) - 128).astype(np.int8)
  outputs = []
  for image in images:
    interpreter.set_tensor(source['index'], image[None])
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(target['index'])[0])
  return np.stack(outputs).astype(np.int32), source, target


class TFLiteTest(parameterized.TestCase):
  def _check_equal(self, content, twin, images, *, to_the_bit=True):
    raw, _, target = _run(content, images)
    scale, zero = target['quantization']
    logits = np.concatenate(
      [
        twin.model(images[start : start + 100], training=False)
        for start in range(0, len(images), 100)
      ]
    )
    steps = np.abs(raw - zero - np.round(logits / scale))
    if to_the_bit:
      self.assertEqual(steps.max(), 0)
    self.assertGreaterEqual((steps <= 1).mean(), 0.98)
    self.assertLessEqual(steps.max(), 4)
    same = (raw - zero).argmax(1) == np.round(logits / scale).argmax(1)
    self.assertGreaterEqual(same.mean(), 0.99)

  @parameterized.parameters('channel', 'tensor')
  def test_file_is_the_twin(self, weight_scales):
    images, labels = quantised_networks.images(300, seed=1)
    content = _shared_file(weight_scales)
    self._check_equal(content, _shared_twin(weight_scales), images)
    raw, source, target = _run(content, images)
    self.assertGreater((raw.argmax(axis=1) == labels).mean(), 0.6)
    self.assertEqual(source['dtype'], np.uint8)
    self.assertEqual(source['quantization'], (1.0, 0))
    self.assertEqual(list(source['shape']), [1, *quantised_networks.SHAPE])
    self.assertEqual(target['dtype'], np.uint8)

  def test_file_is_the_twin_with_a_channel_that_does_not_vary(self):
    twin = _twin(
      quantised_networks.with_still_channel(), weight_scales='tensor'
    )
    images, _ = quantised_networks.images(100, seed=1)
    self._check_equal(quantised.tflite(twin), twin, images)

  def test_file_has_one_scale_for_each_tensor_of_weights(self):
    interpreter = litert.Interpreter(model_content=_shared_file('tensor'))
    for details in interpreter.get_tensor_details():
      self.assertLessEqual(len(details['quantization_parameters']['scales']), 1)

  def test_int8_input_and_output(self):
    images, _ = quantised_networks.images(50, seed=1)
    content = quantised.tflite(_shared_twin(), io='int8')
    raw, source, target = _run(content, images)
    self.assertEqual(source['quantization'], (1.0, -128))
    self.assertEqual((source['dtype'], target['dtype']), (np.int8, np.int8))
    expected, *_ = _run(_shared_file(), images)
    np.testing.assert_array_equal(raw + 128, expected)

  def test_learned_ranges_are_those_of_the_file(self):
    twin = _shared_twin()
    self.addCleanup(twin.set_ranges, twin.ranges_by_place())
    for low, high in zip(twin.ranges[::2], twin.ranges[1::2], strict=True):
      low.assign(0.83 * low)
      high.assign(0.91 * high)
    images, _ = quantised_networks.images(100, seed=1)
    content = quantised.tflite(twin)
    self._check_equal(content, twin, images)
    _, _, target = _run(content, images[:1])
    low, high = twin.ranges_by_place()['logits']
    self.assertAlmostEqual(target['quantization'][0], (high - low) / 255, 6)

  @parameterized.parameters('channel', 'tensor')
  def test_file_of_branches_is_the_twin(self, weight_scales):
    student = quantised_networks.trained_branched()
    twin = _twin(student, weight_scales=weight_scales)
    images, labels = quantised_networks.images(300, seed=1)
    content = quantised.tflite(twin)
    # The twin converts nothing to the range of a concatenation.
    self._check_equal(content, twin, images, to_the_bit=False)
    raw, *_ = _run(content, images)
    self.assertGreater((raw.argmax(axis=1) == labels).mean(), 0.6)
    # What several read is converted to the range of a concatenation.
    for low, high in zip(twin.ranges[::2], twin.ranges[1::2], strict=True):
      low.assign(0.83 * low)
      high.assign(0.91 * high)
    self._check_equal(quantised.tflite(twin), twin, images, to_the_bit=False)

  def test_writing_leaves_the_twin_trainable(self):
    twin, (images, _) = _shared_twin(), quantised_networks.images(8)
    _shared_file()
    with tf.GradientTape() as tape:
      loss = tf.reduce_sum(twin.model(images, training=True) ** 2)
    gradients = tape.gradient(loss, twin.student.trainable_variables)
    self.assertNotIn(None, gradients)

  def test_channels_of_no_weight_keep_their_bias(self):
    # The scale of such a channel's weights makes its bias a large integer.
    student = quantised_networks.fresh()
    student.set_weights(quantised_networks.trained().get_weights())
    for name in ('stem_bn', 'depthwise_bn', 'last_bn'):
      norm = student.get_layer(name)
      keep = np.ones(norm.gamma.shape, np.float32)
      keep[::3] = np.resize((0.0, 1e-12, 1e-6), keep[::3].shape)
      norm.gamma.assign(norm.gamma * keep)
      norm.beta.assign(norm.beta + 0.7 * (keep < 1))
    twin = _twin(student)
    images, _ = quantised_networks.images(100, seed=1)
    self._check_equal(quantised.tflite(twin), twin, images)

  @parameterized.parameters('channel', 'tensor')
  def test_next_to_nothing_is_as_the_converter_holds_it(self, weight_scales):
    # Pretrained networks have channels as these: the converter widens their
    # weights' range to 1e-6, and that of a map too.
    student = quantised_networks.fresh()
    student.set_weights(quantised_networks.trained().get_weights())
    for name in ('stem_bn', 'depthwise_bn', 'last_bn'):
      norm = student.get_layer(name)
      keep = np.ones(norm.gamma.shape, np.float32)
      keep[::3] = np.resize((3e-7, 3e-8, 1e-9), keep[::3].shape)
      norm.gamma.assign(norm.gamma * keep)
    norm = student.get_layer('project_bn')
    norm.gamma.assign(norm.gamma * 3e-8)
    norm.beta.assign(norm.beta * 3e-8)
    twin = _twin(student, weight_scales=weight_scales)
    images, _ = quantised_networks.images(100, seed=1)
    self._check_equal(quantised.tflite(twin), twin, images)

  def test_dark_and_bright_images_are_as_in_the_twin(self):
    images = np.stack(
      [np.full(quantised_networks.SHAPE, v, np.uint8) for v in (0, 1, 254, 255)]
    )
    self._check_equal(_shared_file(), _shared_twin(), images)


class MixedTest(absltest.TestCase):
  def test_a_layer_left_in_float_restores_the_classes(self):
    student = quantised_networks.spoiled()
    images, _ = quantised_networks.images(128)
    classes = student(images, training=False).numpy().argmax(axis=1)
    agreements = []
    for in_float in ((), ('expand',)):
      twin = _twin(student, weight_scales='tensor', in_float=in_float)
      raw, source, target = _run(quantised.tflite(twin), images)
      agreements.append((raw.argmax(axis=1) == classes).mean())
      self.assertEqual(source['quantization'], (1.0, 0))
      self.assertEqual((source['dtype'], target['dtype']), (np.uint8,) * 2)
    self.assertLess(agreements[0], 0.9)
    self.assertGreaterEqual(agreements[1], 0.97)

  def test_other_layers_are_integers(self):
    student = quantised_networks.trained()
    twin = _twin(student, in_float=['expand'])
    content = quantised.tflite(twin)
    # The one that reads what the layer writes computes in float too.
    self.assertEqual(twin.float_groups, {'expand', 'depthwise'})
    other = _twin(student, in_float=['last'])
    with self.assertRaisesRegex(errors.UsageError, 'of the layer (ex|dep)'):
      quantised.check(content, other)
    with self.assertRaisesRegex(errors.UsageError, 'not integer throughout'):
      quantised.check(content, _shared_twin())

  def test_logits_left_in_float_are_float32(self):
    twin = _twin(in_float=['logits'])
    content = quantised.tflite(twin)
    images, _ = quantised_networks.images(8)
    interpreter = litert.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()
    self.assertEqual((source['dtype'], target['dtype']), (np.uint8, np.float32))
    expected = twin.model(images, training=False)
    for image, logits in zip(images, expected, strict=True):
      interpreter.set_tensor(source['index'], image[None])
      interpreter.invoke()
      found = interpreter.get_tensor(target['index'])[0]
      np.testing.assert_allclose(found, logits, atol=0.02 * np.ptp(expected))


class CheckTest(parameterized.TestCase):
  def test_other_ranges_are_refused_by_name(self):
    twin, content = _shared_twin(), _shared_file()
    ranges = twin.ranges_by_place()
    self.addCleanup(twin.set_ranges, ranges)
    low, high = ranges['project']
    twin.set_ranges(ranges | {'project': (low, 1.1 * high)})
    with self.assertRaisesRegex(errors.UsageError, 'the layer project'):
      quantised.check(content, twin)

  def test_other_weights_are_refused_by_name(self):
    twin, content = _shared_twin(), _shared_file()
    kernel = twin.student.get_layer('reduce').kernel
    self.addCleanup(kernel.assign, kernel.numpy())
    kernel.assign(-kernel)
    with self.assertRaisesRegex(errors.UsageError, 'than the layer reduce'):
      quantised.check(content, twin)

  def test_file_with_a_float_operation_is_refused_by_name(self):
    twin = _shared_twin()
    step = next(each for each in twin.steps if each.name == 'residual')
    with (
      mock.patch.object(step, 'round', lambda y, place: y),
      self.assertRaisesRegex(
        errors.UsageError, 'not integer throughout.* residual'
      ),
    ):
      quantised.tflite(twin)

  def test_network_that_does_not_convert_is_refused_in_one_line(self):
    twin = _shared_twin()
    step = next(each for each in twin.steps if each.name == 'pool')
    with (
      mock.patch.object(
        step, 'compute', lambda values: tf.math.bessel_i0(values[0][:, 0, 0])
      ),
      self.assertRaisesRegex(errors.UsageError, 'TFLite has no BesselI0'),
    ):
      quantised.tflite(twin)

  def test_weights_that_became_nan_are_refused(self):
    twin = _shared_twin()
    bias = twin.student.get_layer('logits').bias
    self.addCleanup(bias.assign, bias.numpy())
    bias.assign(tf.fill(bias.shape, np.nan))
    with self.assertRaisesRegex(errors.UsageError, 'logits/bias is not finite'):
      quantised.tflite(twin)


def _plain():
  """Returns a network whose tensors have the names of its places."""
  keras.utils.set_random_seed(0)
  image = keras.Input(quantised_networks.SHAPE, name='image')
  x = keras.layers.Rescaling(1 / 64, name='rescale')(image)
  x = keras.layers.Conv2D(8, 3, strides=2, padding='same', name='stem')(x)
  x = keras.layers.ReLU(name='stem_relu')(x)
  y = keras.layers.DepthwiseConv2D(3, padding='same', name='depthwise')(x)
  y = keras.layers.ReLU(6.0, name='depthwise_relu')(y)
  y = keras.layers.Conv2D(8, 1, name='project')(y)
  x = keras.layers.Add(name='residual')([x, y])
  x = keras.layers.ReLU(name='residual_relu')(x)
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  x = keras.layers.Dense(quantised_networks.CLASSES, name='logits')(x)
  return quantised_networks.train(keras.Model(image, x, name='plain'), 30)


class SecondWayTest(absltest.TestCase):
  def test_litert_quantizer_makes_the_same_file_of_the_ranges(self):
    quantizer = pytest.importorskip(
      'litert_quantizer.quantizer', reason='pip install litert-quantizer'
    )
    twin = _twin(_plain())
    in_float = self._float_file(twin)
    ranges = twin.ranges_by_place()
    calibration = {}
    for name in _computed(in_float):
      layer = re.sub(r'_\d+$', '', [*name.split(';')[0].split('/'), ''][1])
      if name == 'image':
        low, high = 0.0, 255.0
      else:  # The output has the name of no layer.
        low, high = ranges.get(layer, ranges['logits'])
      calibration[name] = {'min': np.float32(low), 'max': np.float32(high)}
    other = quantizer.Quantizer(bytearray(in_float), _RECIPE)
    content = bytes(
      other.quantize(calibration, enable_progress_report=False).quantized_model
    )
    images, _ = quantised_networks.images(200, seed=1)
    ours, _, target = _run(quantised.tflite(twin, io='int8'), images)
    scale, zero = target['quantization']
    theirs, _, target = _run(content, images)
    np.testing.assert_allclose(target['quantization'], (scale, zero), 1e-6)
    # A weight on the border between two steps may have been rounded either way.
    self.assertGreaterEqual((ours == theirs).mean(), 0.98)
    self.assertLessEqual(np.abs(ours - theirs).max(), 1)

  def _float_file(self, twin):
    shape = (1, *twin.model.input_shape[1:])
    with twin.observing(), twin.frozen():
      serve = tf.function(
        lambda image: twin.model(image, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32, 'image')],
      ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve])
    return converter.convert()


_RECIPE = [
  {
    'regex': '.*',
    'operation': '*',
    'algorithm_key': 'min_max_uniform_quantize',
    'op_config': {
      'activation_tensor_config': {
        'num_bits': 8,
        'symmetric': False,
        'granularity': 'TENSORWISE',
        'dtype': 'INT',
      },
      'weight_tensor_config': {
        'num_bits': 8,
        'symmetric': True,
        'granularity': 'CHANNELWISE',
        'dtype': 'INT',
      },
      'compute_precision': 'INTEGER',
      'explicit_dequantize': False,
      'skip_checks': False,
      'min_weight_elements': 0,
    },
  }
]


def _computed(content):
  """Returns the names of a file's tensors that are not constants."""
  model = schema.ModelT.InitFromPackedBuf(content, 0)
  (graph,) = model.subgraphs
  return [
    tensor.name.decode()
    for tensor in graph.tensors
    if model.buffers[tensor.buffer].data is None
  ]


if __name__ == '__main__':
  absltest.main()
