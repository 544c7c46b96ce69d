"""Attention transfer (Zagoruyko and Komodakis 2017): at."""

import keras
import tensorflow as tf

from ft_tf import losses
from ft_tf.methods import base
from ft_tf.models import blocks, layer_choice


class AttentionTransfer(base.Method):
  """Where the student looks, in every group, is where the teacher does.

  Signal: the attention map of the last feature map of each size that both
  networks have, of a pre-activation network the raw sum (the authors' code; see
  `blocks.block_output`). No adapter. Loss: the mean squared difference of
  normalised attention maps, a sum over sizes (the authors' code; section 3.1 of
  the paper has the norm itself).
  """

  name = 'at'

  def __init__(
    self, *, teacher: keras.Model, student: keras.Model, beta: float
  ):
    """Pairs the maps.

    Args:
      teacher: The teacher.
      student: The student.
      beta: Weight of the loss.

    Raises:
      UsageError: no maps of the two have one size.
    """
    self.weight = beta
    theirs, ours = layer_choice.pair_by_size(teacher, student)
    self.teacher_layers = tuple(
      blocks.block_output(teacher, layer) for layer in theirs
    )
    self.student_layers = tuple(
      blocks.block_output(student, layer) for layer in ours
    )
    self.says = {'signal': 'attention', 'layers': self.teacher_layers}

  def signal(self, teacher: base.Outputs) -> list[tf.Tensor]:
    """Returns normalised attention maps, `[B, H * W]` each."""
    return [
      losses.attention(teacher.features[layer]) for layer in self.teacher_layers
    ]

  def adapt(self, student: base.Outputs, *, training=False) -> list[tf.Tensor]:
    return [
      losses.attention(student.features[layer]) for layer in self.student_layers
    ]

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    return tf.add_n(
      [
        losses.mean_squared(ours, theirs)
        for ours, theirs in zip(adapted, signal, strict=True)
      ]
    )
