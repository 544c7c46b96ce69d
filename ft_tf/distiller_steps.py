"""Steps within Keras's `fit`: the paraphraser's, and what a student's needs."""

import contextlib
import math
from typing import Any

import keras
import tensorflow as tf

from ft_tf import distiller_parts, errors, losses
from ft_tf.training import paraphraser as paraphraser_stage


def mean(each: tf.Tensor, sample_weight: Any) -> tf.Tensor:
  """Returns the mean of losses `[B]`, each times its example's weight.

  Args:
    each: The losses.
    sample_weight: As Keras's steps have it. `[B]` or `[B, 1]` is a weight per
      example; another shape, a nest or None is not, and is not used.
  """
  if tf.is_tensor(sample_weight):
    # Of unknown rank they are taken for weights per example, which fails in the
    # step if they are not.
    rank = sample_weight.shape.rank
    if rank in (None, 1) or sample_weight.shape[1:] == (1,):
      each *= tf.reshape(tf.cast(sample_weight, each.dtype), [-1])
  return tf.reduce_mean(each)


def after(data: Any) -> contextlib.AbstractContextManager:
  """Returns a scope whose operations run once a batch has come.

  Keras learns from a failing step that a data set of unknown length has ended.
  Without this, where batches have a fixed size, that step still counts in means
  and in the optimizer's iterations, which then do not depend on the batch.
  """
  tensors = [each for each in tf.nest.flatten(data) if tf.is_tensor(each)]
  return tf.control_dependencies(tensors)


def replicas() -> int:
  """Returns the number of replicas, over which Keras sums gradients."""
  return tf.distribute.get_strategy().num_replicas_in_sync


class ParaphraserTraining(keras.Model):
  """Trains the paraphrasers of a Distiller by Keras's own `fit`."""

  def __init__(self, parts: distiller_parts.Parts):
    recipe = parts.recipe
    super().__init__(name='paraphraser_training', dtype=recipe.precision)
    self.paraphrasers = list(parts.paraphrasers.values())
    self._kind = recipe.paraphraser.reconstruction
    self._parts = parts
    with parts.flat_teacher() as teacher:
      self._teacher_features = [
        paraphraser_stage.compile_feature(teacher, layer, recipe.precision)
        for layer in parts.paraphrasers
      ]
    self.built = True

  def run(self, x: Any, **kwargs: Any) -> keras.callbacks.History:
    """Returns the history of `fit`; the models are frozen before and after."""
    for paraphraser in self.paraphrasers:
      paraphraser.trainable = True
    try:
      history = self.fit(x, **kwargs)
    finally:
      for paraphraser in self.paraphrasers:
        paraphraser.trainable = False
    loss = history.history['loss'][-1]
    if not math.isfinite(loss):
      raise errors.TrainingError(
        f"the paraphraser's loss is {loss}: make the Distiller again and give "
        'fit_paraphraser an optimizer with a lower learning rate, such as '
        'keras.optimizers.Adam(1e-4)'
      )
    return history

  def train_step(self, data: Any) -> dict[str, tf.Tensor]:
    with after(data):
      return super().train_step(data)

  def test_step(self, data: Any) -> dict[str, tf.Tensor]:
    with after(data):
      return super().test_step(data)

  def call(
    self, inputs: tf.Tensor, training: bool = False
  ) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Returns the reconstruction of each feature map, and the map itself."""
    images = self._parts.check_images(inputs)
    maps = [feature(images) for feature in self._teacher_features]
    return [
      (paraphraser(real), real)
      for paraphraser, real in zip(self.paraphrasers, maps, strict=True)
    ]

  def compute_loss(
    self,
    x: Any = None,
    y: Any = None,
    y_pred: Any = None,
    sample_weight: Any = None,
    training: bool = True,
  ) -> tf.Tensor:
    """Returns this replica's share of the reconstruction loss."""
    loss = tf.constant(0.0)
    for rebuilt, real in y_pred:
      each = losses.reconstruction(rebuilt, real, self._kind)
      loss += mean(each, sample_weight)
    return loss / replicas()
