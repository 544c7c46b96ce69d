"""Models of every build made flat, with raw images in and logits out."""

import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import folding, standard, taps
from ft_tf.signals import constant
from tests import networks

_SHAPE = (8, 8, 3)


def _images(count=4):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, *_SHAPE)).astype(np.uint8)


def _backbone(name='backbone'):
  x = keras.Input(_SHAPE)
  y = keras.layers.Conv2D(4, 3, name='conv')(x)
  y = keras.layers.BatchNormalization(name='norm')(y)
  # Both of the same tensor, and an operation that is no layer.
  y = keras.layers.Add()([y, keras.layers.ReLU()(y)]) * 0.5
  return keras.Model(x, y, name=name)


def _nested(activation=None):
  """A classifier of two models in a model; both have a layer `conv`."""
  x = keras.Input(_SHAPE, name='pixels')
  y = keras.layers.Rescaling(1 / 255)(x)
  y = _backbone()(y)
  y = keras.layers.Conv2D(5, 1, name='conv')(y)
  head = keras.Sequential(
    [
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(3, activation=activation, name='out'),
    ],
    name='head',
  )
  return keras.Model(x, head(y))


def _small(*last):
  return keras.Sequential(
    [
      keras.Input(_SHAPE),
      keras.layers.Conv2D(4, 3),
      keras.layers.GlobalAveragePooling2D(),
      *last,
    ]
  )


class FlatTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def test_flat_model_says_the_same_and_names_inner_layers(self):
    model = _nested()
    expected = model(_images(), training=False)
    self.assertTrue(standard.is_nested(model))
    flat = standard.flat(model)
    self.assertFalse(standard.is_nested(flat))
    np.testing.assert_allclose(flat(_images(), training=False), expected)
    names = [layer.name for layer in flat.layers]
    self.assertIn('backbone.conv', names)
    self.assertIn('backbone.norm', names)
    self.assertIn('conv', names)
    self.assertIn('head.out', names)
    feature = taps.features(flat, ['backbone.conv'])(_images())
    self.assertEqual(feature['backbone.conv'].shape, (4, 6, 6, 4))

  def test_flat_model_can_be_saved_and_loaded(self):
    flat = standard.flat(_nested())
    path = os.path.join(self.create_tempdir().full_path, 'flat.keras')
    flat.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_allclose(
      again(_images(), training=False),
      flat(_images(), training=False),
      atol=1e-6,
    )

  def test_deeper_nesting_is_opened_too(self):
    x = keras.Input(_SHAPE)
    outer = keras.Model(x, _backbone('inner')(x), name='outer')
    x = keras.Input(_SHAPE)
    flat = standard.flat(keras.Model(x, outer(x)))
    self.assertIn('outer.inner.conv', [layer.name for layer in flat.layers])

  @parameterized.parameters(
    ('0..1', lambda x: x / 255),
    ('-1..1', lambda x: x / 127.5 - 1),
    (
      'imagenet',
      lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
    (
      'caffe',
      lambda x: keras.applications.imagenet_utils.preprocess_input(
        np.array(x), mode='caffe'
      ),
    ),
  )
  def test_raw_images_are_preprocessed(self, kind, expected):
    model = _small()
    flat = standard.flat(model, kind)
    self.assertEqual(flat.inputs[0].dtype, 'uint8')
    np.testing.assert_allclose(
      flat(_images()), model(expected(np.float64(_images()))), atol=1e-5
    )

  @parameterized.parameters('imagenet', 'caffe')
  def test_preprocessing_of_colours_is_refused_for_grey(self, kind):
    image = keras.Input((8, 8, 1))
    y = keras.layers.Dense(2)(keras.layers.Flatten()(image))
    with self.assertRaisesRegex(
      errors.UsageError, f'--preprocessing={kind} is for images of 3 channels'
    ):
      standard.flat(keras.Model(image, y), kind)

  def test_model_within_of_several_outputs_is_opened(self):
    image = keras.Input(_SHAPE)
    one = keras.layers.Conv2D(4, 3, name='one')(image)
    two = keras.layers.Conv2D(5, 3, name='two')(one)
    backbone = keras.Model(image, {'b': one, 'a': two}, name='backbone')
    image = keras.Input(_SHAPE)
    maps = backbone(inputs=image)
    y = keras.layers.GlobalAveragePooling2D()(maps['b'])
    model = keras.Model(image, keras.layers.Dense(3)(y))
    flat = standard.flat(model)
    self.assertFalse(standard.is_nested(flat))
    self.assertEqual(taps.last_feature_map(flat), 'backbone.one')
    np.testing.assert_allclose(flat(_images()), model(_images()), atol=1e-5)


def _augmented(_):
  """Returns a model that begins as the tutorials' do, of any image size."""
  x = keras.Input((None, None, 3))
  y = keras.layers.RandomFlip()(x)
  y = keras.layers.RandomRotation(0.2)(y)
  y = keras.layers.GaussianNoise(1.0)(y)
  y = keras.layers.Resizing(9, 7)(y)
  y = keras.layers.RandomCrop(8, 6)(y)
  y = keras.layers.CenterCrop(7, 6)(y)
  y = keras.layers.Rescaling(1 / 127.5, offset=-1)(y)
  y = keras.layers.Conv2D(4, 3, name='maps')(y)
  y = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(y))
  return keras.Model(x, keras.layers.Dense(3)(y))


class OpenTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  def _backbone(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, strides=2, name='conv')(x)
    y = keras.layers.BatchNormalization()(y)
    return keras.Model(x, keras.layers.ReLU(name='maps')(y), name='backbone')

  def _any_size(self):
    """A head on a backbone, as in transfer learning."""
    x = keras.Input((None, None, 3))
    y = keras.layers.GlobalAveragePooling2D()(self._backbone()(x))
    return keras.Model(x, keras.layers.Dense(3)(y))

  def _any_channels(self):
    x = keras.Input((None, None, None))
    y = keras.ops.mean(x, axis=-1, keepdims=True)
    y = keras.layers.Conv2D(4, 3, name='maps')(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, keras.layers.Dense(3)(y))

  def _one_by_one(self):
    x = keras.Input(batch_shape=(1, *_SHAPE))
    y = keras.layers.Conv2D(4, 3, name='maps')(x)
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(y)))

  def _batch_of_a_sequential(self):
    return keras.Sequential(
      [
        keras.Input((None, 8, 3), batch_size=5),
        keras.layers.Conv2D(4, 3, name='maps'),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(3),
      ]
    )

  @parameterized.named_parameters(
    ('any_size', _any_size, 'backbone.maps', (3, 3, 4), True),
    ('any_channels', _any_channels, 'maps', (6, 6, 4), True),
    ('one_by_one', _one_by_one, 'maps', (6, 6, 4), False),
    ('batch', _batch_of_a_sequential, 'maps', (6, 6, 4), True),
    ('augmented', _augmented, 'maps', (5, 4, 4), True),
  )
  def test_model_is_of_the_data_sets_images(
    self, make, layer, shape, open_size
  ):
    given = make(self)
    expected = np.concatenate(
      [given(each[None], training=False) for each in _images()]
    )
    tolerance = 1e-5 * np.abs(expected).max()
    model, said = standard.standard(given, image_shape=_SHAPE)
    self.assertEqual(model.input_shape, (None, *_SHAPE))
    self.assertEqual(any('open image size' in each for each in said), open_size)
    self.assertEqual(taps.choose(model), layer)
    self.assertEqual(taps.shape(model, layer), shape)
    for _ in range(2):  # Nothing random is left.
      np.testing.assert_allclose(
        model(_images(), training=False), expected, atol=tolerance
      )
    tapped = taps.logits_and_features(model, [layer])
    for dtype, times in (('float32', 1), ('bfloat16', 1e4)):
      folded = folding.fold(tapped, dtype)
      logits, maps = constant.ConstantSignal(
        lambda images, folded=folded: folded(images, training=False),
        _SHAPE,
      )(_images())
      self.assertEqual(maps[layer].shape, (4, *shape))
      np.testing.assert_allclose(logits, expected, atol=times * tolerance)
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    model.save(path)
    again, said = standard.standard(
      keras.models.load_model(path), image_shape=_SHAPE
    )
    self.assertEmpty(said)
    np.testing.assert_allclose(
      again(_images(), training=False), expected, atol=tolerance
    )

  def test_size_stays_open_where_none_is_given(self):
    model, said = standard.standard(self._any_size())
    self.assertEqual(said, ['models within opened'])
    self.assertEqual(model.input_shape, (None, None, None, 3))
    self.assertEqual(taps.choose(model, '-1'), 'backbone.maps')

  def test_fixed_batch_is_said(self):
    _, said = standard.standard(self._one_by_one())
    self.assertEqual(said, ['fixed batch size 1 replaced by any batch size'])

  def test_images_that_are_too_small_are_refused_in_a_line(self):
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 7)(x)
    y = keras.layers.Conv2D(4, 7)(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    model = keras.Model(x, keras.layers.Dense(3)(y))
    with self.assertRaisesRegex(
      errors.UsageError, r'^.*images of \(8, 8, 3\).*--image_size.*$'
    ):
      standard.standard(model, image_shape=_SHAPE)

  @parameterized.parameters((2, (2, -1)), (1, (1, 192)))
  def test_operations_of_one_batch_size_are_refused_in_a_line(
    self, batch, shape
  ):
    x = keras.Input(batch_shape=(batch, *_SHAPE))
    y = keras.layers.Dense(3)(keras.ops.reshape(x, shape))
    with self.assertRaisesRegex(
      errors.UsageError, '^.* accepts? .*batches of .* batch_size.*$'
    ):
      standard.standard(keras.Model(x, y))


class SaidTest(absltest.TestCase):
  def test_only_what_was_done_is_said(self):
    nested, plain = _nested(), _small(keras.layers.Dense(3))
    self.assertEmpty(standard.standard(plain)[1])
    self.assertEqual(standard.standard(nested)[1], ['models within opened'])
    self.assertEqual(
      standard.standard(plain, preprocessing='0..1')[1], ['preprocessing 0..1']
    )
    self.assertEqual(
      standard.standard(_nested(), preprocessing='-1..1')[1],
      ['models within opened', 'preprocessing -1..1'],
    )


class LogitsTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='softmax')],
    lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
    lambda: [keras.layers.Dense(3), keras.layers.Activation('softmax')],
  )
  def test_softmax_is_seen_and_taken_off(self, last):
    model = standard.flat(_small(*last()))
    probabilities = model(_images()).numpy()
    logits = standard.logits_of(model)(_images()).numpy()
    self.assertTrue(standard.look_like_probabilities(probabilities))
    self.assertFalse(standard.look_like_probabilities(logits))
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )

  def test_softmax_within_a_nested_head_is_taken_off(self):
    model = _nested('softmax')
    probabilities = model(_images()).numpy()
    logits = standard.logits_of(standard.flat(model))(_images())
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )

  def test_logits_stay(self):
    model = _small(keras.layers.Dense(3))
    self.assertIsNone(standard.logits_of(model))
    self.assertIsNone(standard.logits_of(model, 'logits'))

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='softmax')],
    lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
  )
  def test_softmax_taken_for_logits_stays_in_the_file(self, last):
    model = _small(*last())
    expected = model(_images())
    made, said = standard.standard(model, outputs='logits')
    self.assertLen(said, 1)
    self.assertIn('taken for logits', said[0])
    path = os.path.join(self.create_tempdir().full_path, 'softmax.keras')
    made.save(path)
    again, said = standard.standard(keras.models.load_model(path))
    self.assertEmpty(said)
    np.testing.assert_allclose(again(_images()), expected, atol=1e-6)

  @parameterized.parameters(
    lambda: [
      keras.layers.Dense(3, activation='softmax'),
      keras.layers.Dropout(0.3),
      keras.layers.Identity(),
      keras.layers.Activation('linear', dtype='float32'),
    ],
    lambda: [
      keras.layers.Reshape((1, 1, 4)),
      keras.layers.Conv2D(3, 1, activation='softmax'),
      keras.layers.Flatten(),
    ],
    lambda: [
      keras.layers.Reshape((1, 4)),
      keras.layers.EinsumDense('abc,cd->abd', (1, 3), activation='softmax'),
      keras.layers.Reshape((3,)),
    ],
  )
  def test_softmax_is_seen_through_what_changes_nothing(self, last):
    model = _small(*last())
    probabilities = model(_images()).numpy()
    made, said = standard.standard(model)
    self.assertEqual(said, ['gives probabilities; logits are taken instead'])
    logits = made(_images())
    self.assertFalse(standard.look_like_probabilities(logits.numpy()))
    np.testing.assert_allclose(
      keras.activations.softmax(logits), probabilities, atol=1e-6
    )
    self.assertEmpty(standard.standard(made)[1])

  def test_softmax_by_an_operation_is_taken_off(self):
    base = _small(keras.layers.Dense(3))
    y = keras.ops.cast(keras.ops.softmax(base.outputs[0]), 'float32')
    made = standard.logits_of(keras.Model(base.inputs[0], y))
    np.testing.assert_allclose(made(_images()), base(_images()), atol=1e-6)

  def test_softmax_over_less_than_the_classes_stays(self):
    model = _small(
      keras.layers.Dense(6),
      keras.layers.Reshape((2, 3)),
      keras.layers.Softmax(),
      keras.layers.Flatten(),
    )
    self.assertIsNone(standard.logits_of(model))

  @parameterized.parameters(
    lambda: [keras.layers.Dense(3, activation='sigmoid')],
    lambda: [
      keras.layers.Dense(3),
      keras.layers.Activation('sigmoid', dtype='float32'),
      keras.layers.Identity(),
    ],
  )
  def test_sigmoid_of_several_classes_is_taken_off_and_said(self, last):
    model = _small(*last())
    images = _images() / 255
    each = model(images).numpy()
    self.assertTrue(standard.look_like_probabilities(each))
    made, said = standard.standard(model)
    self.assertLen(said, 1)
    self.assertIn('sigmoid', said[0])
    np.testing.assert_allclose(keras.ops.sigmoid(made(images)), each, atol=1e-6)

  @parameterized.named_parameters(
    ('dense', lambda: [keras.layers.Dense(1, activation='sigmoid')], 'auto'),
    (
      'activation',
      lambda: [keras.layers.Dense(1), keras.layers.Activation('sigmoid')],
      'probabilities',
    ),
    (
      'hidden',
      lambda: [
        keras.layers.Dense(1),
        keras.layers.Lambda(lambda z: 1 / (1 + keras.ops.exp(-z))),
      ],
      'probabilities',
    ),
  )
  def test_one_sigmoid_output_is_two_logits(self, last, outputs):
    model = _small(*last())
    images = _images() / 255
    high = model(images).numpy()[:, 0]
    made, said = standard.standard(model, outputs=outputs)
    self.assertIn('high z means the second class', said[-1])
    both = keras.ops.softmax(made(images)).numpy()
    np.testing.assert_allclose(both, np.stack([1 - high, high], 1), atol=1e-5)
    self.assertEqual(made.output_shape, (None, 2))

  @parameterized.parameters('auto', 'logits')
  def test_one_linear_output_is_two_logits(self, outputs):
    model = _small(keras.layers.Dense(1))
    made, said = standard.standard(model, outputs=outputs)
    self.assertLen(said, 1)
    z = model(_images()).numpy()[:, 0]
    np.testing.assert_array_equal(made(_images()), np.stack([0 * z, z], 1))
    path = os.path.join(self.create_tempdir().full_path, 'two.keras')
    made.save(path)
    again, said = standard.standard(keras.models.load_model(path))
    self.assertEmpty(said)
    np.testing.assert_allclose(again(_images()), made(_images()), atol=1e-6)

  @parameterized.parameters('int8', 'int4', 'float8')
  def test_softmax_of_a_quantized_layer_is_taken_off(self, mode):
    model = _small(keras.layers.Dense(3, activation='softmax'))
    model.quantize(mode)
    probabilities = model(_images()).numpy()
    made, _ = standard.standard(model)
    np.testing.assert_allclose(
      keras.ops.softmax(made(_images())), probabilities, atol=1e-6
    )

  def test_softmax_of_a_layer_with_lora_is_taken_off(self):
    model = _small(keras.layers.Dense(3, activation='softmax'))
    networks.adapt(model.layers[-1])
    probabilities = model(_images()).numpy()
    made, _ = standard.standard(model)
    np.testing.assert_allclose(
      keras.ops.softmax(made(_images())), probabilities, atol=1e-6
    )

  @parameterized.parameters(
    ([[0.1, 0.9], [0.7, 0.3]], True),
    ([[0.1, 0.2], [0.7, 1.0]], True),  # sigmoids
    ([[0.5, 0.5], [0.5, 0.5]], True),
    ([[0.0, 0.0], [0.0, 0.2]], False),  # hardly of any class
    ([[0.1, 0.9], [0.7, 1.3]], False),
    ([[-0.1, 0.9], [0.7, 0.3]], False),
  )
  def test_probabilities_are_told_by_their_values(self, outputs, expected):
    self.assertEqual(
      standard.look_like_probabilities(np.float32(outputs)), expected
    )

  def test_log_softmax_is_logits(self):
    model = _small(keras.layers.Dense(3, activation='log_softmax'))
    self.assertIsNone(standard.logits_of(model))
    self.assertFalse(standard.look_like_probabilities(model(_images()).numpy()))

  def test_probabilities_without_a_softmax_get_a_logarithm(self):
    model = standard.flat(
      _small(keras.layers.Dense(3, 'sigmoid'), keras.layers.UnitNormalization())
    )
    made = standard.logits_of(model, 'probabilities')
    np.testing.assert_allclose(
      made(_images() / 255), np.log(model(_images() / 255)), atol=1e-6
    )
    path = os.path.join(self.create_tempdir().full_path, 'logarithm.keras')
    made.save(path)
    np.testing.assert_allclose(
      keras.models.load_model(path)(_images()), made(_images()), atol=1e-6
    )


if __name__ == '__main__':
  absltest.main()
