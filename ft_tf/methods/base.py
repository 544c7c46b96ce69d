"""The interface of a loss term: teacher signal, student adapter, loss."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Outputs(NamedTuple):
  """The outputs of a network for a batch of images.

  Attributes:
    logits: `[B, classes]`, float32.
    features: Layer name to feature map `[B, H, W, C]`.
  """

  logits: tf.Tensor
  features: dict[str, tf.Tensor]


class Method(abc.ABC):
  """One distillation term of the student's loss.

  Attributes:
    name: The name of the loss term in logs.
    weight: The factor of the term in the student's loss.
    labels_weight: The factor that the term puts on the cross entropy with the
      labels.
    reads_labels: Whether the loss needs labels; then images without labels
      cannot be used, and of a mixed image the loss is computed for both labels.
    summary: One line about the layers and how their sizes are matched, printed
      before training; '' prints nothing.
    teacher_layers: Names of the teacher's features that the signal reads.
    student_layers: Names of the student's features that the adapter reads.
    frozen: Models that the signal runs on the teacher's outputs.
    constants: Arrays that the signal is computed with, besides the teacher and
      `frozen`.
    signal_key: What the signal is, in JSON types. Signals with equal keys,
      teachers, `frozen` and `constants` are equal for the same images.
    adapter: The model that is trained together with the student and not
      deployed; None: there is none.
  """

  name: str
  weight: float
  labels_weight: float = 1.0
  reads_labels: bool = False
  summary: str = ''
  teacher_layers: tuple[str, ...] = ()
  student_layers: tuple[str, ...] = ()
  frozen: tuple[keras.Model, ...] = ()
  constants: tuple[np.ndarray, ...] = ()
  signal_key: dict[str, Any]
  adapter: keras.Model | None = None

  @abc.abstractmethod
  def signal(self, teacher: Outputs) -> Any:
    """Returns what the student learns from the teacher's outputs.

    A tensor `[B, ...]` or a nest of such tensors. Weights are read at the time
    of the call; the caller stops the gradient.
    """

  @abc.abstractmethod
  def adapt(self, student: Outputs, *, training: bool = False) -> Any:
    """Returns the student's counterpart of the signal."""

  @abc.abstractmethod
  def loss(self, adapted: Any, signal: Any, labels: tf.Tensor) -> tf.Tensor:
    """Returns the unweighted loss, `[B]` float32; labels are `[B]` integers."""
