"""Small networks, made-up images, and what the former say of the latter."""

import keras
import numpy as np

from ft_tf.methods import base
from ft_tf.models import layers, taps, zoo


def images(count: int, size: int, channels: int) -> np.ndarray:
  """Returns `[count, size, size, channels]` uint8, always the same."""
  rng = np.random.default_rng(0)
  shape = (count, size, size, channels)
  return rng.integers(256, size=shape).astype(np.uint8)


def disturb(model: keras.Model) -> keras.Model:
  """Gives every weight that starts at a constant a random value."""
  rng = np.random.default_rng(1)
  for weight in model.weights:
    if weight.name in ('gamma', 'moving_variance'):
      weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    elif weight.name in ('beta', 'moving_mean', 'bias'):
      weight.assign(rng.normal(size=weight.shape) * 0.3)
  return model


def adapt(layer: keras.layers.Layer) -> None:
  """Gives a layer LoRA weights that change what it computes."""
  layer.enable_lora(2)
  rng = np.random.default_rng(2)
  for weight in (layer.lora_kernel_a, layer.lora_kernel_b):
    weight.assign(rng.normal(size=weight.shape))


def pair() -> tuple[keras.Model, keras.Model]:
  """Returns an untrained teacher and a narrower student, for 16x16 grey."""
  spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
  keras.utils.set_random_seed(0)
  return zoo.build('resnet14x0.5', spec), zoo.build('resnet8x0.25', spec)


def short(spec: layers.Spec, channels: int = 4) -> keras.Model:
  """Returns a ResNet of one convolution per group, in a third of the layers.

  It has what those of `zoo` have: the layers `group1` to `group3`, each of half
  the size and twice the channels, batch norm, and a strided 1x1 shortcut.
  """
  inputs, x = layers.images(spec)
  for group, number in ((1, ''), (2, '2'), (3, '3')):
    stride = 1 if group == 1 else 2
    y = layers.convolution(x, channels, stride=stride, name=f'conv{number}')
    y = layers.batch_norm(y, spec, name=f'bn{number}')
    if group == 3:
      x = layers.convolution(x, channels, size=1, stride=2, name='shortcut')
      y = keras.layers.Add(name='add')([x, y])
    x = layers.relu(y, name=f'group{group}')
    channels *= 2
  return keras.Model(inputs, layers.logits(x, spec), name='short')


@keras.saving.register_keras_serializable('tests')
class ExtraTokens(keras.layers.Layer):
  """Puts learned tokens before and behind the others."""

  def __init__(self, before: int, behind: int, **kwargs):
    super().__init__(**kwargs)
    self.before, self.behind = before, behind

  def build(self, shape):
    self.tokens = self.add_weight(
      shape=(1, self.before + self.behind, shape[-1]), initializer='normal'
    )

  def call(self, x):
    count = keras.ops.shape(x)[0]
    tokens = keras.ops.repeat(self.tokens, count, axis=0)
    parts = [tokens[:, : self.before], x, tokens[:, self.before :]]
    return keras.ops.concatenate(parts, axis=1)

  def get_config(self):
    return {
      **super().get_config(),
      'before': self.before,
      'behind': self.behind,
    }


@keras.saving.register_keras_serializable('tests')
class StochasticDepth(keras.layers.Layer):
  """Leaves out half of the images at random, by Keras's unnamed generator."""

  def call(self, x, training=None):
    if not training:
      return x
    shape = (keras.ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
    return x * keras.ops.floor(0.5 + keras.random.uniform(shape)) / 0.5


def random_student(shape: tuple[int, int, int], classes: int) -> keras.Model:
  """Returns a small network with dropout, stochastic depth and batch norm."""
  image = keras.Input(shape, dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(4, 3, padding='same', use_bias=False)(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.ReLU()(x)
  y = keras.layers.Conv2D(4, 3, padding='same')(x)
  x = keras.layers.Add()([x, StochasticDepth()(y)])
  x = keras.layers.SpatialDropout2D(0.3)(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  x = keras.layers.Dropout(0.3)(x)
  return keras.Model(image, keras.layers.Dense(classes)(x))


def transformer(
  shape: tuple[int, int, int],
  classes: int,
  *,
  class_token: bool = False,
  extra: int = 0,
) -> keras.Model:
  """Returns a vision transformer of one block, patches of 2x2 and 8 channels.

  Its last tokens are the layer `tokens`, `extra` others before them.
  """
  image = keras.Input(shape)
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(8, 2, strides=2, name='patches')(x)
  x = keras.layers.Reshape((-1, 8))(x)
  extra += class_token
  if extra:
    x = ExtraTokens(extra, 0)(x)
  y = keras.layers.LayerNormalization()(x)
  y = keras.layers.MultiHeadAttention(2, 4)(y, y)
  x = keras.layers.Add()([x, y])
  y = keras.layers.Dense(16, activation='relu')(x)
  x = keras.layers.Add()([x, keras.layers.Dense(8)(y)])
  x = keras.layers.LayerNormalization(name='tokens')(x)
  x = x[:, 0] if extra else keras.layers.GlobalAveragePooling1D()(x)
  return keras.Model(image, keras.layers.Dense(classes)(x))


def said(network: keras.Model, layers_of, count: int = 4) -> base.Outputs:
  """Returns what one of a pair says of some images, as a method is told."""
  outputs = taps.logits_and_features(network, layers_of)
  return base.Outputs(*outputs(images(count, 16, 1), training=False))


def torch_conv(rng, outputs, inputs, size):
  """Returns a kernel [O, I, h, w]."""
  bound = 1 / np.sqrt(inputs * size * size)
  return rng.uniform(-bound, bound, size=(outputs, inputs, size, size))


def torch_norm(rng, name, channels):
  """Returns the arrays of a batch norm, by name."""
  return {
    f'{name}.weight': rng.uniform(0.5, 1.5, size=channels),
    f'{name}.bias': rng.normal(size=channels),
    f'{name}.running_mean': 0.3 * rng.normal(size=channels),
    f'{name}.running_var': rng.uniform(0.2, 2, size=channels),
    f'{name}.num_batches_tracked': np.array(7),
  }


def torch_resnet(
  *, blocks=1, width=1.0, projection=True, seed=0, channels=3, classes=5
):
  """Returns PyTorch's state dict of a ResNet of 6 * blocks + 2 layers."""
  rng = np.random.default_rng(seed)
  inputs = round(16 * width)
  state = {
    'conv1.weight': torch_conv(rng, inputs, channels, 3),
    **torch_norm(rng, 'bn1', inputs),
  }
  for group in (1, 2, 3):
    outputs = round(16 * width) * 2 ** (group - 1)
    for block in range(blocks):
      name = f'layer{group}.{block}'
      state[f'{name}.conv1.weight'] = torch_conv(rng, outputs, inputs, 3)
      state |= torch_norm(rng, f'{name}.bn1', outputs)
      state[f'{name}.conv2.weight'] = torch_conv(rng, outputs, outputs, 3)
      state |= torch_norm(rng, f'{name}.bn2', outputs)
      if projection and inputs != outputs:
        state[f'{name}.shortcut.0.weight'] = torch_conv(rng, outputs, inputs, 1)
        state |= torch_norm(rng, f'{name}.shortcut.1', outputs)
      inputs = outputs
  state['linear.weight'] = rng.normal(size=(classes, inputs))
  state['linear.bias'] = rng.normal(size=classes)
  return state
