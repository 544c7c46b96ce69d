"""Hints (Romero et al. 2015): fitnet."""

import keras
import tensorflow as tf

from ft_tf import losses
from ft_tf.methods import base
from ft_tf.models import blocks, feature_maps, layer_choice, layers


class Hints(base.Method):
  """A regressor on a middle map of the student makes the teacher's.

  Signal: the middle one of the feature maps that both networks have a size of,
  of a pre-activation network the raw sum (RepDistiller; see
  `blocks.block_output`). Adapter: a 1x1 convolution with bias, batch norm and
  ReLU. Loss: mean squared error (equation 3 of the paper, as a mean). The paper
  trains up to the hint first; here the term stands beside cross entropy
  throughout, and both that and the regressor's batch norm are RepDistiller's.
  """

  name = 'fitnet'

  def __init__(
    self,
    *,
    teacher: keras.Model,
    student: keras.Model,
    weight: float,
    sync_batch_norm: bool = False,
    precision: str = 'float32',
  ):
    """Ties a student to a teacher.

    Args:
      teacher: The teacher.
      student: The student.
      weight: Weight of the loss.
      sync_batch_norm: Whether the regressor's batch norm takes statistics over
        all replicas.
      precision: Keras's dtype policy that the regressor computes in.

    Raises:
      UsageError: no maps of the two have one size.
    """
    self.weight = weight
    theirs, ours = layer_choice.pair_by_size(teacher, student)
    middle = len(theirs) // 2
    self.teacher_layers = (blocks.block_output(teacher, theirs[middle]),)
    self.student_layers = (blocks.block_output(student, ours[middle]),)
    self.says = {'signal': 'feature', 'layers': self.teacher_layers}
    channels = feature_maps.shape(teacher, self.teacher_layers[0])[-1]
    shape = feature_maps.shape(student, self.student_layers[0])
    feature = keras.Input(shape, dtype='float32', name='feature')
    x = keras.layers.Conv2D(
      channels,
      1,
      kernel_initializer=layers.uniform_fan_in(),
      bias_initializer=layers.uniform_bias(shape[-1]),
      dtype=precision,
      name='regress',
    )(feature)
    x = keras.layers.BatchNormalization(
      momentum=0.9,
      epsilon=1e-5,
      synchronized=sync_batch_norm,
      dtype=precision,
      name='regress_bn',
    )(x)
    x = keras.layers.ReLU(dtype=precision, name='regress_relu')(x)
    self.adapter = keras.Model(feature, x, name='regressor')

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's middle feature map, `[B, H, W, C]`."""
    return teacher.features[self.teacher_layers[0]]

  def adapt(self, student: base.Outputs, *, training=False) -> tf.Tensor:
    return self.adapter(
      student.features[self.student_layers[0]], training=training
    )

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    return losses.mean_squared(adapted, signal)
