"""A method's name to its terms, with the numbers of a recipe."""

import dataclasses

import keras
import numpy as np

from ft_tf import errors, factors, recipes
from ft_tf.methods import (
  attention_transfer,
  base,
  factor_transfer,
  hints,
  overhaul,
  similarity,
  soft_targets,
)
from ft_tf.models import taps

_IMAGES = 1024  # that statistics of the teacher's features are taken over


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the terms of a method are made of.

  Attributes:
    teacher: Trained.
    student: That is to be trained.
    paraphraser: Of the teacher; None if the method has none.
    images: Training images, `[N, H, W, C]` uint8.
  """

  teacher: keras.Model
  student: keras.Model
  paraphraser: factors.Paraphraser | None
  images: np.ndarray


def make(recipe: recipes.Recipe, parts: Parts) -> list[base.Method]:
  """Returns the terms of a recipe's method; scratch has none.

  Raises:
    UsageError: the parts do not fit each other.
  """
  parts.teacher.trainable = False
  return [
    _MAKERS[name](recipe, parts)
    for name in recipes.terms(recipe.student.method)
  ]


def layers(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> tuple[str, str]:
  """Returns the layers of teacher and student that factors are made of.

  Raises:
    UsageError: there is no such layer.
  """
  before = recipe.before_activation
  return (
    taps.choose(teacher, recipe.teacher_layer, before=before),
    taps.choose(student, recipe.student_layer, before=before),
  )


def paraphrase_rate(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> float:
  """Returns the paraphrase rate that a recipe's method asks for.

  That is the recipe's own, and without a translator the one that leaves as many
  channels as the student has.
  """
  if 'ft_no_translator' not in recipes.terms(recipe.student.method):
    return recipe.paraphraser.rate
  theirs, ours = (
    taps.shape(net, layer)[-1]
    for net, layer in zip(
      (teacher, student), layers(recipe, teacher, student), strict=True
    )
  )
  return ours / theirs


def _factor_transfer(recipe, parts, *, paraphrases=True, translates=True):
  if paraphrases and parts.paraphraser is None:
    raise errors.UsageError(
      f'--method={recipe.student.method} learns from a trained paraphraser: '
      'give --paraphraser, the model.keras that bin/train_paraphraser.py left'
    )
  its = recipe.student
  theirs, ours = layers(recipe, parts.teacher, parts.student)
  batch_norm = 'synchronized' if recipe.sync_batch_norm else 'own'
  automatic = its.beta == recipes.AUTO  # settled by the stage, which measures
  return factor_transfer.FactorTransfer(
    teacher=parts.teacher,
    paraphraser=parts.paraphraser if paraphrases else None,
    student=parts.student,
    beta=1.0 if automatic else its.beta,
    p=its.p,
    beta_elements=0 if automatic else its.beta_elements,
    normalized=its.normalized,
    teacher_layer=theirs,
    student_layer=ours,
    translates=translates,
    batch_norm=batch_norm if its.translator_batch_norm else '',
    precision=recipe.precision,
  )


_MAKERS = {
  'ft': _factor_transfer,
  'ft_no_paraphraser': lambda recipe, parts: _factor_transfer(
    recipe, parts, paraphrases=False
  ),
  'ft_no_translator': lambda recipe, parts: _factor_transfer(
    recipe, parts, translates=False
  ),
  'kd': lambda recipe, parts: soft_targets.SoftTargets(
    alpha=recipe.student.kd_alpha, temperature=recipe.student.temperature
  ),
  'dkd': lambda recipe, parts: soft_targets.DecoupledSoftTargets(
    alpha=recipe.student.dkd_alpha,
    beta=recipe.student.dkd_beta,
    temperature=recipe.student.temperature,
  ),
  'at': lambda recipe, parts: attention_transfer.AttentionTransfer(
    teacher=parts.teacher, student=parts.student, beta=recipe.student.at_beta
  ),
  'fitnet': lambda recipe, parts: hints.Hints(
    teacher=parts.teacher,
    student=parts.student,
    weight=recipe.student.fitnet_weight,
    sync_batch_norm=recipe.sync_batch_norm,
    precision=recipe.precision,
  ),
  'sp': lambda recipe, parts: similarity.Similarity(
    teacher=parts.teacher, student=parts.student, gamma=recipe.student.sp_gamma
  ),
  'ofd': lambda recipe, parts: overhaul.Overhaul(
    teacher=parts.teacher,
    student=parts.student,
    images=parts.images[:_IMAGES],
    weight=recipe.student.ofd_weight,
    sync_batch_norm=recipe.sync_batch_norm,
    precision=recipe.precision,
  ),
}
