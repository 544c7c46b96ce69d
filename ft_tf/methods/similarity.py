"""Similarity-preserving distillation (Tung and Mori 2019): sp."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from ft_tf import definitions, fields, losses, recipes
from ft_tf.methods import base, registry
from ft_tf.models import blocks, layer_choice


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of sp."""

  # Tung and Mori 2019, section 4.1.
  sp_gamma: float = fields.field(
    'weight of the similarity-preserving loss (sp)',
    least=0,
    most=10**9,
    default=3000.0,
  )


class Similarity(base.Method):
  """Images that are similar for the teacher become similar for the student.

  Signal: the last feature map; in a pre-activation network that is the raw sum
  of the last group (RepDistiller, whose weight is the paper's; see
  `blocks.block_output`). No adapter. Loss: the squared difference of the
  row-normalised Gram matrices of a batch, divided by the squared batch size
  (equation 4 of the paper). The batch is the global one, of all replicas.
  """

  name = 'sp'

  def __init__(
    self, *, teacher: keras.Model, student: keras.Model, gamma: float
  ):
    """Chooses the last feature maps.

    Args:
      teacher: The teacher.
      student: The student.
      gamma: Weight of the loss.
    """
    self.weight = gamma
    self.teacher_layers, self.student_layers = (
      (blocks.block_output(network, layer_choice.last_feature_map(network)),)
      for network in (teacher, student)
    )
    self.signal_key = {'signal': 'feature', 'layers': self.teacher_layers}

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's last feature map, `[B, H, W, C]`."""
    return teacher.features[self.teacher_layers[0]]

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> tf.Tensor:
    """Returns the student's last feature map, `[B, H, W, C]`."""
    return student.features[self.student_layers[0]]

  def loss(
    self, adapted: tf.Tensor, signal: tf.Tensor, labels: tf.Tensor
  ) -> tf.Tensor:
    return losses.similarity(adapted, signal, _gather(adapted), _gather(signal))


def _gather(feature):
  """Returns the feature maps of the images on all replicas, `[B, ...]`."""
  replica = tf.distribute.get_replica_context()
  if replica is None or replica.num_replicas_in_sync == 1:
    return feature
  return replica.all_gather(feature, axis=0)


def _make(
  numbers: Numbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  del recipe
  return [
    Similarity(
      teacher=parts.teacher, student=parts.student, gamma=numbers.sp_gamma
    )
  ]


definitions.register(
  definitions.Definition(
    name='sp',
    make=_make,
    numbers=Numbers,
    about=(
      'similarity-preserving distillation: images that are similar for the '
      'teacher become similar for the student (Tung and Mori, ICCV 2019)'
    ),
  )
)
