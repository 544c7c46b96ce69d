"""Similarity-preserving distillation (Tung and Mori 2019): sp."""

import keras
import tensorflow as tf

from ft_tf import losses
from ft_tf.methods import base
from ft_tf.models import blocks, layer_choice


class Similarity(base.Method):
  """Images that are alike to the teacher are to be alike to the student.

  Signal: the last feature map, of a pre-activation network the raw sum
  (RepDistiller, whose weight is the paper's; see `blocks.block_output`). No
  adapter. Loss: the squared difference of the row-normalised Gram matrices of a
  batch over its size squared (equation 4 of the paper). The batch is the global
  one, of all replicas.
  """

  name = 'sp'

  def __init__(
    self, *, teacher: keras.Model, student: keras.Model, gamma: float
  ):
    """Taps the last maps; gamma is the weight of the loss."""
    self.weight = gamma
    self.teacher_layers, self.student_layers = (
      (blocks.block_output(network, layer_choice.last_feature_map(network)),)
      for network in (teacher, student)
    )
    self.says = {'signal': 'feature', 'layers': self.teacher_layers}

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's last feature map, `[B, H, W, C]`."""
    return teacher.features[self.teacher_layers[0]]

  def adapt(self, student: base.Outputs, *, training=False) -> tf.Tensor:
    return student.features[self.student_layers[0]]

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    return losses.similarity(adapted, signal, _of_all(adapted), _of_all(signal))


def _of_all(feature):
  """Returns the feature maps of all replicas' images, `[B, ...]`."""
  replica = tf.distribute.get_replica_context()
  if replica is None or replica.num_replicas_in_sync == 1:
    return feature
  return replica.all_gather(feature, axis=0)
