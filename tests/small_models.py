"""Small models of every kind that users build, for tests."""

import keras
import numpy as np

SHAPE = (8, 8, 3)


def images(count=2):
  return np.random.default_rng(0).normal(size=(count, *SHAPE))


def _layers():
  return [
    keras.Input(SHAPE),
    keras.layers.Conv2D(4, 3, name='first'),
    keras.layers.Conv2D(5, 3, name='last'),
    keras.layers.Flatten(),
    keras.layers.Dense(2, name='logits'),
  ]


def sequential():
  return keras.Sequential(_layers())


def sequential_without_input():
  model = keras.Sequential(_layers()[1:])
  model.build((None, *SHAPE))
  return model


def functional():
  x, *rest = _layers()
  y = x
  for layer in rest:
    y = layer(y)
  return keras.Model(x, y)


def nested(name='backbone'):
  """A classifier on a backbone that is a model of its own."""
  x = keras.Input(SHAPE)
  y = keras.layers.Conv2D(4, 3, name='inner')(x)
  backbone = keras.Model(x, keras.layers.ReLU()(y), name=name)
  x = keras.Input(SHAPE)
  y = keras.layers.GlobalAveragePooling2D(name='pool')(backbone(x))
  return keras.Model(x, keras.layers.Dense(2, name='logits')(y))


class Subclassed(keras.Model):
  def __init__(self):
    super().__init__()
    self.last = keras.layers.Conv2D(4, 3, name='last')

  def call(self, x):
    return self.last(x)


def norm_relu(x):
  return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))


def conv(x, channels, **kwargs):
  return keras.layers.Conv2D(channels, 3, padding='same', **kwargs)(x)


def classifier(image, x):
  y = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(2)(y))


def with_end(*last):
  """Returns a classifier that ends with some layers after its pooling."""
  return keras.Sequential(
    [
      keras.Input(SHAPE),
      keras.layers.Conv2D(4, 3),
      keras.layers.GlobalAveragePooling2D(),
      *last,
    ]
  )
