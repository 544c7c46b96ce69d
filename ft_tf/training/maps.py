"""The feature maps of teacher and student side by side, for TensorBoard."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from ft_tf.methods import base
from ft_tf.models import taps
from ft_tf.signals import constant
from ft_tf.training import monitor


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

  @tf.function
  def pair_of_maps(images, seen):
    outputs = base.Outputs(*features(seen, training=False))
    for method, target in zip(methods, signal(images), strict=True):
      adapted = method.adapt(outputs)
      if (
        tf.is_tensor(target)
        and target.shape.rank == 4
        and target.shape[1:].is_compatible_with(adapted.shape[1:])
      ):
        return tf.cast(target, tf.float32), tf.cast(adapted, tf.float32)
    return None

  def mosaic():
    pair = pair_of_maps(tf.constant(images), tf.constant(seen))
    if pair is None:
      return None
    return monitor.mosaic(images, *(each.numpy() for each in pair))

  return mosaic
