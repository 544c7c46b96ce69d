"""A network as a graph whose weights are constants, as converters read it."""

from collections.abc import Callable

import keras
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants


def of_model(model: keras.Model, *, batch: int | None = 1) -> tf.Graph:
  """Returns the graph of a Keras model at inference.

  Args:
    model: From images `[B, H, W, C]` to logits.
    batch: How many images the graph takes; None: any number.

  Returns:
    As of `trace`.
  """
  image = model.inputs[0]
  values = [
    [variable.numpy() for variable in variables]
    for variables in (model.trainable_variables, model.non_trainable_variables)
  ]

  def logits(images):
    constants = [[tf.constant(each) for each in some] for some in values]
    return model.stateless_call(*constants, images, training=False)[0]

  return trace(
    logits, tf.TensorSpec([batch, *image.shape[1:]], image.dtype, 'image')
  )


def trace(
  logits: Callable[[tf.Tensor], tf.Tensor], image: tf.TensorSpec
) -> tf.Graph:
  """Returns the graph of a function, without variables.

  Args:
    logits: From images to logits.
    image: Of its images, `[B, H, W, C]`.

  Returns:
    The graph, with the lists `inputs` and `outputs` of one tensor each.
  """
  function = tf.function(logits, autograph=False).get_concrete_function(image)
  if function.captured_inputs:
    # Variables that Keras does not know, or constants from outside. There is no
    # other way in public, but for that of TensorFlow 1, with sessions.
    function = convert_to_constants.convert_variables_to_constants_v2(function)
  return function.graph
