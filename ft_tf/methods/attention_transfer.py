"""Attention transfer (Zagoruyko and Komodakis 2017): at."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from ft_tf import definitions, fields, losses, recipes
from ft_tf.methods import base, registry
from ft_tf.models import blocks, layer_choice


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of at."""

  # Zagoruyko and Komodakis 2017, section 4.1: 10^3; RepDistiller has the same.
  at_beta: float = fields.field(
    'weight of the attention-transfer loss (at)',
    least=0,
    most=10**9,
    default=1000.0,
  )


class AttentionTransfer(base.Method):
  """The student attends to the same places as the teacher, at every size.

  Signal: the attention map of the last feature map of each size that both
  networks have; in a pre-activation network that is the raw sum of the group
  (authors' code; see `blocks.block_output`). No adapter. Loss: the mean squared
  difference of normalised attention maps, summed over the sizes (authors' code;
  section 3.1 of the paper has the norm instead of its square).
  """

  name = 'at'

  def __init__(
    self, *, teacher: keras.Model, student: keras.Model, beta: float
  ):
    """Pairs the feature maps by size.

    Args:
      teacher: The teacher.
      student: The student.
      beta: Weight of the loss.

    Raises:
      UsageError: no feature maps of the two have the same size.
    """
    self.weight = beta
    teacher_layers, student_layers = layer_choice.pair_by_size(teacher, student)
    self.teacher_layers = tuple(
      blocks.block_output(teacher, layer) for layer in teacher_layers
    )
    self.student_layers = tuple(
      blocks.block_output(student, layer) for layer in student_layers
    )
    self.signal_key = {'signal': 'attention', 'layers': self.teacher_layers}

  def signal(self, teacher: base.Outputs) -> list[tf.Tensor]:
    """Returns normalised attention maps, `[B, H * W]` each."""
    return [
      losses.attention(teacher.features[layer]) for layer in self.teacher_layers
    ]

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> list[tf.Tensor]:
    """Returns the student's normalised attention maps, `[B, H * W]` each."""
    return [
      losses.attention(student.features[layer]) for layer in self.student_layers
    ]

  def loss(
    self, adapted: list[tf.Tensor], signal: list[tf.Tensor], labels: tf.Tensor
  ) -> tf.Tensor:
    return tf.add_n(
      [
        losses.mean_squared(student_map, teacher_map)
        for student_map, teacher_map in zip(adapted, signal, strict=True)
      ]
    )


def _make(
  numbers: Numbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  del recipe
  return [
    AttentionTransfer(
      teacher=parts.teacher, student=parts.student, beta=numbers.at_beta
    )
  ]


definitions.register(
  definitions.Definition(
    name='at',
    make=_make,
    numbers=Numbers,
    about=(
      "attention transfer: the student learns where the teacher's feature "
      'maps are active, at every size (Zagoruyko and Komodakis, ICLR 2017)'
    ),
  )
)
