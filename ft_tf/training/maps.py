"""The feature maps of teacher and student side by side, for TensorBoard."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ft_tf.methods import base, factor_transfer
from ft_tf.models import taps
from ft_tf.signals import constant
from ft_tf.training import mosaic


def compare(
  student: keras.Model,
  signal: constant.ConstantSignal | None,
  methods: list[base.Method],
  images: np.ndarray,
  seen: np.ndarray,
) -> Callable[[], np.ndarray | None]:
  """Returns a function to a mosaic of images and both networks' maps.

  Args:
    student: The student.
    signal: The teacher's, of all terms; None without terms.
    methods: The terms of the loss. The first whose signal is a map like the
      student's is shown; without one there is no mosaic.
    images: `[N, H, W, C]` uint8, as the teacher sees them.
    seen: The same, as the student sees them.
  """
  if signal is None:
    return lambda: None
  features = taps.logits_and_features(
    student, sorted({layer for m in methods for layer in m.student_layers})
  )

  @tf.function(autograph=False)
  def pair_of_maps(images, seen):
    outputs = base.Outputs(*features(seen, training=False))
    for number, target in enumerate(signal(images)):
      adapted = methods[number].adapt(outputs)
      if (
        tf.is_tensor(target)
        and target.shape.rank == 4
        and target.shape[1:].is_compatible_with(adapted.shape[1:])
      ):
        pair = tf.cast(target, tf.float32), tf.cast(adapted, tf.float32)
        return number, *pair
    return None

  def draw():
    shown = pair_of_maps(tf.constant(images), tf.constant(seen))
    if shown is None:
      return None
    number, *pair = (each.numpy() for each in shown)
    is_factor = isinstance(methods[number], factor_transfer.FactorTransfer)
    kind = 'factor' if is_factor else 'map'
    names = f'teacher {kind}', f'student {kind}'
    return mosaic.draw(images, *pair, names=names)

  return draw
