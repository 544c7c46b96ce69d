"""Hints (Romero et al. 2015): fitnet."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from ft_tf import definitions, fields, losses, recipes
from ft_tf.methods import base, registry
from ft_tf.models import blocks, feature_maps, layer_choice, layers


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of fitnet."""

  # RepDistiller, whose hint loss is a mean as well.
  fitnet_weight: float = fields.field(
    'weight of the hint loss (fitnet)', least=0, most=10**9, default=100.0
  )


class Hints(base.Method):
  """A regressor predicts the teacher's middle feature map from the student's.

  Signal: the middle one of the feature maps whose size both networks have; in a
  pre-activation network that is the raw sum of the group (RepDistiller; see
  `blocks.block_output`). Adapter: a 1x1 convolution with bias, batch norm and
  ReLU. Loss: mean squared error (equation 3 of the paper, as a mean). The paper
  first trains the student up to the hint; here the term is added to cross
  entropy for the whole training. This and the batch norm of the regressor are
  RepDistiller's.
  """

  name = 'fitnet'
  adapter: keras.Model

  def __init__(
    self,
    *,
    teacher: keras.Model,
    student: keras.Model,
    weight: float,
    sync_batch_norm: bool = False,
    precision: str = 'float32',
  ):
    """Builds the regressor between the middle feature maps.

    Args:
      teacher: The teacher.
      student: The student.
      weight: Weight of the loss.
      sync_batch_norm: Whether the regressor's batch norm takes statistics over
        all replicas.
      precision: Keras's dtype policy that the regressor computes in.

    Raises:
      UsageError: no feature maps of the two have the same size.
    """
    self.weight = weight
    teacher_layers, student_layers = layer_choice.pair_by_size(teacher, student)
    middle = len(teacher_layers) // 2
    self.teacher_layers = (
      blocks.block_output(teacher, teacher_layers[middle]),
    )
    self.student_layers = (
      blocks.block_output(student, student_layers[middle]),
    )
    self.signal_key = {'signal': 'feature', 'layers': self.teacher_layers}
    self.adapter = _regressor(
      feature_maps.shape(student, self.student_layers[0]),
      feature_maps.shape(teacher, self.teacher_layers[0])[-1],
      sync_batch_norm=sync_batch_norm,
      precision=precision,
    )

  def signal(self, teacher: base.Outputs) -> tf.Tensor:
    """Returns the teacher's middle feature map, `[B, H, W, C]`."""
    return teacher.features[self.teacher_layers[0]]

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> tf.Tensor:
    """Returns the prediction of the teacher's feature map, `[B, H, W, C]`."""
    return self.adapter(
      student.features[self.student_layers[0]], training=training
    )

  def loss(
    self, adapted: tf.Tensor, signal: tf.Tensor, labels: tf.Tensor
  ) -> tf.Tensor:
    return losses.mean_squared(adapted, signal)


def _regressor(
  shape: tuple[int, int, int],
  channels: int,
  *,
  sync_batch_norm: bool,
  precision: str,
) -> keras.Model:
  """Returns a model from feature maps `[B, *shape]` to `channels` channels."""
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
  return keras.Model(feature, x, name='regressor')


def _make(
  numbers: Numbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  return [
    Hints(
      teacher=parts.teacher,
      student=parts.student,
      weight=numbers.fitnet_weight,
      sync_batch_norm=recipe.sync_batch_norm,
      precision=recipe.precision,
    )
  ]


definitions.register(
  definitions.Definition(
    name='fitnet',
    make=_make,
    numbers=Numbers,
    about=(
      "hints: a regressor predicts the teacher's middle feature map from the "
      "student's (FitNets; Romero et al., ICLR 2015)"
    ),
  )
)
