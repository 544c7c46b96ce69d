"""The floating-point operations of a job's convolutions."""

import dataclasses

import keras
import numpy as np

from ft_tf.benchmark import jobs, workload
from ft_tf.models import taps


def count_convolution_flops(job: jobs.Job) -> dict[str, float]:
  """Counts the floating-point operations of the convolutions per image.

  A multiplication and an addition are two operations. Training costs three
  times the forward pass, because the gradient of the kernels and the gradient
  of the inputs each cost as much as the forward pass. Only the first
  convolution needs no gradient of its input, the image.

  Returns:
    `signal`: teacher and paraphraser's encoder; `student`: forward pass and
    gradients of student and translator; `ft`: the sum of both.
  """
  work = workload.Workload(dataclasses.replace(job, replicas=1))
  height, width, channels = work.feature_shape
  teacher, student = map(_count_by_convolution, (work.teacher, work.student))
  feature = taps.features(work.student, ['group3']).output['group3']
  factor_channels = work.paraphraser.encoder[-1].filters

  def count_chain(first):
    """Counts an encoder's or translator's three 3x3 convolutions."""
    pairs = (
      (first, first),
      (first, factor_channels),
      (factor_channels, factor_channels),
    )
    return sum(2 * 9 * height * width * a * b for a, b in pairs)

  signal = sum(teacher) + count_chain(channels)
  forward = sum(student) + count_chain(feature.shape[-1])
  training = 3 * forward - student[0]
  return {
    'signal': float(signal),
    'student': float(training),
    'ft': float(signal + training),
  }


def _count_by_convolution(model: keras.Model) -> list[int]:
  """Returns the operations of each convolution of the forward pass."""
  return [
    2 * int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
    for layer in model.layers
    if isinstance(layer, keras.layers.Conv2D)
  ]
