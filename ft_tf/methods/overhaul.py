"""The overhaul of feature distillation (Heo et al. 2019): ofd."""

import keras
import numpy as np
import tensorflow as tf

from ft_tf import losses
from ft_tf.methods import base
from ft_tf.models import blocks, feature_maps, layer_choice, layers, taps


class Overhaul(base.Method):
  """The student learns the teacher's maps from before the activation.

  Signal: the maps before the ReLU that ends each group, through a ReLU whose
  floor is a channel's mean negative response (equations 1 and 2 of the paper).
  Adapter: a 1x1 convolution and batch norm for each. Loss: the partial squared
  distance (equation 4), a sum over elements, halved from each group to the one
  before (the authors' code).
  """

  name = 'ofd'

  def __init__(
    self,
    *,
    teacher: keras.Model,
    student: keras.Model,
    images: np.ndarray,
    weight: float,
    sync_batch_norm: bool = False,
    precision: str = 'float32',
  ):
    """Ties a student to a teacher.

    Args:
      teacher: The teacher, trained.
      student: The student.
      images: Training images `[N, H, W, C]` uint8; mean negative responses are
        taken over them. The authors' code has them of batch norm's statistics,
        which not every network has before its activations.
      weight: Weight of the loss.
      sync_batch_norm: Whether the adapter's batch norm takes statistics over
        all replicas.
      precision: Keras's dtype policy that the adapter computes in.

    Raises:
      UsageError: no maps of the two have one size.
    """
    self.weight = weight
    theirs, ours = layer_choice.pair_by_size(teacher, student)
    self.teacher_layers = tuple(
      blocks.before_activation(teacher, layer) for layer in theirs
    )
    self.student_layers = tuple(
      blocks.before_activation(student, layer) for layer in ours
    )
    self.says = {
      'signal': 'feature above its floor',
      'layers': self.teacher_layers,
      'images': len(images),
    }
    self.constants = tuple(
      _mean_negative_responses(
        taps.features(teacher, self.teacher_layers), self.teacher_layers, images
      )
    )
    inputs, outputs = {}, {}
    for theirs, ours in zip(
      self.teacher_layers, self.student_layers, strict=True
    ):
      shape = feature_maps.shape(student, ours)
      inputs[ours] = keras.Input(shape, dtype='float32', name=ours)
      x = keras.layers.Conv2D(
        feature_maps.shape(teacher, theirs)[-1],
        1,
        use_bias=False,
        kernel_initializer=layers.uniform_fan_in(),
        dtype=precision,
        name=f'{ours}_connect',
      )(inputs[ours])
      outputs[ours] = keras.layers.BatchNormalization(
        momentum=0.9,
        epsilon=1e-5,
        synchronized=sync_batch_norm,
        dtype=precision,
        name=f'{ours}_connect_bn',
      )(x)
    self.adapter = keras.Model(inputs, outputs, name='connectors')

  def signal(self, teacher: base.Outputs) -> list[tf.Tensor]:
    """Returns the teacher's maps with their floors, `[B, H, W, C]` each."""
    return [
      tf.maximum(
        teacher.features[layer], tf.cast(floor, teacher.features[layer].dtype)
      )
      for layer, floor in zip(self.teacher_layers, self.constants, strict=True)
    ]

  def adapt(self, student: base.Outputs, *, training=False) -> list[tf.Tensor]:
    inputs = {layer: student.features[layer] for layer in self.student_layers}
    adapted = self.adapter(inputs, training=training)
    return [adapted[layer] for layer in self.student_layers]

  def loss(self, adapted, signal, labels) -> tf.Tensor:
    groups = len(signal)
    return tf.add_n(
      [
        losses.partial_squared(ours, theirs) / 2.0 ** (groups - 1 - group)
        for group, (ours, theirs) in enumerate(
          zip(adapted, signal, strict=True)
        )
      ]
    )


def _mean_negative_responses(features, names, images) -> list[np.ndarray]:
  """Returns E[x | x < 0] of each channel, `[C]`, by layer; 0 if it has none."""
  sums, counts = {}, {}
  for first in range(0, len(images), 128):
    found = features(tf.constant(images[first : first + 128]), training=False)
    for name in names:
      x = tf.cast(found[name], tf.float32).numpy()
      below = x < 0
      sums[name] = sums.get(name, 0) + (x * below).sum((0, 1, 2))
      counts[name] = counts.get(name, 0) + below.sum((0, 1, 2))
  return [
    np.float32(sums[name] / np.maximum(counts[name], 1)) for name in names
  ]
