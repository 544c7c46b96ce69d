"""The student's loss: the labels' cross entropy and a method's terms."""

import keras
import numpy as np
import tensorflow as tf

from ft_tf import losses
from ft_tf.data import example_sets, image_ops, mixing
from ft_tf.methods import base
from ft_tf.models import taps
from ft_tf.signals import constant
from ft_tf.training import averaging, step


def trained_models(
  student: keras.Model, methods: list[base.Method]
) -> list[keras.Model]:
  """Returns what the one optimizer trains: student, then adapters."""
  return [student, *(m.adapter for m in methods if m.adapter is not None)]


def trained_variables(
  student: keras.Model, methods: list[base.Method]
) -> list[keras.Variable]:
  """Returns the variables of the one optimizer: student, then adapters."""
  return [
    variable
    for model in trained_models(student, methods)
    for variable in model.trainable_variables
  ]


def make_forward(
  network: keras.Model,
  methods: list[base.Method],
  batch_size: int,
  *,
  signal: constant.ConstantSignal | None,
  image_size: tuple[int, int] | None = None,
  labelled_share: float = 1.0,
  class_weights: np.ndarray | None = None,
  label_smoothing: float = 0.0,
) -> step.Forward:
  """Returns a batch's loss terms as a function; see `step.compile_steps`.

  The loss is the labels' cross entropy plus each method's weight times its loss
  (paper, equation 5), a mean over the global batch. Terms are unweighted. A
  batch that carries signals is not shown to the teacher.

  Images without a label, -1, have no cross entropy. Theirs is then the sum of
  the others' over the number of labelled images that a batch has on average,
  whatever this one has and however replicas share it: its expectation is the
  mean over labelled images.

  Of a mixed image (`mixing`) all that reads labels is the mean over its two
  labels by their shares: cross entropy, training accuracy, and the terms that
  need labels. Other terms compare the two networks on the mixed image.

  Args:
    network: What a step runs in the student's place, from raw images to logits,
      with the student's layer names: `fused.fuse(student)`, or the model of a
      quantisation twin.
    methods: The terms of the loss besides cross entropy.
    batch_size: The global batch.
    signal: As of `compiled.compile_signal`; None without terms.
    image_size: Height and width that the student sees images at; None: as they
      are.
    labelled_share: Of the images that batches are drawn from, 0..1.
    class_weights: As of `class_weights.of`, in the labels' cross entropy alone.
    label_smoothing: As of `losses.cross_entropy`, in the labels' cross entropy
      alone: what the terms learn from the teacher, soft targets above all, is
      soft already.
  """
  outputs = taps.logits_and_features(
    network,
    sorted({layer for m in methods for layer in m.student_layers}),
  )

  def forward(batch):
    if signal is None:
      signals = []
    elif 'signal' in batch:
      signals = signal.from_rows(batch['signal'])
    else:
      signals = signal(batch['image'])
    images = batch['image']
    if image_size is not None:
      images = image_ops.shrink(images, image_size)
    student_outputs = base.Outputs(*outputs(images, training=True))
    terms = {'cross_entropy': _of_labelled(student_outputs.logits, batch)}
    loss = terms['cross_entropy']
    for method in methods:
      loss *= method.labels_weight
    for method, target in zip(methods, signals, strict=True):
      adapted = method.adapt(student_outputs, training=True)
      terms[method.name] = _mean(_term(method, adapted, target, batch))
      loss += method.weight * terms[method.name]
    correct = mixing.over_labels(
      batch, lambda labels: step.find_correct(student_outputs.logits, labels)
    )
    return {
      'loss': loss,
      **terms,
      'train_accuracy': tf.reduce_sum(correct) / (batch_size * labelled_share),
    }

  def _of_labelled(logits, batch):
    def of(labels):
      each = losses.cross_entropy(
        logits, tf.maximum(labels, 0), class_weights, label_smoothing
      )
      if labelled_share < 1:
        each = tf.where(labels == example_sets.UNLABELLED, 0.0, each)
      return each

    each = mixing.over_labels(batch, of)
    return tf.reduce_sum(each) / (batch_size * labelled_share)

  def _term(method, adapted, target, batch):
    if not method.reads_labels:
      return method.loss(adapted, target, batch['label'])
    return mixing.over_labels(
      batch, lambda labels: method.loss(adapted, target, labels)
    )

  def _mean(each):
    return tf.reduce_sum(each) / batch_size

  return forward


def compile_steps(
  strategy: tf.distribute.Strategy,
  student: keras.Model,
  methods: list[base.Method],
  optimizer: keras.optimizers.Optimizer,
  forward: step.Forward,
  *,
  jit: bool = False,
  average: averaging.Average | None = None,
  generator: keras.random.SeedGenerator | None = None,
) -> step.Steps:
  """Returns the compiled loop of student steps; see `loop.Training`.

  Args:
    strategy: The devices.
    student: The student.
    methods: The terms of its loss besides cross entropy.
    optimizer: Built on `trained_variables`.
    forward: Of `make_forward`.
    jit: As of `step.compile_steps`.
    average: Likewise.
    generator: Likewise.
  """
  return step.compile_steps(
    strategy,
    forward,
    terms=(
      'loss',
      'cross_entropy',
      *(method.name for method in methods),
      'train_accuracy',
    ),
    models=trained_models(student, methods),
    optimizer=optimizer,
    jit=jit,
    average=average,
    generator=generator,
  )
