"""The smallest classifier, and the spec of a network, of images of a shape."""

import keras

from ft_tf.models import layers


def spec(image_shape=(8, 8, 3), classes=10):
  channels = image_shape[-1]
  return layers.Spec(
    image_shape=image_shape,
    classes=classes,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
  )


def classifier(image_shape=(8, 8, 3), classes=10):
  x = keras.Input(image_shape)
  y = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(x, keras.layers.Dense(classes)(y))
