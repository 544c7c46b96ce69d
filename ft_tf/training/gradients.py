"""How strongly each term of the loss pulls, and in which direction."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.data import datasets, sampling
from ft_tf.methods import base
from ft_tf.models import graph
from ft_tf.training import distillation, step


def compile_measure(
  forward: step.Forward,
  *,
  student: keras.Model,
  models: Iterable[keras.Model],
  terms: Iterable[str],
  generator: keras.random.SeedGenerator | None = None,
) -> Callable[[Any], dict[str, tuple[tf.Tensor, tf.Tensor]]]:
  """Returns a function that compares terms' gradients with cross entropy's.

  Args:
    forward: From a batch to its unweighted terms, 'cross_entropy' among them;
      it runs the models in training.
    student: On whose trainable variables the gradients are.
    models: All that the forward pass may move; nothing is moved here.
    terms: Names of the terms.
    generator: What random operations without a seed of their own draw from;
      None: a new one.

  Returns:
    From a batch to `{term: (ratio, cosine)}`: the norm of the term's gradient
    over that of cross entropy's, and the cosine of the angle between the two,
    float32 scalars.
  """
  every = [v for model in models for v in model.variables]
  trained = {id(v) for v in student.trainable_variables}
  terms = tuple(terms)
  generator = generator or keras.random.SeedGenerator()

  @tf.function(autograph=False)
  def measure(batch):
    values = [tf.convert_to_tensor(v.value) for v in every]
    watched = [
      value for v, value in zip(every, values, strict=True) if id(v) in trained
    ]
    scope = keras.StatelessScope(zip(every, values, strict=True))
    random = graph.drawing_from(generator)
    with scope, random, tf.GradientTape(persistent=True) as tape:
      tape.watch(watched)
      terms_of_batch = forward(batch)
    labels = _flat(tape, terms_of_batch['cross_entropy'], watched)
    length = tf.norm(labels)
    figures = {}
    for term in terms:
      gradient = _flat(tape, terms_of_batch[term], watched)
      ratio = tf.math.divide_no_nan(tf.norm(gradient), length)
      cosine = tf.math.divide_no_nan(
        tf.reduce_sum(gradient * labels), tf.norm(gradient) * length
      )
      figures[term] = ratio, cosine
    return figures

  return measure


def term_figures(
  forward: step.Forward,
  student: keras.Model,
  methods: list[base.Method],
  dataset: datasets.Dataset,
  batch_size: int,
  generator: keras.random.SeedGenerator | None = None,
) -> Callable[[], dict[str, float]]:
  """Returns a function to the figures of the terms' gradients, by name.

  They are of a sample of the training images, as many as a batch, not
  augmented; of those without labels as many as there are in a batch on average.

  Args:
    forward: As of `compile_measure`.
    student: Likewise.
    methods: The terms of the loss besides cross entropy.
    dataset: The images.
    batch_size: The global batch.
    generator: As of `compile_measure`.

  Returns:
    To `{'gradient_ratio_<term>', 'gradient_cosine_<term>'}`: the norm of the
    weighted term's gradient over that of the weighted cross entropy's, and the
    cosine of their angle.
  """
  measure = compile_measure(
    forward,
    student=student,
    models=distillation.trained_models(student, methods),
    terms=[method.name for method in methods],
    generator=generator,
  )
  batch = _sample(dataset, batch_size)
  labels_weight = np.prod([method.labels_weight for method in methods])

  def figures():
    measured = measure(batch)
    named = {}
    for method in methods:
      ratio, cosine = map(float, measured[method.name])
      weighted = ratio * method.weight / labels_weight
      named[f'gradient_ratio_{method.name}'] = float(weighted)
      named[f'gradient_cosine_{method.name}'] = cosine
    return named

  return figures


def _sample(dataset: datasets.Dataset, batch_size: int) -> dict[str, tf.Tensor]:
  """Returns a batch of training images with labels and without, as they are."""
  labelled, every = len(dataset.train), len(dataset.every)
  count = round(batch_size * dataset.labelled_share)
  unlabelled = np.random.default_rng(0).permutation(every - labelled)
  # Repeated where there are less than a batch.
  positions = [
    np.resize(sampling.sample_positions(dataset.train, count), count),
    np.resize(labelled + unlabelled, batch_size - count),
  ]
  some = dataset.every.take(np.concatenate(positions).astype(np.int64))
  return {
    'image': tf.constant(some.images[:]),
    'label': tf.constant(some.labels),
  }


def _flat(tape, loss, values):
  """Returns the gradient of a loss as one vector, float32."""
  gradients = tape.gradient(
    loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO
  )
  return tf.concat(
    [tf.reshape(tf.cast(g, tf.float32), [-1]) for g in gradients], axis=0
  )
