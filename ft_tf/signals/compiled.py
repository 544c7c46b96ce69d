"""The teacher signals of a student's loss terms, as one compiled graph."""

import keras

from ft_tf.methods import base
from ft_tf.models import folding, onnx_models, taps
from ft_tf.signals import constant


def compile_signal(
  teacher: keras.Model, methods: list[base.Method], policy: str
) -> constant.ConstantSignal:
  """Returns the frozen signals of some methods, a list, as one graph.

  The teacher runs once for all of them, up to the last layer that one reads.

  Args:
    teacher: From images `[B, H, W, C]`, which the signal takes in the dtype of
      its input; trained.
    methods: The terms of the student's loss.
    policy: Keras's dtype policy that the teacher computes in.
  """
  layers = sorted({layer for m in methods for layer in m.teacher_layers})
  network = folding.fold(
    taps.logits_and_features(teacher, layers),
    compute_dtype(teacher, policy),
  )

  def signals(images):
    outputs = base.Outputs(*network(images, training=False))
    return [method.signal(outputs) for method in methods]

  (image,) = teacher.inputs
  return constant.ConstantSignal(signals, image.shape[1:], image.dtype)


def compute_dtype(teacher: keras.Model, policy: str) -> str:
  """Returns what a teacher's maps are computed in under a dtype policy.

  An ONNX file has its own: images would lose precision on the way to it.
  """
  if onnx_models.holds(teacher):
    return 'float32'
  return keras.DTypePolicy(policy).compute_dtype
