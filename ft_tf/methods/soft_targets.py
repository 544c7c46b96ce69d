"""Soft targets (Hinton, Vinyals and Dean 2015), and them decoupled: kd, dkd."""

import tensorflow as tf

from ft_tf import losses
from ft_tf.methods import base


class SoftTargets(base.Method):
  """The student's softened answer is to be the teacher's.

  Signal: the teacher's logits. No adapter. Loss: `losses.soft_targets`, in a
  weighted average with cross entropy (section 2 of the paper).
  """

  name = 'kd'

  def __init__(self, *, alpha: float, temperature: float):
    """Weighs the term.

    Args:
      alpha: Weight of the term; cross entropy has 1 - alpha.
      temperature: T, which divides the logits.
    """
    self.weight = alpha
    self.labels_weight = 1 - alpha
    self.says = {'signal': 'logits'}
    self._temperature = temperature

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    return teacher.logits

  def adapt(self, student: base.Outputs, *, training=False) -> tf.Tensor:
    return student.logits

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    return losses.soft_targets(adapted, signal, self._temperature)


class DecoupledSoftTargets(base.Method):
  """Soft targets of the label and of the other classes apart (Zhao 2022).

  Signal: the teacher's logits. No adapter. Loss: alpha TCKD + beta NCKD
  (equation 7 of the paper). The weight's warm-up over 20 epochs, which the
  authors' code has, is left out.
  """

  name = 'dkd'
  weight = 1.0
  reads_labels = True

  def __init__(self, *, alpha: float, beta: float, temperature: float):
    """Weighs the two parts.

    Args:
      alpha: Weight of the label's part.
      beta: Weight of the other classes' part.
      temperature: T, which divides the logits.
    """
    self._alpha = alpha
    self._beta = beta
    self.says = {'signal': 'logits'}
    self._temperature = temperature

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    return teacher.logits

  def adapt(self, student: base.Outputs, *, training=False) -> tf.Tensor:
    return student.logits

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    of_label, of_others = losses.decoupled_soft_targets(
      adapted, signal, labels, self._temperature
    )
    return self._alpha * of_label + self._beta * of_others
