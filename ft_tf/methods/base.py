"""What every method is: a frozen signal, a trained adapter, a loss."""

import abc
from typing import Any

import keras
import tensorflow as tf


class Method(abc.ABC):
  """One distillation term of the student's loss.

  Attributes:
    name: The name of its loss term in logs.
    weight: What the term is multiplied by in the student's loss.
    student_layers: Names of the student's features that the adapter reads.
    frozen: Models that the signal runs; training must not move them.
    adapter: The model that is trained beside the student and left behind at
      deployment.
  """

  name: str
  weight: float
  student_layers: tuple[str, ...]
  frozen: tuple[keras.Model, ...]
  adapter: keras.Model

  @abc.abstractmethod
  def signal(self, images: tf.Tensor) -> Any:
    """Returns what the teacher says of raw images: a function of them alone.

    A tensor `[B, ...]` or a nest of such. Weights are read as they stand; the
    caller stops the gradient.
    """

  @abc.abstractmethod
  def adapt(self, features: dict[str, tf.Tensor]) -> Any:
    """Returns the student's side of the signal, from its named features."""

  @abc.abstractmethod
  def loss(self, adapted: Any, signal: Any) -> tf.Tensor:
    """Returns the unweighted loss, `[B]` float32."""
