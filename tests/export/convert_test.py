"""What comes out of the converter computes what Keras computes."""

import functools
import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.evaluation import predictors
from ft_tf.export import calibration_images, convert, saved_model
from ft_tf.models import layers, zoo
from tests import descriptors, networks, tflite_predictors

_SPEC = layers.Spec((8, 8, 3), 4, (0.5, 0.4, 0.3), (0.25, 0.2, 0.2))


def _images(count=64):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, 8, 8, 3)).astype(np.uint8)


def _fresh():
  """Returns a network whose batch norm has seen images."""
  keras.utils.set_random_seed(1)
  model = networks.short(_SPEC, 16)
  for _ in range(20):
    model(_images(), training=True)
  return model


# The same, which tests share and leave as it is.
_model = functools.cache(_fresh)


@functools.cache
def _float32_file():
  return convert.tflite_float32(_model())


def _without_integers():
  """Returns a network whose first layer takes no integers."""
  image = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(8, 3, strides=2, activation='relu')(image)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(4)(x))


def _sequential():
  """Returns a Sequential network without a convolution."""
  return keras.Sequential(
    [
      keras.Input((8, 8, 3)),
      keras.layers.Rescaling(1 / 127.5, offset=-1),
      keras.layers.Flatten(),
      keras.layers.Dense(4),
    ]
  )


