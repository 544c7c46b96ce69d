"""What Keras takes from its environment, and this project depends on.

`KERAS_BACKEND` names the backend. `keras.json` in `KERAS_HOME`, or `~/.keras`,
names it too, and the defaults of new layers. `TF_USE_LEGACY_KERAS` has
TensorFlow use another Keras than programs import.
"""

import os

import keras
import tensorflow as tf

from ft_tf import errors

LEGACY = 'TF_USE_LEGACY_KERAS'
_BACKEND = 'tensorflow'
_FLOATX, _DATA_FORMAT, _EPSILON = 'float32', 'channels_last', 1e-7


def use_defaults() -> None:
  """Has the layers of a program of ours be those of any other machine.

  Its backend is to be set before Keras is imported, by `KERAS_BACKEND`.
  """
  keras.config.set_floatx(_FLOATX)
  keras.config.set_image_data_format(_DATA_FORMAT)
  keras.config.set_epsilon(_EPSILON)


def check(name: str) -> None:
  """Checks the settings of a program that is not ours.

  Args:
    name: What depends on them, for the message.

  Raises:
    UsageError: Keras has another backend, or other defaults of layers, or
      TensorFlow has another Keras, or builds a graph.
  """
  if keras.config.backend() != _BACKEND:
    raise errors.UsageError(
      f"{name} trains with Keras's TensorFlow backend, this is "
      f'{keras.config.backend()}: set KERAS_BACKEND={_BACKEND} before keras is '
      'imported'
    )
  if os.environ.get(LEGACY) in ('1', 'true', 'True'):  # as TensorFlow reads it
    raise errors.UsageError(
      f'{name} is for Keras 3, and {LEGACY} has TensorFlow use Keras 2: remove '
      'it from the environment before tensorflow is imported'
    )
  if not tf.executing_eagerly():
    raise errors.UsageError(
      f'{name} is called within a tf.Graph or a tf.function, or after '
      'tf.compat.v1.disable_eager_execution(): call it where TensorFlow '
      'executes eagerly'
    )
  for setting, value, wanted in (
    ('floatx', keras.config.floatx(), _FLOATX),
    ('image_data_format', keras.config.image_data_format(), _DATA_FORMAT),
  ):
    if value != wanted:
      raise errors.UsageError(
        f'{name} needs {wanted} layers, and keras.config.{setting}() is '
        f'{value}: call keras.config.set_{setting}({wanted!r}) before the '
        'models are built'
      )
