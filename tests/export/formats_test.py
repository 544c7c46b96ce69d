"""Every format of a student: what it takes, gives and weighs."""

import os
import tempfile
from unittest import mock

import keras
import numpy as np
from absl.testing import absltest, parameterized
from ai_edge_litert import compiled_model
from ai_edge_litert import interpreter as litert

from ft_tf import errors
from ft_tf.evaluation import device_files
from ft_tf.export import budget, convert, formats, quantised
from ft_tf.models import layers, zoo
from tests import tflite_predictors

# `mixed` is of students that lose something in int8.
_TFLITE = [
  each
  for each in formats.FORMATS.values()
  if each.file.endswith('.tflite') and each.name != 'mixed'
]


def _images(count=40, shape=(12, 12, 3)):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, *shape)).astype(np.uint8)


def _student(activation='relu'):
  """Returns a network of squeezed and shifted maps, its batch norm in use."""
  keras.utils.set_random_seed(3)
  image = keras.Input((12, 12, 3), dtype='uint8')
  x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
  x = keras.layers.Conv2D(8, 3, strides=2, padding='same', use_bias=False)(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.Activation(activation)(x)
  gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
  gate = keras.layers.Conv2D(8, 1, activation='hard_sigmoid')(gate)
  y = keras.layers.DepthwiseConv2D(3, padding='same')(x * gate)
  x = keras.layers.ReLU(max_value=6)(x + y)
  x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
  model = keras.Model(image, keras.layers.Dense(5)(x))
  for _ in range(5):
    model(_images(), training=True)
  return model


class FormatsTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
    cls.student = _student()
    source = formats.Source(cls.student, _images())
    for each in _TFLITE:
      with open(os.path.join(cls.folder, each.file), 'wb') as file:
        file.write(each.make(source))

  @parameterized.parameters(*(each.name for each in _TFLITE))
  def test_file_runs_alike_in_both_of_litert_s_runtimes(self, name):
    path = os.path.join(self.folder, formats.FORMATS[name].file)
    interpreter = litert.Interpreter(path, num_threads=1)
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    (logits,) = interpreter.get_output_details()
    model = compiled_model.CompiledModel.from_file(path)
    inputs = model.create_input_buffers(0)
    outputs = model.create_output_buffers(0)
    for each in _images(20):
      value = each[None].astype(np.int16)
      if image['dtype'] == np.int8:
        value -= 128
      value = value.astype(image['dtype'])
      interpreter.set_tensor(image['index'], value)
      interpreter.invoke()
      inputs[0].write(value)
      model.run_by_index(0, inputs, outputs)
      np.testing.assert_array_equal(
        outputs[0].read(5, logits['dtype']),
        interpreter.get_tensor(logits['index'])[0],
      )

  @parameterized.parameters(
    ('fp32', 'uint8', 'float32', 1e-4),
    ('fp16', 'uint8', 'float32', 0.02),
    ('int8', 'uint8', 'uint8', 0.15),
    ('dynamic', 'uint8', 'float32', 0.05),
    ('int8_io', 'int8', 'int8', 0.15),
    ('int16x8', 'float32', 'float32', 0.05),
    ('flexible', 'uint8', 'float32', 1e-4),
  )
  def test_raw_images_to_the_students_logits(
    self, name, taken, given, tolerance
  ):
    predict = device_files.LiteRTPredictor(
      os.path.join(self.folder, formats.FORMATS[name].file)
    )
    self.assertEqual(
      (predict.input.dtype, predict.output.dtype), (taken, given)
    )
    batch = None if name == 'flexible' else 1
    self.assertEqual(predict.input.shape, (batch, 12, 12, 3))
    images = _images(9)
    expected = self.student(images, training=False).numpy()
    np.testing.assert_allclose(
      predict(images), expected, atol=tolerance * np.ptp(expected)
    )

  def test_int8_files_are_integer_throughout(self):
    for name in ('int8', 'int8_io'):
      interpreter = litert.Interpreter(
        os.path.join(self.folder, formats.FORMATS[name].file)
      )
      kinds = {np.dtype(t['dtype']) for t in interpreter.get_tensor_details()}
      self.assertEqual({kind.kind for kind in kinds} - {'i', 'u'}, set())

  def test_resnet20_keeps_to_its_bytes(self):
    student = zoo.build(
      'resnet20',
      layers.Spec((32, 32, 3), 10, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
    )
    budget._move(student)
    names = ('airplane', 'automobile', 'bird', 'cat', 'deer')
    source = formats.Source(
      student, _images(20, (32, 32, 3)), label_names=names + names
    )
    content = formats.FORMATS['int8'].make(source)
    self.assertLess(len(content), 306_000)

  def test_operation_that_a_format_lacks_is_named_with_the_format(self):
    image = keras.Input((12, 12, 3), dtype='uint8')
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Flatten()(keras.ops.sin(x))
    student = keras.Model(image, keras.layers.Dense(3)(x))
    source = formats.Source(student, _images())
    formats.FORMATS['flexible'].make(source)
    with self.assertRaisesRegex(
      errors.UsageError, 'no SIN of 16 bits.*leave int16x8 out of'
    ):
      formats.FORMATS['int16x8'].make(source)

  def test_hard_swish_is_no_hindrance_to_16_bits(self):
    student = _student('hard_swish')
    content = formats.FORMATS['int16x8'].make(
      formats.Source(student, _images())
    )
    expected = student(_images(), training=False).numpy()
    np.testing.assert_allclose(
      tflite_predictors.predictor(self, content)(_images()),
      expected,
      atol=0.05 * np.ptp(expected),
    )

  def test_default_formats_are_always_made(self):
    self.assertEqual(
      [each.name for each in formats.choose(())], ['fp32', 'fp16', 'int8']
    )
    self.assertEqual(
      [each.name for each in formats.choose(['flexible', 'int8', 'dynamic'])],
      ['fp32', 'fp16', 'int8', 'dynamic', 'flexible'],
    )
    with self.assertRaisesRegex(errors.UsageError, '--formats=int9: '):
      formats.choose(['int9'])


class Int8Test(parameterized.TestCase):
  def _make(self, source):
    """Returns the file, and how often the converter took its ranges."""
    with mock.patch.object(
      convert, 'tflite_int8', wraps=convert.tflite_int8
    ) as calibrating:
      content = formats.FORMATS['int8'].make(source)
    return content, calibrating.call_count

  @parameterized.parameters(
    ('dark', 5, 121), ('bright', 140, 256), ('constant', 77, 78)
  )
  def test_ranges_hold_images_unlike_those_of_training(self, _, low, high):
    student = _student()
    rng = np.random.default_rng(1)
    calibration = rng.integers(low, high, (24, 12, 12, 3), dtype=np.uint8)
    content, count = self._make(formats.Source(student, calibration))
    self.assertEqual(count, 0)
    predict = tflite_predictors.predictor(self, content)
    self.assertEqual((predict.input.scale, predict.input.zero_point), (1.0, 0))
    expected = student(_images(200), training=False).numpy()
    same = predict(_images(200)).argmax(axis=1) == expected.argmax(axis=1)
    self.assertGreaterEqual(same.mean(), 0.9)

  def test_ranges_that_the_twin_and_the_converter_find_are_as_good(self):
    student = _student('hard_swish')
    source, images = formats.Source(student, _images()), _images(200)
    expected = student(images, training=False).numpy()
    of_twin, count = self._make(source)
    self.assertEqual(count, 0)
    of_converter = convert.tflite_int8(source.of_reals, source.calibration)
    losses = [
      np.abs(tflite_predictors.predictor(self, each)(images) - expected).mean()
      for each in (of_twin, of_converter)
    ]
    self.assertLess(losses[0], 1.3 * losses[1])
    self.assertLess(len(of_twin), 1.1 * len(of_converter) + 1000)

  def test_converter_calibrates_what_the_twin_does_not_know(self):
    student = _student('tanh')
    content, count = self._make(formats.Source(student, _images()))
    self.assertEqual(count, 1)
    expected = student(_images(), training=False).numpy()
    np.testing.assert_allclose(
      tflite_predictors.predictor(self, content)(_images()),
      expected,
      atol=0.2 * np.ptp(expected),
    )

  def test_converter_calibrates_where_a_file_is_not_the_twins(self):
    student, refused = _student(), errors.UsageError('other than the twin')
    with mock.patch.object(quantised, 'check', side_effect=refused):
      content, count = self._make(formats.Source(student, _images()))
      self.assertEqual(count, 1)
      self.assertEqual(
        tflite_predictors.predictor(self, content).input.dtype, 'uint8'
      )
      source = formats.Source(student, _images(), weight_scales='tensor')
      with self.assertRaisesRegex(errors.UsageError, 'than the twin'):
        self._make(source)

  def test_learned_ranges_are_those_of_the_file(self):
    student = _student()
    ranges = formats.Source(student, _images()).twin.ranges_by_place()
    learned = {
      place: (low, 0.9 * high) for place, (low, high) in ranges.items()
    }
    content, _ = self._make(formats.Source(student, _images(), ranges=learned))
    scale = tflite_predictors.predictor(self, content).output.scale
    low, high = learned[student.layers[-1].name]
    self.assertAlmostEqual(scale, (high - low) / 255, 6)


class MixedTest(parameterized.TestCase):
  def _source(self, repair, student=None):
    source = formats.Source(student or _student(), _images())
    layers = [{'layer': name} for name in ('conv2d', 'dense')]
    source.studied = {'repair': repair, 'layers': layers}
    return source

  @parameterized.parameters(
    ([], 'no layer has to be left in float'),
    (['conv2d', 'dense'], 'all layers would have to be left in float'),
  )
  def test_there_is_no_use_for_it(self, repair, reason):
    mixed, source = formats.FORMATS['mixed'], self._source(repair)
    self.assertIn(reason, mixed.why_needless(source))
    with self.assertRaisesRegex(errors.UsageError, reason):
      mixed.make(source)

  def test_layers_of_the_repair_are_left_in_float(self):
    student = _student()
    name = next(
      each.name
      for each in student.layers
      if type(each) is keras.layers.DepthwiseConv2D
    )
    mixed, source = formats.FORMATS['mixed'], self._source([name], student)
    self.assertEqual(mixed.why_needless(source), '')
    content = mixed.make(source)
    interpreter = litert.Interpreter(model_content=content)
    dtypes = {each['dtype'] for each in interpreter.get_tensor_details()}
    self.assertContainsSubset({np.int8, np.float32}, dtypes)
    (logits,) = interpreter.get_output_details()
    self.assertEqual(logits['dtype'], np.uint8)

  def test_unknown_layers_are_refused_before_training(self):
    image = keras.Input((12, 12, 3))
    x = keras.layers.LayerNormalization(name='norm')(image)
    x = keras.layers.Flatten()(x)
    student = keras.Model(image, keras.layers.Dense(5)(x))
    with self.assertRaisesRegex(errors.UsageError, 'norm .*leave mixed out'):
      formats.FORMATS['mixed'].check_untrained(self._source([], student))


if __name__ == '__main__':
  absltest.main()
