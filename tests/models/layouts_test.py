"""Where maps and tokens lie, of graphs as users build them."""

import keras
import numpy as np
from absl.testing import absltest, parameterized
from keras import ops

from ft_tf import errors
from ft_tf.models import (
  feature_maps,
  folding,
  fused,
  layer_choice,
  layouts,
  taps,
)
from tests import networks

_SHAPE = (8, 12, 3)  # patches of 2: a grid of 4x6


def _images(count=2):
  rng = np.random.default_rng(0)
  return rng.integers(256, size=(count, *_SHAPE)).astype(np.float32)


class _Patches(keras.layers.Layer):
  """Cuts an image into patches within, as the tutorials do."""

  def call(self, x):
    y = ops.image.extract_patches(x, 2)
    return ops.reshape(y, (-1, y.shape[1] * y.shape[2], y.shape[3]))


class _Positions(keras.layers.Layer):
  def build(self, shape):
    self.table = self.add_weight(shape=shape[1:], initializer='normal')

  def call(self, x):
    return x + self.table


class _Backbone(keras.Model):
  """A model that cannot be looked into, with tokens `[B, N, C]`."""

  def __init__(self, extra):
    super().__init__()
    self.patches = keras.layers.Conv2D(8, 2, strides=2)
    self.extra = networks.ExtraTokens(extra, 0)
    self.attention = keras.layers.MultiHeadAttention(2, 4)

  def call(self, x):
    x = self.patches(x)
    x = self.extra(ops.reshape(x, (-1, x.shape[1] * x.shape[2], 8)))
    return x + self.attention(x, x)


def _reshaped(x):
  return keras.layers.Reshape((-1, 8))(keras.layers.Conv2D(8, 2, 2)(x))


def _channels_first(x):
  x = keras.layers.Permute((3, 1, 2))(x)
  x = keras.layers.Conv2D(8, 2, 2, data_format='channels_first')(x)
  x = keras.layers.Reshape((8, -1))(x)
  return keras.layers.Permute((2, 1))(x)


def _overlapping(x):
  x = keras.layers.Conv2D(8, 3, strides=2, padding='same')(x)
  return ops.reshape(x, (-1, x.shape[1] * x.shape[2], 8))


def _transformer(patches, extra=lambda x: x):
  """Returns a transformer whose last tokens are the layer `tokens`."""
  image = keras.Input(_SHAPE)
  x = _Positions()(extra(patches(image)))
  y = keras.layers.LayerNormalization()(x)
  y = keras.layers.MultiHeadAttention(2, 4)(y, y)
  x = keras.layers.Add(name='tokens')([x, y])
  return keras.Model(image, keras.layers.Dense(3)(x[:, 0]))


def _token(x):
  """Returns one token of a tensor of tokens."""
  return networks.ExtraTokens(1, 0)(x)[:, :1]


class TokensTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('registers', _reshaped, lambda x: networks.ExtraTokens(5, 0)(x), 5),
    ('distillation', _reshaped, lambda x: networks.ExtraTokens(2, 0)(x), 2),
    ('at_the_end', _reshaped, lambda x: networks.ExtraTokens(0, 3)(x), 0),
    ('around', _reshaped, lambda x: networks.ExtraTokens(1, 4)(x), 1),
    (
      'joined_before',
      _reshaped,
      lambda x: keras.layers.Concatenate(axis=1)([_token(x), _token(x), x]),
      2,
    ),
    (
      'joined_behind',
      _channels_first,
      lambda x: ops.concatenate([x, _token(x), _token(x)], axis=1),
      0,
    ),
    ('none', _channels_first, lambda x: x, 0),
    ('overlapping', _overlapping, lambda x: networks.ExtraTokens(7, 0)(x), 7),
    (
      'within_a_layer',
      lambda x: keras.layers.Dense(8)(_Patches()(x)),
      lambda x: networks.ExtraTokens(3, 1)(x),
      3,
    ),
    (
      'taken_off_again',
      _reshaped,
      lambda x: networks.ExtraTokens(3, 2)(x)[:, 1:-1],
      2,
    ),
  )
  def test_places_are_found_among_other_tokens(self, patches, extra, first):
    net = _transformer(patches, extra)
    self.assertEqual(layer_choice.resolve_layer(net), 'tokens')
    self.assertEqual(feature_maps.shape(net, 'tokens'), (4, 6, 8))
    raw = keras.Model(net.inputs, net.get_layer('tokens').output)(_images())
    tapped = taps.features(net, ['tokens'])
    found = tapped(_images())['tokens']
    np.testing.assert_array_equal(found[:, 1, 2], raw[:, first + 6 + 2])
    np.testing.assert_array_equal(found[:, 3, 5], raw[:, first + 23])
    np.testing.assert_allclose(
      folding.fold(tapped)(_images())['tokens'], found, atol=1e-5
    )

  def test_looking_moves_no_variable_and_no_seed(self):
    class Counting(networks.ExtraTokens):
      def build(self, shape):
        super().build(shape)
        self.calls = self.add_weight(
          shape=(), initializer='zeros', trainable=False
        )
        self.seeds = keras.random.SeedGenerator(0)

      def call(self, x):
        self.calls.assign_add(1)
        noise = keras.random.uniform((8,), seed=self.seeds)
        return super().call(x) + 0 * noise

    net = _transformer(_reshaped, Counting(2, 0))
    before = [np.array(v) for v in net.variables]
    self.assertEqual(feature_maps.shape(net, 'tokens'), (4, 6, 8))
    for was, variable in zip(before, net.variables, strict=True):
      np.testing.assert_array_equal(was, variable)

  def test_rows_as_long_vectors_are_no_places(self):
    # As of a recurrent head: 16 vectors would be a grid of 4x4.
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 2, strides=2, name='maps')(image)
    x = keras.layers.Reshape((16, -1))(x)
    x = keras.layers.LSTM(5, return_sequences=True, name='rows')(x)
    y = keras.layers.Dense(3)(x[:, -1])
    self.assertEqual(layer_choice.resolve_layer(keras.Model(image, y)), 'maps')

  def test_tokens_merged_by_two_are_no_places(self):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 2, strides=2)(image)
    x = keras.layers.Reshape((-1, 8), name='tokens')(x)
    x = keras.layers.AveragePooling1D(4, name='merged')(x)
    y = keras.layers.Dense(3)(x[:, 0])
    net = keras.Model(image, y)
    self.assertEqual(layer_choice.resolve_layer(net), 'tokens')
    with self.assertRaisesRegex(
      errors.UsageError, "^.*'merged', because .* its 16 tokens cannot.*$"
    ):
      layer_choice.resolve_layer(net, 'merged')

  def test_tokens_of_what_is_closed_are_guessed_by_their_number(self):
    # The grid and the class's token, or none: anything else is refused.
    image = keras.Input(_SHAPE)

    def model(extra):
      x = _Backbone(extra)(image)
      return keras.Model(image, keras.layers.Dense(3)(x[:, 0]), name='closed')

    net = model(1)
    self.assertEqual(
      feature_maps.shape(net, layer_choice.resolve_layer(net)), (4, 6, 8)
    )
    with self.assertRaisesRegex(
      errors.UsageError, '^closed has no feature map .* its 29 tokens cannot.*$'
    ):
      layer_choice.resolve_layer(model(5))


def _convolutions(transpose, name='maps', **last):
  """Returns a network in channels-first order within.

  Args:
    transpose: From `[B, H, W, C]` to `[B, C, H, W]`.
    name: Of its last map.
    **last: Of its last convolution.
  """
  first = {'data_format': 'channels_first'}
  image = keras.Input(_SHAPE)
  x = transpose(image)
  x = keras.layers.Conv2D(5, 3, padding='same', use_bias=False, **first)(x)
  x = keras.layers.BatchNormalization(axis=1)(x)
  x = keras.layers.ReLU(name='wide')(x)
  x = keras.layers.MaxPooling2D(**first)(x)
  y = keras.layers.DepthwiseConv2D(3, padding='same', **first)(x)
  x = keras.layers.Add()([x, y])
  x = keras.layers.Conv2D(7, 1, **{**first, **last})(x)
  x = keras.layers.Activation('relu', name=name)(x)
  y = keras.layers.GlobalAveragePooling2D(**{**first, **last})(x)
  return keras.Model(image, keras.layers.Dense(3)(y))


class ChannelsFirstTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('permute', lambda x: keras.layers.Permute((3, 1, 2))(x)),
    ('transpose', lambda x: ops.transpose(x, (0, 3, 1, 2))),
    ('moveaxis', lambda x: ops.moveaxis(x, -1, 1)),
    (
      'lambda',
      lambda x: keras.layers.Lambda(lambda y: ops.transpose(y, (0, 3, 1, 2)))(
        x
      ),
    ),
  )
  def test_map_is_height_first_wherever_it_is_read(self, transpose):
    net = networks.disturb(_convolutions(transpose))
    self.assertEqual(layer_choice.resolve_layer(net), 'maps')
    self.assertEqual(layer_choice.resolve_layer(net, '-2'), 'wide')
    self.assertEqual(feature_maps.shape(net, 'maps'), (4, 6, 7))
    self.assertEqual(feature_maps.shape(net, 'wide'), (8, 12, 5))
    self.assertIn(
      (4, 6, 5), [each.shape for each in layer_choice.candidates(net)]
    )
    names = ['wide', 'maps']
    raw = keras.Model(
      net.inputs, [net.get_layer(name).output for name in names]
    )(_images())
    tapped = taps.logits_and_features(net, names)
    logits, found = tapped(_images())
    for name, its in zip(names, raw, strict=True):
      np.testing.assert_array_equal(
        found[name], np.transpose(its, (0, 2, 3, 1))
      )
    for copy in (folding.fold(tapped), fused.fuse(net)):
      again = copy(_images(), training=False)
      again = again[0] if isinstance(again, tuple) else again
      np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-3)

  def test_order_of_square_maps_of_as_many_channels_is_seen(self):
    image = keras.Input((6, 6, 6))
    x = keras.layers.Permute((3, 1, 2), name='turned')(image)
    x = keras.layers.BatchNormalization(axis=1, name='maps')(x)
    y = keras.layers.Flatten()(x)
    net = keras.Model(image, keras.layers.Dense(3)(y))
    values = np.random.default_rng(0).normal(size=(2, 6, 6, 6))
    found = taps.features(net, ['turned'])(values)['turned']
    np.testing.assert_allclose(found, values, atol=1e-6)

  def test_order_changes_back(self):
    image = keras.Input(_SHAPE)
    x = keras.layers.Permute((3, 1, 2))(image)
    x = keras.layers.Conv2D(5, 3, data_format='channels_first')(x)
    x = keras.layers.Permute((2, 3, 1))(x)
    x = keras.layers.Conv2D(7, 1, name='maps')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    net = keras.Model(image, keras.layers.Dense(3)(x))
    self.assertEqual(feature_maps.shape(net, 'maps'), (6, 10, 7))

  def test_width_first_is_seen_too(self):
    image = keras.Input(_SHAPE)
    x = keras.layers.Permute((2, 1, 3))(image)
    x = keras.layers.Conv2D(5, 3, name='maps')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    net = keras.Model(image, keras.layers.Dense(3)(x))
    self.assertEqual(feature_maps.shape(net, 'maps'), (6, 10, 5))

  def test_map_of_channels_first_tokens_is_found(self):
    image = keras.Input(_SHAPE)
    x = keras.layers.Permute((3, 1, 2))(image)
    x = keras.layers.Conv2D(5, 2, strides=2, data_format='channels_first')(x)
    x = keras.layers.Reshape((5, 24))(x)
    x = keras.layers.Reshape((5, 4, 6), name='maps')(x)
    y = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    self.assertEqual(
      feature_maps.shape(keras.Model(image, y), 'maps'), (4, 6, 5)
    )


class LayoutsTest(absltest.TestCase):
  def test_unknown_tokens_raise(self):
    tokens = keras.Input((16, 8))
    with self.assertRaises(KeyError):
      layouts.Layouts([]).tokens(tokens)
    self.assertEqual(layouts.Layouts([]).order(keras.Input(_SHAPE)), 'HWC')


if __name__ == '__main__':
  absltest.main()
