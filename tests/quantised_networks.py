"""Small trained networks with every kind of kernel, and their images."""

import functools

import keras
import numpy as np
import tensorflow as tf

CLASSES = 10
SHAPE = (16, 16, 3)


def images(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Returns images uint8 of patterns in noise, and the patterns' numbers."""
  patterns = np.random.default_rng(7).normal(size=(CLASSES, 4, 4, 3))
  patterns = patterns.repeat(4, axis=1).repeat(4, axis=2)
  rng = np.random.default_rng(seed)
  labels = rng.integers(CLASSES, size=count)
  values = patterns[labels] + rng.normal(size=(count, *SHAPE))
  values = np.clip(np.round(127 + 40 * values), 0, 255)
  return values.astype(np.uint8), labels


def fresh(dtype: str = 'float32', dropout: float = 0.0) -> keras.Model:
  """Returns a network with residual, depthwise and squeeze parts."""
  keras.utils.set_random_seed(0)
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(dtype)
  image = keras.Input(SHAPE, dtype='uint8', name='image')
  x = keras.layers.Normalization(
    mean=[127.0] * 3, variance=[50.0**2] * 3, name='normalize'
  )(image)
  x = _convolution(x, 8, 'stem', strides=2)
  x = keras.layers.Activation('hard_silu', name='stem_act')(x)
  shortcut = x
  y = _convolution(x, 16, 'expand', size=1)
  y = keras.layers.ReLU(6.0, name='expand_relu')(y)
  y = keras.layers.DepthwiseConv2D(
    3, padding='same', use_bias=False, name='depthwise'
  )(y)
  y = keras.layers.BatchNormalization(momentum=0.8, name='depthwise_bn')(y)
  y = keras.layers.ReLU(name='depthwise_relu')(y)
  s = keras.layers.GlobalAveragePooling2D(keepdims=True, name='squeeze')(y)
  s = keras.layers.Conv2D(4, 1, activation='silu', name='reduce')(s)
  s = keras.layers.Conv2D(16, 1, name='excite')(s)
  s = keras.ops.relu6(s + 3.0) * (1 / 6)
  y = keras.layers.Multiply(name='scale')([y, s])
  y = _convolution(y, 8, 'project', size=1)
  x = keras.layers.Add(name='residual')([shortcut, y])
  x = keras.layers.ZeroPadding2D(1, name='pad')(x)
  x = _convolution(x, 16, 'last', strides=2, padding='valid')
  x = keras.layers.Activation('silu', name='last_act')(x)
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  x = keras.layers.Dropout(dropout, name='dropout')(x)
  x = keras.layers.Dense(CLASSES, dtype='float32', name='logits')(x)
  keras.config.set_dtype_policy(before)
  return keras.Model(image, x, name='small')


def branched() -> keras.Model:
  """Returns a network of branches that are concatenated, and of mean pooling.

  A branch is read by the concatenation alone, or by others too; its last kernel
  is a convolution, an activation, or a mean or maximum over windows.
  """
  keras.utils.set_random_seed(0)
  image = keras.Input(SHAPE, name='image')
  x = keras.layers.Rescaling(1 / 64, name='rescale')(image)
  x = _convolution(x, 8, 'stem', strides=2)
  x = keras.layers.ReLU(name='stem_relu')(x)
  a = keras.layers.AveragePooling2D(3, 1, padding='same', name='window')(x)
  a = _convolution(a, 4, 'narrow', size=1)
  b = keras.layers.Conv2D(8, 3, padding='same', activation='silu', name='wide')(
    x
  )
  c = keras.layers.AveragePooling2D((2, 3), 1, padding='same', name='mean')(x)
  x = keras.layers.Concatenate(name='join')([a, b, c, x])
  x = keras.layers.AveragePooling2D(2, name='halve')(x)
  x = _convolution(x, 8, 'last')
  x = keras.layers.ReLU(name='last_relu')(x)
  y = keras.layers.MaxPooling2D(3, 1, padding='same', name='largest')(x)
  z = keras.layers.Conv2D(4, 1, activation='hard_sigmoid', name='gate')(x)
  x = keras.ops.concatenate([x, y, keras.layers.Dropout(0.1)(z)], axis=-1)
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  x = keras.layers.Dense(CLASSES, name='logits')(x)
  return keras.Model(image, x, name='branched')


@functools.cache
def trained_branched() -> keras.Model:
  """Returns the network after some steps; it is not to be changed."""
  return train(branched())


def _convolution(x, channels, name, *, size=3, strides=1, padding='same'):
  x = keras.layers.Conv2D(
    channels, size, strides=strides, padding=padding, use_bias=False, name=name
  )(x)
  return keras.layers.BatchNormalization(momentum=0.8, name=f'{name}_bn')(x)


@functools.cache
def trained() -> keras.Model:
  """Returns the network after some steps; it is not to be changed."""
  return train(fresh())


def train(model: keras.Model, steps: int = 60) -> keras.Model:
  """Returns a network after some steps of Adam."""
  optimizer = keras.optimizers.Adam(0.01)
  optimizer.build(model.trainable_variables)

  @tf.function
  def step(x, y):
    with tf.GradientTape() as tape:
      loss = keras.losses.sparse_categorical_crossentropy(
        y, model(x, training=True), from_logits=True
      )
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)

  for number in range(steps):
    x, y = images(64, seed=100 + number)
    step(tf.constant(x), tf.constant(y))
  return model


def with_still_channel() -> keras.Model:
  """Returns a trained network, one channel of which is 0 behind `expand`.

  The batch norm of the depthwise convolution behind it has seen no variance.
  """
  model = train(fresh(), 20)
  before, after = (model.get_layer(f'{n}_bn') for n in ('expand', 'depthwise'))
  for weight, value in (
    (before.gamma, 0.0),
    (before.beta, -1.0),
    (after.moving_mean, 0.0),
    (after.moving_variance, 1e-12),
  ):
    weight.assign(np.concatenate([[value], weight.numpy()[1:]]))
  # In a trained network it is as large as its first value.
  after.gamma.assign(np.concatenate([[10.0], after.gamma.numpy()[1:]]))
  return model


def spoiled() -> keras.Model:
  """Returns a trained network whose layer `expand` loses all with one scale."""
  student = train(fresh(), 30)
  scale = np.ones(16, np.float32)
  scale[0] = 3000.0
  # The channel's weights are large, and what it says is not used.
  norm = student.get_layer('expand_bn')
  norm.gamma.assign(norm.gamma * scale)
  depthwise = student.get_layer('depthwise').kernel
  depthwise.assign(depthwise * (scale == 1.0)[:, None])
  return student
