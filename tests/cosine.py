"""A distillation method that stands outside of ft_tf, as a user may add one."""

import contextlib
import dataclasses
from collections.abc import Iterator

import keras

from ft_tf import definitions, fields
from ft_tf.methods import base


@dataclasses.dataclass(frozen=True)
class Numbers:
  cosine_weight: float = fields.field(
    'weight of the cosine loss (cosine)', least=0, default=2.0
  )


class Cosine(base.Method):
  """The student's logits point into the direction of the teacher's."""

  name = 'cosine'

  def __init__(self, weight: float):
    self.weight = weight
    self.signal_key = {'signal': 'logits'}

  def signal(self, teacher):
    return teacher.logits

  def adapt(self, student, *, training=False):
    return student.logits

  def loss(self, adapted, signal, labels):
    return 1 + keras.losses.cosine_similarity(signal, adapted)


def _make(numbers, recipe, parts):
  del recipe, parts
  return [Cosine(numbers.cosine_weight)]


DEFINITION = definitions.Definition(name='cosine', make=_make, numbers=Numbers)


@contextlib.contextmanager
def registered() -> Iterator[None]:
  """Registers the method for a while."""
  definitions.register(DEFINITION)
  try:
    yield
  finally:
    definitions.unregister('cosine')
