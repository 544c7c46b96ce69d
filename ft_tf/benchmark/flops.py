"""The floating-point operations of networks and of a training step."""

import dataclasses

import keras
import numpy as np

from ft_tf.benchmark import jobs, workload
from ft_tf.models import taps

_MULTIPLYING = (
  keras.layers.Conv2D,
  keras.layers.DepthwiseConv2D,
  keras.layers.SeparableConv2D,
  keras.layers.Dense,
)


def count_by_layer(model: keras.Model) -> list[int]:
  """Returns the operations per image of each layer that multiplies.

  These are convolutions, depthwise ones as well, and dense layers, in the order
  of the model. A multiplication and an addition are two operations.
  """
  return [
    _count(layer, layer.output.shape[1:-1])
    for layer in model.layers
    if isinstance(layer, _MULTIPLYING)
  ]


def _count(layer, size):
  """Returns a layer's operations for outputs of a size, such as `(H, W)`."""
  products = sum(
    int(np.prod(weight.shape))
    for weight in layer.weights
    if weight.name.endswith('kernel')
  )
  return 2 * int(np.prod(size)) * products


def count_step(job: jobs.Job) -> dict[str, float]:
  """Counts the floating-point operations of an ft step per image.

  Training costs three times the forward pass, because the gradient of the
  kernels and the gradient of the inputs each cost as much as the forward pass.
  Only the first convolution needs no gradient of its input, the image.

  Returns:
    `signal`: the teacher up to the distilled layer, and the paraphraser's
    encoder; `student`: forward pass and gradients of student and translator;
    `ft`: the sum of both.
  """
  work = workload.Workload(dataclasses.replace(job, replicas=1))
  teacher_layer, _ = work.layers
  sizes = [shape[:2] for shape in work.map_shapes]
  translate = work.translator(work.methods()).translate
  teacher = count_by_layer(taps.features(work.teacher, [teacher_layer]))
  student = count_by_layer(work.student)
  encoder = _count_chain(work.paraphraser.encoder, sizes[0])
  # The student's map is averaged to the teacher's size, if that is smaller.
  translator = _count_chain(translate, np.min(sizes, axis=0))
  signal = sum(teacher) + encoder
  training = 3 * (sum(student) + translator) - student[0]
  return {
    'signal': float(signal),
    'student': float(training),
    'ft': float(signal + training),
  }


def _count_chain(chain, size):
  """Returns the operations of an encoder or translator on maps of a size."""
  return sum(
    _count(layer, size)
    for layer in chain
    if isinstance(layer, keras.layers.Conv2D)
  )
