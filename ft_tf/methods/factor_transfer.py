"""Factor transfer (Kim, Park and Kwak 2018): ft."""

import keras
import tensorflow as tf

from ft_tf import errors, factors, losses
from ft_tf.methods import base
from ft_tf.models import folding, taps


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
    precision: str = 'float32',
  ):
    """Ties a student to a teacher.

    Args:
      teacher: From raw images to logits; trained.
      paraphraser: Trained on the teacher's last feature map.
      student: From raw images to logits.
      beta: Weight of the loss.
      p: Norm of the loss, 1 or 2.
      precision: Keras's dtype policy that signal and translator compute in.

    Raises:
      UsageError: the paraphraser is not of this teacher, or the last feature
        maps of teacher and student differ in height and width.
    """
    self.weight = beta
    self._p = p
    self._tap = taps.last_feature_map(teacher)
    dtype = keras.DTypePolicy(precision).compute_dtype
    self._teacher = folding.fold(taps.features(teacher, [self._tap]), dtype)
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
    self._paraphraser = factors.Paraphraser(paraphraser.rate, dtype=precision)
    self._paraphraser.build(theirs)
    self._paraphraser.set_weights(paraphraser.get_weights())
    # The loss does not see the scale of the student factor, which may grow
    # beyond what float16 holds.
    wide = 'float32' if precision == 'mixed_float16' else precision
    self.adapter = factors.Translator(
      paraphraser.encoder[-1].filters, name='translator', dtype=wide
    )
    self.adapter.build(ours)

  def signal(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the teacher factor, `[B, H, W, mk]`."""
    feature = self._teacher(images, training=False)[self._tap]
    return self._paraphraser.encode(feature)

  def adapt(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the student factor, `[B, H, W, mk]`."""
    return self.adapter(features[self.student_layers[0]])

  def loss(self, adapted: tf.Tensor, signal: tf.Tensor) -> tf.Tensor:
    return losses.factor_transfer(adapted, signal, p=self._p)