class ConvertTest(parameterized.TestCase):
  def test_float32_file_equals_keras_and_takes_raw_bytes(self):
    model, images = _model(), _images()
    predict = tflite_predictors.predictor(self, _float32_file())
    np.testing.assert_allclose(
      predict(images), model(images, training=False), atol=1e-4
    )
    self.assertEqual(predict.input.dtype, 'uint8')
    self.assertEqual(predict.input.shape, (1, 8, 8, 3))
    self.assertFalse(predict.flexible_batch)

  def test_operation_of_its_own_gradient_is_converted(self):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, activation='silu')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(4)(x))
    images = _images()
    twin = convert.float32_twin(model, 'uint8')
    predict = tflite_predictors.predictor(self, convert.tflite_float32(twin))
    np.testing.assert_allclose(
      predict(images), model(images.astype(np.float32)), atol=1e-5
    )

  def test_file_of_any_batch_takes_several_images(self):
    model, images = _model(), _images(5)
    predict = tflite_predictors.predictor(
      self, convert.tflite_float32(model, batch=None)
    )
    self.assertTrue(predict.flexible_batch)
    self.assertIsNone(predict.input.shape[0])
    np.testing.assert_allclose(
      predict(images), model(images, training=False), atol=1e-4
    )

  def test_files_of_other_kinds_compute_what_keras_computes(self):
    model, images = _model(), _images()
    expected = model(images, training=False).numpy()
    spread = np.ptp(expected)
    twin = convert.float32_twin(model, 'float32')
    for name, content, dtypes, tolerance in (
      (
        'dynamic',
        convert.tflite_dynamic(convert.float32_twin(model, 'uint8')),
        ('uint8', 'float32'),
        0.05,
      ),
      (
        'int8_io',
        convert.tflite_int8(twin, images, outside='int8'),
        ('int8', 'int8'),
        0.1,
      ),
      (
        'int16x8',
        convert.tflite_int16x8(twin, images),
        ('float32', 'float32'),
        0.05,
      ),
    ):
      with self.subTest(name):
        predict = tflite_predictors.predictor(self, content)
        self.assertEqual((predict.input.dtype, predict.output.dtype), dtypes)
        self.assertLess(
          np.abs(predict(images) - expected).max(), tolerance * spread
        )

  def test_normalization_that_has_seen_images_is_kept(self):
    normalization = keras.layers.Normalization()
    images = _images()
    normalization.adapt(images)
    model = keras.Sequential(
      [
        keras.Input((8, 8, 3)),
        normalization,
        keras.layers.Flatten(),
        keras.layers.Dense(4),
      ]
    )
    twin = convert.float32_twin(model, 'uint8')
    np.testing.assert_allclose(twin(images), model(images), atol=1e-5)
    predict = tflite_predictors.predictor(self, convert.tflite_float32(twin))
    np.testing.assert_allclose(predict(images), model(images), atol=1e-4)

  def test_network_whose_first_layer_takes_no_integers_is_kept(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation='relu')(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    twin = convert.float32_twin(model, 'uint8')
    self.assertEqual(twin.inputs[0].dtype, 'uint8')
    images = np.random.default_rng(0).integers(256, size=(4, 8, 8, 3))
    images = images.astype(np.uint8)
    wanted = model(images.astype(np.float32))
    np.testing.assert_allclose(twin(images), wanted, rtol=1e-5, atol=1e-4)
    folder = self.create_tempdir().full_path
    saved_model.write(twin, os.path.join(folder, 'saved'))
    path = os.path.join(folder, 'student.tflite')
    with open(path, 'wb') as file:
      file.write(convert.tflite_float32(twin))
    twin.save(os.path.join(folder, 'student.keras'))
    for name in ('saved', 'student.tflite', 'student.keras'):
      predict = predictors.open_predictor(os.path.join(folder, name))
      np.testing.assert_allclose(predict(images), wanted, rtol=1e-3, atol=1e-2)

  def test_notes_of_the_converter_are_held_back(self):
    model, images = _sequential(), _images(8)
    with (
      mock.patch.dict(os.environ, {'TF_CPP_MIN_LOG_LEVEL': '2'}),
      descriptors.captured_stderr() as read,
    ):
      convert.tflite_int8(model, images)
      self.assertEmpty(read())
    with (
      mock.patch.dict(os.environ, {'TF_CPP_MIN_LOG_LEVEL': '0'}),
      descriptors.captured_stderr() as read,
    ):
      convert.tflite_int8(model, images)
      self.assertIn('fully_quantize', read())

  @parameterized.parameters('layer', 'convolution', 'operation')
  def test_hard_swish_is_divided_for_integers(self, kind):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 50, offset=-2)(image)
    fused = 'hard_swish' if kind == 'convolution' else None
    x = keras.layers.Conv2D(8, 3, activation=fused)(x)
    if kind == 'layer':
      x = keras.layers.Activation('hard_swish')(x)
    if kind == 'operation':
      x = keras.ops.hard_silu(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(4)(x))
    images = _images()
    expected = model(images.astype(np.float32)).numpy()
    twin = convert.with_divided_hard_swish(
      convert.float32_twin(model, 'float32')
    )
    np.testing.assert_allclose(
      twin(images.astype(np.float32)), expected, atol=1e-5
    )
    predict = tflite_predictors.predictor(
      self, convert.tflite_int8(twin, images)
    )
    operations = [
      each['op_name'] for each in predict.interpreter._get_ops_details()
    ]
    self.assertNotIn('HARD_SWISH', operations)
    np.testing.assert_allclose(
      predict(images), expected, atol=0.05 * np.ptp(expected)
    )
    # The float32 file and the student itself keep theirs.
    np.testing.assert_array_equal(model(images.astype(np.float32)), expected)

  def test_float16_file_is_smaller_and_close(self):
    model, images = _model(), _images()
    content = convert.tflite_float16(model)
    self.assertLess(len(content), 0.8 * len(_float32_file()))
    np.testing.assert_allclose(
      tflite_predictors.predictor(self, content)(images),
      model(images, training=False),
      atol=0.02,
    )

  def test_int8_file_is_integer_throughout_and_takes_raw_bytes(self):
    model, images = _model(), _images()
    content = convert.tflite_int8(
      convert.float32_twin(model, 'float32'), images
    )
    predict = tflite_predictors.predictor(self, content)
    self.assertEqual(
      (predict.input.dtype, predict.output.dtype), ('uint8', 'uint8')
    )
    kinds = {
      np.dtype(tensor['dtype']).name
      for tensor in predict.interpreter.get_tensor_details()
    }
    self.assertNoCommonElements(kinds, {'float32', 'float16'})
    (details,) = predict.interpreter.get_input_details()
    self.assertEqual(details['quantization'], (1.0, 0))
    expected = model(images, training=False).numpy()
    outputs = predict(images)
    spread = expected.max() - expected.min()
    self.assertLess(np.abs(outputs - expected).max(), 0.1 * spread)

  @parameterized.parameters(_model, _without_integers, _sequential)
  def test_int8_input_is_raw_bytes_whatever_the_calibration_images(self, build):
    keras.utils.set_random_seed(1)
    twin = convert.float32_twin(build(), 'float32')
    shape = (12, 8, 8, 3)
    bright = _images(200)
    wanted = np.argmax(twin(bright.astype(np.float32)), axis=1)
    rng = np.random.default_rng(1)
    for name, calibration, agreement in (
      ('dark', rng.integers(5, 121, shape), 0.9),
      ('bright', rng.integers(140, 256, shape), 0.9),
      ('one', rng.integers(121, size=(1, *shape[1:])), 0),
      ('constant', np.full(shape, 77), 0),
      ('black', np.zeros(shape), 0),
    ):
      with self.subTest(name):
        content = convert.tflite_int8(twin, calibration.astype(np.uint8))
        predict = tflite_predictors.predictor(self, content)
        (details,) = predict.interpreter.get_input_details()
        self.assertEqual(details['dtype'], np.uint8)
        self.assertEqual(details['quantization'], (1.0, 0))
        same = np.mean(predict(bright).argmax(axis=1) == wanted)
        self.assertGreaterEqual(same, agreement)

  @pytest.mark.slow
  def test_int8_input_of_a_network_of_keras_is_raw_bytes(self):
    twin = convert.float32_twin(zoo.build('mobilenetx0.25', _SPEC), 'float32')
    black = np.zeros((2, 8, 8, 3), np.uint8)
    predict = tflite_predictors.predictor(
      self, convert.tflite_int8(twin, black)
    )
    (details,) = predict.interpreter.get_input_details()
    self.assertEqual(details['quantization'], (1.0, 0))

  def test_int8_file_of_another_scale_is_refused(self):
    twin = convert.float32_twin(_sequential(), 'float32')
    with (
      mock.patch.object(
        calibration_images, 'over_full_range', lambda images: images
      ),
      self.assertRaisesRegex(errors.UsageError, 'has scale 0.27.* not 1 and 0'),
    ):
      convert.tflite_int8(twin, np.full((3, 8, 8, 3), 70, np.uint8))

  def test_twin_of_a_mixed_precision_model_converts_to_built_in_operations(
    self,
  ):
    keras.config.set_dtype_policy('mixed_bfloat16')
    try:
      model = _fresh()
    finally:
      keras.config.set_dtype_policy('float32')
    twin = convert.float32_twin(model, 'uint8')
    self.assertEqual(
      {layer.compute_dtype for layer in twin.layers[1:]}, {'float32'}
    )
    images = _images()
    predict = tflite_predictors.predictor(self, convert.tflite_float32(twin))
    np.testing.assert_allclose(
      predict(images), twin(images, training=False), atol=1e-4
    )


if __name__ == '__main__':
  absltest.main()
