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


def pair() -> tuple[keras.Model, keras.Model]:
  """Returns an untrained teacher and a narrower student, for 16x16 grey."""
  spec = layers.Spec((16, 16, 1), 3, (0.5,), (0.25,))
  keras.utils.set_random_seed(0)
  return zoo.build('resnet14x0.5', spec), zoo.build('resnet8x0.25', spec)


def said(network: keras.Model, layers_of, count: int = 4) -> base.Outputs:
  """Returns what one of a pair says of some images, as a method is told."""
  outputs = taps.logits_and_features(network, layers_of)
  return base.Outputs(*outputs(images(count, 16, 1), training=False))
