"""From a recipe's method to its loss terms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from ft_tf import definitions, errors, factors, recipes
from ft_tf.data import example_sets
from ft_tf.methods import base
from ft_tf.models import layer_choice


@dataclasses.dataclass(frozen=True)
class Parts:
  """The models and images that loss terms are made from.

  Attributes:
    teacher: The trained teacher.
    student: The student, to be trained.
    paraphrasers: The teacher's paraphrasers, one per layer pair in the order of
      the pairs; empty if the method needs none.
    examples: The training images.
  """

  teacher: keras.Model
  student: keras.Model
  paraphrasers: Sequence[factors.Paraphraser]
  examples: example_sets.AnyExamples


def make(recipe: recipes.Recipe, parts: Parts) -> list[base.Method]:
  """Returns the loss terms of a recipe's method; scratch has none.

  The teacher is frozen.

  Raises:
    UsageError: the parts do not fit each other, or a loss needs labels and the
      recipe has images without.
  """
  parts.teacher.trainable = False
  known = definitions.registered()
  loss_terms: list[base.Method] = []
  for name in recipes.terms(recipe.student.method):
    numbers = known[name].select_numbers(recipe.student)
    loss_terms += known[name].make(numbers, recipe, parts)
  with_labels = [term.name for term in loss_terms if term.reads_labels]
  if recipe.data.unlabeled and with_labels:
    raise errors.UsageError(
      f'--unlabeled: the loss of {", ".join(with_labels)} needs labels; leave '
      'the flag out, or give another --method'
    )
  return loss_terms


def resolve_layer_pairs(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> list[tuple[str, str]]:
  """Returns the names of the teacher and student layers that factors are of.

  Args:
    recipe: Its `teacher_layer` and `student_layer` choose layers.
    teacher: The teacher.
    student: The student.

  Raises:
    UsageError: there is no such layer, or two choices are one pair.
  """
  before = recipe.before_activation
  pairs = [
    (
      layer_choice.resolve_layer(teacher, teacher_layer, before=before),
      layer_choice.resolve_layer(student, student_layer, before=before),
    )
    for teacher_layer, student_layer in recipes.layer_pairs(recipe)
  ]
  if len({*pairs}) != len(pairs):
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer} and '
      f'--student_layer={recipe.student_layer} mean one pair of layers twice: '
      f'{", ".join(map(" and ".join, pairs))}; give each once'
    )
  return pairs
