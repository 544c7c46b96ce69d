"""What every method is: a frozen signal, a trained adapter, a loss."""

import abc
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Outputs(NamedTuple):
  """What a network says of images.

  Attributes:
    logits: `[B, classes]`, float32.
    features: Layer name to feature map `[B, H, W, C]`.
  """

  logits: tf.Tensor
  features: dict[str, tf.Tensor]


class Method(abc.ABC):
  """One distillation term of the student's loss.

  Attributes:
    name: The name of its loss term in logs.
    weight: What the term is multiplied by in the student's loss.
    labels_weight: What the labels' cross entropy is multiplied by beside it.
    reads_labels: Whether the loss needs labels, so that images without cannot
      be learned from.
    match: How maps of teacher and student come together, in words; '': nothing
      worth a line.
    teacher_layers: Names of the teacher's features that the signal reads.
    student_layers: Names of the student's features that the adapter reads.
    frozen: Models that the signal runs on the teacher's outputs.
    constants: Arrays that the signal computes with beside these.
    says: What the signal is, as JSON can write it: with the teacher, the models
      of `frozen` and the images it decides every value.
    adapter: The model that is trained beside the student and left behind at
      deployment, if there is one.
  """

  name: str
  weight: float
  labels_weight: float = 1.0
  reads_labels: bool = False
  match: str = ''
  teacher_layers: tuple[str, ...] = ()
  student_layers: tuple[str, ...] = ()
  frozen: tuple[keras.Model, ...] = ()
  constants: tuple[np.ndarray, ...] = ()
  says: dict[str, Any]
  adapter: keras.Model | None = None

  @abc.abstractmethod
  def signal(self, teacher: Outputs) -> Any:
    """Returns what the student is to learn from the teacher's outputs.

    A tensor `[B, ...]` or a nest of such. Weights are read as they stand; the
    caller stops the gradient.
    """

  @abc.abstractmethod
  def adapt(self, student: Outputs, *, training: bool = False) -> Any:
    """Returns the student's side of the signal."""

  @abc.abstractmethod
  def loss(self, adapted: Any, signal: Any, labels: tf.Tensor) -> tf.Tensor:
    """Returns the unweighted loss, `[B]` float32; labels are `[B]` integers."""
