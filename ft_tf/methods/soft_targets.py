"""Soft targets (Hinton, Vinyals and Dean 2015) and decoupled ones: kd, dkd."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from ft_tf import definitions, fields, losses, recipes
from ft_tf.methods import base, registry


@dataclasses.dataclass(frozen=True)
class _Softened:
  """The number that kd and dkd share."""

  # Hinton et al. 2015 name no single value; 4 and a weight of 0.9 are those of
  # Zagoruyko and Komodakis (2017, section 4.1) and of RepDistiller.
  temperature: float = fields.field(
    'temperature of the softmax in kd and dkd', above=0, most=1000, default=4.0
  )


@dataclasses.dataclass(frozen=True)
class SoftTargetsNumbers(_Softened):
  """The numbers of kd."""

  kd_alpha: float = fields.field(
    'weight of the soft-target loss (kd); the weight of cross entropy is 1 - '
    'kd_alpha',
    least=0,
    most=1,
    default=0.9,
  )


@dataclasses.dataclass(frozen=True)
class DecoupledNumbers(_Softened):
  """The numbers of dkd.

  Zhao et al. 2022, table 1 and the authors' configurations: alpha 1; beta 1, 2,
  6 or 8 depending on the teacher, 2 for ResNet-56 and ResNet-20 on CIFAR-100.
  """

  dkd_alpha: float = fields.field(
    'weight of the target-class part of the decoupled loss (dkd)',
    least=0,
    most=10**6,
    default=1.0,
  )
  dkd_beta: float = fields.field(
    'weight of the non-target-class part of the decoupled loss (dkd)',
    least=0,
    most=10**6,
    default=2.0,
  )


class SoftTargets(base.Method):
  """The student's softened class probabilities approach the teacher's.

  Signal: the teacher's logits. No adapter. Loss: `losses.soft_targets`, in a
  weighted average with cross entropy (section 2 of the paper).
  """

  name = 'kd'

  def __init__(self, *, alpha: float, temperature: float):
    """Sets the weights.

    Args:
      alpha: Weight of the term; that of cross entropy is 1 - alpha.
      temperature: T, which divides the logits.
    """
    self.weight = alpha
    self.labels_weight = 1 - alpha
    self.signal_key = {'signal': 'logits'}
    self._temperature = temperature

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's logits, `[B, classes]`."""
    return teacher.logits

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> tf.Tensor:
    """Returns the student's logits, `[B, classes]`."""
    return student.logits

  def loss(
    self, adapted: tf.Tensor, signal: tf.Tensor, labels: tf.Tensor
  ) -> tf.Tensor:
    return losses.soft_targets(adapted, signal, self._temperature)


class DecoupledSoftTargets(base.Method):
  """Soft targets with separate weights for label and other classes (Zhao 2022).

  Signal: the teacher's logits. No adapter. Loss: alpha TCKD + beta NCKD
  (equation 7 of the paper). The authors' code also raises the weight over the
  first 20 epochs; this one does not.
  """

  name = 'dkd'
  weight = 1.0
  reads_labels = True

  def __init__(self, *, alpha: float, beta: float, temperature: float):
    """Sets the weights.

    Args:
      alpha: Weight of the label's part.
      beta: Weight of the other classes' part.
      temperature: T, which divides the logits.
    """
    self._alpha = alpha
    self._beta = beta
    self.signal_key = {'signal': 'logits'}
    self._temperature = temperature

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's logits, `[B, classes]`."""
    return teacher.logits

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> tf.Tensor:
    """Returns the student's logits, `[B, classes]`."""
    return student.logits

  def loss(
    self, adapted: tf.Tensor, signal: tf.Tensor, labels: tf.Tensor
  ) -> tf.Tensor:
    label_part, others_part = losses.decoupled_soft_targets(
      adapted, signal, labels, self._temperature
    )
    return self._alpha * label_part + self._beta * others_part


def _make_soft_targets(
  numbers: SoftTargetsNumbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  del recipe, parts
  return [SoftTargets(alpha=numbers.kd_alpha, temperature=numbers.temperature)]


def _make_decoupled(
  numbers: DecoupledNumbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  del recipe, parts
  return [
    DecoupledSoftTargets(
      alpha=numbers.dkd_alpha,
      beta=numbers.dkd_beta,
      temperature=numbers.temperature,
    )
  ]


definitions.register(
  definitions.Definition(
    name='kd',
    make=_make_soft_targets,
    numbers=SoftTargetsNumbers,
    about=(
      'soft targets, the original knowledge distillation: the student learns '
      "the teacher's class probabilities (Hinton, Vinyals and Dean 2015)"
    ),
  )
)
definitions.register(
  definitions.Definition(
    name='dkd',
    make=_make_decoupled,
    numbers=DecoupledNumbers,
    about=(
      'decoupled soft targets: the true class and the other classes have '
      'weights of their own (Zhao et al., CVPR 2022)'
    ),
  )
)
