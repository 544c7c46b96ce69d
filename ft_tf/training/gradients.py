"""How strongly each term of the loss pulls, and in which direction."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from ft_tf.training import step


def compile_measure(
  forward: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
  *,
  student: keras.Model,
  models: Iterable[keras.Model],
  terms: Iterable[str],
) -> Callable[[Any], dict[str, tuple[tf.Tensor, tf.Tensor]]]:
  """Returns a function that compares terms' gradients with cross entropy's.

  Args:
    forward: From a batch to its unweighted terms, 'cross_entropy' among them;
      it runs the models in training.
    student: On whose trainable variables the gradients are.
    models: All that the forward pass may move; nothing is moved here.
    terms: Names of the terms.

  Returns:
    From a batch to `{term: (ratio, cosine)}`: the norm of the term's gradient
    over that of cross entropy's, and the cosine of the angle between the two,
    float32 scalars.
  """
  every = [v for model in models for v in model.variables]
  own = {id(v) for v in student.trainable_variables}
  terms = tuple(terms)
  generator = keras.random.SeedGenerator()

  @tf.function
  def measure(batch):
    values = [tf.convert_to_tensor(v.value) for v in every]
    watched = [
      value for v, value in zip(every, values, strict=True) if id(v) in own
    ]
    scope = keras.StatelessScope(zip(every, values, strict=True))
    random = step.drawing_from(generator)
    with scope, random, tf.GradientTape(persistent=True) as tape:
      tape.watch(watched)
      found = forward(batch)
    labels = _flat(tape, found['cross_entropy'], watched)
    length = tf.norm(labels)
    figures = {}
    for term in terms:
      gradient = _flat(tape, found[term], watched)
      ratio = tf.math.divide_no_nan(tf.norm(gradient), length)
      cosine = tf.math.divide_no_nan(
        tf.reduce_sum(gradient * labels), tf.norm(gradient) * length
      )
      figures[term] = ratio, cosine
    return figures

  return measure


def _flat(tape, loss, values):
  """Returns the gradient of a loss as one vector, float32."""
  gradients = tape.gradient(
    loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO
  )
  return tf.concat(
    [tf.reshape(tf.cast(g, tf.float32), [-1]) for g in gradients], axis=0
  )
