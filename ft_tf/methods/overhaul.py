"""The overhaul of feature distillation (Heo et al. 2019): ofd."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from ft_tf import definitions, fields, losses, recipes
from ft_tf.data import sampling
from ft_tf.methods import base, registry
from ft_tf.models import blocks, feature_maps, layer_choice, layers, taps

_IMAGES = 1024  # training images that mean negative responses are taken over


@dataclasses.dataclass(frozen=True)
class Numbers:
  """The numbers of ofd."""

  # Heo et al. 2019, the authors' CIFAR-100 code.
  ofd_weight: float = fields.field(
    'weight of the feature-overhaul loss (ofd)',
    least=0,
    most=10**9,
    default=1e-3,
  )


class Overhaul(base.Method):
  """The student learns the teacher's feature maps from before the activation.

  Signal: the maps before the ReLU that ends each group, through a ReLU whose
  floor is the mean negative response of the channel (equations 1 and 2 of the
  paper). Adapter: a 1x1 convolution and batch norm for each map. Loss: the
  partial squared distance (equation 4), summed over elements and halved from
  each group to the one before it (authors' code).
  """

  name = 'ofd'
  adapter: keras.Model

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
    """Measures the floors and builds the adapter.

    Args:
      teacher: The teacher, trained.
      student: The student.
      images: Training images `[N, H, W, C]` uint8, over which the mean negative
        responses are taken. The authors' code computes them from the statistics
        of batch norm, which not every network has before its activations.
      weight: Weight of the loss.
      sync_batch_norm: Whether the adapter's batch norm takes statistics over
        all replicas.
      precision: Keras's dtype policy that the adapter computes in.

    Raises:
      UsageError: no feature maps of the two have the same size.
    """
    self.weight = weight
    teacher_layers, student_layers = layer_choice.pair_by_size(teacher, student)
    self.teacher_layers = tuple(
      blocks.before_activation(teacher, layer) for layer in teacher_layers
    )
    self.student_layers = tuple(
      blocks.before_activation(student, layer) for layer in student_layers
    )
    self.signal_key = {
      'signal': 'feature above its floor',
      'layers': self.teacher_layers,
      'images': len(images),
    }
    self.constants = tuple(
      _mean_negative_responses(
        taps.features(teacher, self.teacher_layers), self.teacher_layers, images
      )
    )
    self.adapter = _connectors(
      {
        layer: feature_maps.shape(student, layer)
        for layer in self.student_layers
      },
      [feature_maps.shape(teacher, layer)[-1] for layer in self.teacher_layers],
      sync_batch_norm=sync_batch_norm,
      precision=precision,
    )

  def signal(self, teacher: base.Outputs) -> list[tf.Tensor]:
    """Returns the teacher's maps, not below the floor, `[B, H, W, C]` each."""
    return [
      tf.maximum(
        teacher.features[layer], tf.cast(floor, teacher.features[layer].dtype)
      )
      for layer, floor in zip(self.teacher_layers, self.constants, strict=True)
    ]

  def adapt(
    self, student: base.Outputs, *, training: bool = False
  ) -> list[tf.Tensor]:
    """Returns the student's maps, adapted, `[B, H, W, C]` each."""
    inputs = {layer: student.features[layer] for layer in self.student_layers}
    adapted = self.adapter(inputs, training=training)
    return [adapted[layer] for layer in self.student_layers]

  def loss(
    self, adapted: list[tf.Tensor], signal: list[tf.Tensor], labels: tf.Tensor
  ) -> tf.Tensor:
    last = len(signal) - 1
    return tf.add_n(
      [
        losses.partial_squared(student_map, teacher_map) / 2.0 ** (last - group)
        for group, (student_map, teacher_map) in enumerate(
          zip(adapted, signal, strict=True)
        )
      ]
    )


def _connectors(
  shapes: Mapping[str, tuple[int, int, int]],
  channels: Sequence[int],
  *,
  sync_batch_norm: bool,
  precision: str,
) -> keras.Model:
  """Returns a model of 1x1 convolutions with batch norm, one for each map.

  Args:
    shapes: Student layer to the shape `(H, W, C)` of its map.
    channels: The teacher's channels for each layer, in the same order.
    sync_batch_norm: As in `Overhaul`.
    precision: As in `Overhaul`.
  """
  inputs, outputs = {}, {}
  for (layer, shape), teacher_channels in zip(
    shapes.items(), channels, strict=True
  ):
    inputs[layer] = keras.Input(shape, dtype='float32', name=layer)
    x = keras.layers.Conv2D(
      teacher_channels,
      1,
      use_bias=False,
      kernel_initializer=layers.uniform_fan_in(),
      dtype=precision,
      name=f'{layer}_connect',
    )(inputs[layer])
    outputs[layer] = keras.layers.BatchNormalization(
      momentum=0.9,
      epsilon=1e-5,
      synchronized=sync_batch_norm,
      dtype=precision,
      name=f'{layer}_connect_bn',
    )(x)
  return keras.Model(inputs, outputs, name='connectors')


def _mean_negative_responses(
  features: keras.Model, names: Sequence[str], images: np.ndarray
) -> list[np.ndarray]:
  """Returns E[x | x < 0] of each channel, `[C]` for each layer.

  It is 0 for a channel without negative values.
  """
  sums: dict[str, np.ndarray] = {}
  counts: dict[str, np.ndarray] = {}
  for first in range(0, len(images), 128):
    maps = features(tf.constant(images[first : first + 128]), training=False)
    for name in names:
      x = tf.cast(maps[name], tf.float32).numpy()
      below = x < 0
      sums[name] = sums.get(name, 0) + (x * below).sum((0, 1, 2))
      counts[name] = counts.get(name, 0) + below.sum((0, 1, 2))
  means = [sums[name] / np.maximum(counts[name], 1) for name in names]
  return [mean.astype(np.float32) for mean in means]


def _make(
  numbers: Numbers, recipe: recipes.Recipe, parts: registry.Parts
) -> list[base.Method]:
  return [
    Overhaul(
      teacher=parts.teacher,
      student=parts.student,
      images=sampling.sample(parts.examples, _IMAGES).images[:],
      weight=numbers.ofd_weight,
      sync_batch_norm=recipe.sync_batch_norm,
      precision=recipe.precision,
    )
  ]


definitions.register(
  definitions.Definition(
    name='ofd',
    make=_make,
    numbers=Numbers,
    about=(
      "overhaul of feature distillation: the student learns the teacher's "
      'feature maps from before the activation (Heo et al., ICCV 2019)'
    ),
  )
)
