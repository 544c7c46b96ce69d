"""Factor transfer (Kim, Park and Kwak 2018): ft."""

import keras
import tensorflow as tf

from ft_tf import errors, factors, losses
from ft_tf.methods import base
from ft_tf.models import taps


class FactorTransfer(base.Method):
  """The student's translator learns to speak the paraphraser's factors.

  Signal: the paraphraser's factor of the teacher's last feature map. Adapter:
  the translator. Loss: `losses.factor_transfer` (paper, equations 3 and 5).
  """

  name = 'factor_transfer'

  def __init__(
    self,
    *,
    teacher: keras.Model,
    paraphraser: factors.Paraphraser,
    student: keras.Model,
    beta: float,
    p: int,
  ):
    """Ties a student to a teacher.

    Args:
      teacher: From raw images to logits; trained.
      paraphraser: Trained on the teacher's last feature map.
      student: From raw images to logits.
      beta: Weight of the loss.
      p: Norm of the loss, 1 or 2.

    Raises:
      UsageError: the paraphraser is not of this teacher, or the last feature
        maps of teacher and student differ in height and width.
    """
    self.weight = beta
    self._p = p
    self._tap = taps.last_feature_map(teacher)
    self._teacher = taps.features(teacher, [self._tap])
    self._paraphraser = paraphraser
    self.frozen = (teacher, paraphraser)
    for model in self.frozen:
      model.trainable = False
    layer = taps.last_feature_map(student)
    self.student_layers = (layer,)

    theirs = self._teacher.output[self._tap].shape
    ours = taps.features(student, [layer]).output[layer].shape
    channels = paraphraser.encoder[0].kernel.shape[2]
    if channels != theirs[-1]:
      raise errors.UsageError(
        f'the paraphraser was trained on {channels} channels, the teacher has '
        f'{theirs[-1]}: train the paraphraser of this teacher'
      )
    if ours[1:3] != theirs[1:3]:
      raise errors.UsageError(
        f'the last feature maps differ in size, {theirs[1:3]} in the teacher '
        f'and {ours[1:3]} in the student: give a --student with as many strides'
      )
    self.adapter = factors.Translator(
      paraphraser.encoder[-1].filters, name='translator'
    )
    self.adapter.build(ours)

  def signal(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the teacher factor, `[B, H, W, mk]`."""
    feature = self._teacher(images, training=False)[self._tap]
    return tf.stop_gradient(self._paraphraser.encode(feature))

  def adapt(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the student factor, `[B, H, W, mk]`."""
    return self.adapter(features[self.student_layers[0]])

  def loss(self, adapted: tf.Tensor, signal: tf.Tensor) -> tf.Tensor:
    return losses.factor_transfer(adapted, signal, p=self._p)
