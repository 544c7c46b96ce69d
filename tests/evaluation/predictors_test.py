"""Every format of a model, run on raw images."""

import contextlib
import io
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import example_sets
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import convert, saved_model
from ft_tf.models import layers, zoo


def _examples(count=7, channels=1, size=8):
  rng = np.random.default_rng(0)
  return example_sets.Examples(
    rng.integers(256, size=(count, size, size, channels)).astype(np.uint8),
    rng.integers(3, size=count),
  )


def _logits(images):
  """Returns the brightness of each third of images `[B, 8, 8, 1]`."""
  columns = tf.reduce_mean(tf.cast(images, tf.float32), axis=[1, 3]) / 64
  thirds = [columns[:, :3], columns[:, 3:5], columns[:, 5:]]
  return tf.stack([tf.reduce_mean(third, axis=1) for third in thirds], axis=1)


class GivenFileTest(parameterized.TestCase):
  """Of .tflite files and SavedModels that others made."""

  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'm.tflite')
    self.images = _examples(9).images
    self.wanted = _logits(self.images).numpy()

  def _tflite(self, function=_logits, shape=(None, 8, 8, 1), **quantised):
    """Converts a function of float32 images; returns its predictor.

    Args:
      function: From images.
      shape: Of its input.
      **quantised: `dtype` of the input and what calibration reaches, `to`.
    """
    if not isinstance(shape, list):
      shape = [shape]
    module = tf.Module()
    module.call = tf.function(
      function, input_signature=[tf.TensorSpec(s, tf.float32) for s in shape]
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
      [module.call.get_concrete_function()], module
    )
    if quantised:
      greys = np.linspace(0, quantised['to'], 20)
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.representative_dataset = lambda: (
        [np.full((1, 8, 8, 1), grey, np.float32)] for grey in greys
      )
      kinds = tf.lite.OpsSet
      converter.target_spec.supported_ops = [
        kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        if quantised['dtype'] == tf.int16
        else kinds.TFLITE_BUILTINS_INT8
      ]
      converter.inference_input_type = quantised['dtype']
      converter.inference_output_type = quantised['dtype']
    with open(self.path, 'wb') as file:
      file.write(converter.convert())
    return predictors.open_predictor(self.path)

  @parameterized.parameters(tf.int8, tf.uint8, tf.int16)
  def test_integer_input_is_quantised_as_the_file_says(self, dtype):
    predict = self._tflite(dtype=dtype, to=255.0)
    self.assertEqual(predict.input.dtype, dtype.name)
    np.testing.assert_allclose(predict(self.images), self.wanted, atol=0.05)

  def test_values_beyond_the_files_range_are_clipped_to_it(self):
    predict = self._tflite(dtype=tf.uint8, to=120.0)
    np.testing.assert_allclose(
      predict(self.images), _logits(np.minimum(self.images, 120)), atol=0.03
    )

  def test_input_of_other_values_than_raw_images_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'takes values of 0 to 1 '):
      self._tflite(dtype=tf.int8, to=1.0)

  def test_real_input_is_given_0_to_255(self):
    predict = self._tflite()
    self.assertEqual(predict.input.dtype, 'float32')
    np.testing.assert_allclose(predict(self.images), self.wanted, atol=1e-5)

  @parameterized.parameters(1, 4)
  def test_batch_of_one_size_is_filled_up(self, size):
    predict = self._tflite(shape=(size, 8, 8, 1))
    self.assertFalse(predict.flexible_batch)
    np.testing.assert_allclose(predict(self.images), self.wanted, atol=1e-5)

  def test_batch_that_cannot_be_resized_goes_image_by_image(self):
    predict = self._tflite(
      lambda images: tf.reshape(
        _logits(tf.reshape(images, [1, 8, 8, 1])), [1, 3]
      )
    )
    np.testing.assert_allclose(predict(self.images), self.wanted, atol=1e-5)
    self.assertFalse(predict.flexible_batch)

  @parameterized.parameters(
    ((None, 3, 8, 8), 'channels first'),
    ((None, 64), r'inputs of shape \[None, 64\]'),
    ([(None, 8, 8, 1), (None, 8, 8, 1)], '2 inputs and 1 outputs'),
  )
  def test_other_inputs_are_refused_in_a_line(self, shape, message):
    def function(*inputs):
      return sum(tf.reduce_sum(tf.reshape(x, [1, -1]), 1) for x in inputs)

    with self.assertRaisesRegex(errors.UsageError, message) as caught:
      self._tflite(function, shape)
    self.assertNotIn('\n', str(caught.exception))

  def test_other_outputs_are_refused_in_a_line(self):
    predict = self._tflite(lambda images: images + 1)
    with self.assertRaisesRegex(errors.UsageError, 'give a model of logits'):
      predict(self.images)
    with self.assertRaisesRegex(errors.UsageError, '1 inputs and 2 outputs'):
      self._tflite(lambda images: (images + 1, images + 2))

  @parameterized.parameters({}, {'dtype': tf.int8, 'to': 255.0})
  def test_loss_of_probabilities_is_that_of_logits(self, **quantised):
    examples = example_sets.Examples(self.images, np.arange(9) % 3)
    wanted = metrics.score(self.wanted, examples.labels)
    predict = self._tflite(
      lambda images: tf.nn.softmax(_logits(images)), **quantised
    )
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      scores = metrics.evaluate(predict, examples)
    self.assertAlmostEqual(scores['loss'], wanted['loss'], delta=0.02)
    self.assertRegex(said.getvalue(), r'm\.tflite gives probabilities')

  def _saved(self, **signatures):
    """Saves functions of one TensorSpec each, by name of the signature."""
    module = tf.Module()
    found = {}
    for name, (function, spec) in signatures.items():
      call = tf.function(function, input_signature=[spec])
      setattr(module, name, call)
      found[name] = call
    folder = self.create_tempdir().full_path
    tf.saved_model.save(module, folder, signatures=found)
    return folder

  @parameterized.product(
    dtype=(tf.float32, tf.uint8, tf.int32), shape=((None,), (4,))
  )
  def test_saved_model_of_any_dtype_and_batch_is_measured(self, dtype, shape):
    spec = tf.TensorSpec([*shape, 8, 8, 1], dtype, 'x')
    predict = predictors.open_predictor(self._saved(mine=(_logits, spec)))
    self.assertEqual(predict.image_shape, (8, 8, 1))
    np.testing.assert_allclose(predict(self.images), self.wanted, atol=1e-5)

  def test_saved_model_of_keras_is_measured(self):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.GlobalMaxPooling2D()(image))
    folder = self.create_tempdir().full_path
    model.export(folder, verbose=False)
    self.assertEqual(
      predictors.open_predictor(folder)(self.images).shape, (9, 1)
    )

  def test_saved_models_of_another_kind_are_refused_in_a_line(self):
    images = tf.TensorSpec([None, 8, 8, 1], tf.float32, 'x')
    for message, signatures in (
      ('signatures a, b', {'a': (_logits, images), 'b': (_logits, images)}),
      (
        '1 inputs and 2 outputs',
        {'a': (lambda x: {'y': _logits(x), 'z': x + 1}, images)},
      ),
      (
        'not images',
        {
          'a': (
            lambda x: tf.zeros([tf.size(x), 3]),
            tf.TensorSpec([None, None, None, None], tf.string, 'x'),
          )
        },
      ),
    ):
      with self.assertRaisesRegex(errors.UsageError, message) as caught:
        predictors.open_predictor(self._saved(**signatures))
      self.assertNotIn('\n', str(caught.exception))

  def test_saved_model_that_does_not_load_is_refused_in_a_line(self):
    folder = self.create_tempdir().full_path
    with open(os.path.join(folder, 'saved_model.pb'), 'wb') as file:
      file.write(b'nothing')
    with self.assertRaisesRegex(errors.UsageError, 'does not load as a Saved'):
      predictors.open_predictor(folder)


class PredictorTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    cls.model = zoo.build(
      'resnet8x0.25', layers.Spec((8, 8, 1), 3, (0.5,), (0.25,))
    )

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _path(self, name):
    return os.path.join(self.folder, name)

  def test_every_format_gives_the_models_logits(self):
    self.model.save(self._path('m.keras'))
    saved_model.write(self.model, self._path('saved'))
    with open(self._path('m.tflite'), 'wb') as file:
      file.write(convert.tflite_float32(self.model))
    images = _examples().images
    expected = self.model(images, training=False)
    for name in ('m.keras', 'saved', 'm.tflite'):
      predict = predictors.open_predictor(self._path(name))
      self.assertEqual(predict.image_shape, (8, 8, 1))
      self.assertEqual(predict.image_size, 8)
      np.testing.assert_allclose(
        predict(images), expected, atol=1e-5, err_msg=name
      )
      # Another batch size, as the last batch has.
      np.testing.assert_allclose(predict(images[:2]), expected[:2], atol=1e-5)

  def test_evaluation_moves_no_variable(self):
    before = self.model.get_weights()
    metrics.evaluate(predictors.KerasPredictor(self.model), _examples())
    for now, then in zip(self.model.get_weights(), before, strict=True):
      np.testing.assert_array_equal(now, then)

  def test_more_images_than_a_batch_are_all_counted(self):
    examples = _examples(301)
    scores = metrics.evaluate(predictors.KerasPredictor(self.model), examples)
    expected = self.model(examples.images, training=False).numpy()
    self.assertEqual(scores['examples'], 301)
    self.assertAlmostEqual(
      scores['accuracy'], (expected.argmax(1) == examples.labels).mean()
    )

  def test_image_size_is_0_when_a_model_takes_any(self):
    model = keras.Sequential(
      [
        keras.Input((None, None, 1), dtype='uint8'),
        keras.layers.Rescaling(1 / 255),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3),
      ]
    )
    predict = predictors.KerasPredictor(model)
    self.assertEqual(predict.image_size, 0)
    self.assertEqual(predict(_examples(size=5).images).shape, (7, 3))

  def test_images_of_another_shape_are_refused(self):
    saved_model.write(self.model, self._path('saved'))
    with open(self._path('m.tflite'), 'wb') as file:
      file.write(convert.tflite_float32(self.model))
    for predict in (
      predictors.KerasPredictor(self.model),
      predictors.open_predictor(self._path('saved')),
      predictors.open_predictor(self._path('m.tflite')),
    ):
      with self.assertRaisesRegex(errors.UsageError, 'does not take images'):
        metrics.evaluate(predict, _examples(size=9))

  def test_labels_beyond_the_models_classes_are_refused(self):
    examples = _examples()
    examples.labels[0] = 3
    with self.assertRaisesRegex(errors.UsageError, 'has 3 classes'):
      metrics.evaluate(predictors.KerasPredictor(self.model), examples)

  def test_what_is_no_model_is_refused(self):
    for name in ('a.keras', 'a.tflite'):
      with open(self._path(name), 'wb') as file:
        file.write(b'nothing')
      with self.assertRaisesRegex(errors.UsageError, 'does not load'):
        predictors.open_predictor(self._path(name))
    with self.assertRaisesRegex(errors.UsageError, 'there is no file'):
      predictors.open_predictor(self._path('absent.keras'))
    with self.assertRaisesRegex(errors.UsageError, 'not a SavedModel'):
      predictors.open_predictor(self.folder)
    tf.saved_model.save(tf.Module(), self._path('empty'))
    with self.assertRaisesRegex(errors.UsageError, 'serving_default'):
      predictors.open_predictor(self._path('empty'))


if __name__ == '__main__':
  absltest.main()
