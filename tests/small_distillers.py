"""Small distillers, their data and how their weights are compared."""

import keras
import numpy as np

import ft_tf
from ft_tf import factors
from tests import fixtures

SHAPE = (8, 8, 1)
LABELS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(channels, outputs=None, *, shape=SHAPE, strides=1, dropout=0.0):
  """Returns a small network without batch norm, its feature map `maps`."""
  image = keras.Input(shape)
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(
    channels, 3, strides, padding='same', activation='relu', name='maps'
  )(x)
  if outputs:
    return keras.Model(image, outputs(x))
  x = keras.layers.GlobalAveragePooling2D()(x)
  if dropout:
    x = keras.layers.Dropout(dropout)(x)
  x = keras.layers.Dense(3, dtype='float32')(x)
  return keras.Model(image, x)


def make(seed=0, teacher=None, student=None, **arguments):
  """Returns a distiller of small networks with first weights by the seed."""
  keras.utils.set_random_seed(seed)
  return ft_tf.Distiller(
    teacher or network(6),
    student or network(4),
    **{'teacher_layer': 'maps', 'student_layer': 'maps', **arguments},
  )


def data(count=16):
  train = fixtures.blobs().train
  return train.images[:count].astype(np.float32), train.labels[:count]


def trained(seed=0, **arguments):
  """Returns a distiller with a paraphraser that counts as trained."""
  keras.utils.set_random_seed(seed)
  paraphraser = factors.Paraphraser(0.5)
  paraphraser.build((None, 8, 8, 6))
  distiller = make(seed, paraphraser=paraphraser, **arguments)
  distiller.compile(keras.optimizers.SGD(0.1), LABELS)
  return distiller


def assert_weights_close(test, ours, theirs, atol=1e-5):
  test.assertEqual(len(ours), len(theirs))
  for one, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=atol)
