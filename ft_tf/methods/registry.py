"""A method's name to its terms, with the numbers of a recipe."""

import dataclasses
from collections.abc import Sequence

import keras

from ft_tf import errors, factors, recipes
from ft_tf.data import example_sets, sampling
from ft_tf.methods import (
  attention_transfer,
  base,
  factor_transfer,
  hints,
  overhaul,
  similarity,
  soft_targets,
)
from ft_tf.models import feature_maps, layer_choice

_IMAGES = 1024  # that statistics of the teacher's features are taken over


@dataclasses.dataclass(frozen=True)
class Parts:
  """What the terms of a method are made of.

  Attributes:
    teacher: Trained.
    student: That is to be trained.
    paraphrasers: Of the teacher, one for each pair of layers in their order;
      none if the method has none.
    examples: The training images.
  """

  teacher: keras.Model
  student: keras.Model
  paraphrasers: Sequence[factors.Paraphraser]
  examples: example_sets.AnyExamples


def make(recipe: recipes.Recipe, parts: Parts) -> list[base.Method]:
  """Returns the terms of a recipe's method; scratch has none.

  Raises:
    UsageError: the parts do not fit each other.
  """
  parts.teacher.trainable = False
  made = [
    term
    for name in recipes.terms(recipe.student.method)
    for term in _MAKERS[name](recipe, parts)
  ]
  reading = [term.name for term in made if term.reads_labels]
  if recipe.data.unlabeled and reading:
    raise errors.UsageError(
      f'--unlabeled: {", ".join(reading)} learns from labels; leave it out, or '
      'give another --method'
    )
  return made


def layers(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> list[tuple[str, str]]:
  """Returns the pairs of layers, of teacher and student, that factors are of.

  Raises:
    UsageError: there is no such layer, or one pair is meant twice.
  """
  before = recipe.before_activation
  found = [
    (
      layer_choice.resolve_layer(teacher, theirs, before=before),
      layer_choice.resolve_layer(student, ours, before=before),
    )
    for theirs, ours in recipes.taps(recipe)
  ]
  if len({*found}) != len(found):
    raise errors.UsageError(
      f'--teacher_layer={recipe.teacher_layer} and '
      f'--student_layer={recipe.student_layer} mean one pair of layers twice: '
      f'{", ".join(map(" and ".join, found))}; give each once'
    )
  return found


def paraphrase_rate(
  recipe: recipes.Recipe, teacher: keras.Model, student: keras.Model
) -> float:
  """Returns the paraphrase rate that a recipe's method asks for.

  That is the recipe's own, and without a translator the one that leaves as many
  channels as the student has.

  Raises:
    UsageError: several pairs of layers ask for different ones.
  """
  if 'ft_no_translator' not in recipes.terms(recipe.student.method):
    return recipe.paraphraser.rate
  rates = {
    feature_maps.shape(student, ours)[-1]
    / feature_maps.shape(teacher, theirs)[-1]
    for theirs, ours in layers(recipe, teacher, student)
  }
  if len(rates) > 1:
    raise errors.UsageError(
      f'--method={recipe.student.method} has one paraphrase rate, the layers '
      f'ask for {", ".join(f"{rate:g}" for rate in sorted(rates))}: give one '
      'pair of layers, or --method=ft'
    )
  return rates.pop()


def _factor_transfer(recipe, parts, *, paraphrases=True, translates=True):
  its = recipe.student
  pairs = layers(recipe, parts.teacher, parts.student)
  if paraphrases and len(parts.paraphrasers) != len(pairs):
    raise errors.UsageError(
      f'--method={recipe.student.method} learns from a trained paraphraser for '
      f'each of {len(pairs)} layers, and has {len(parts.paraphrasers)}: give '
      '--paraphraser, what bin/train_paraphraser.py left as model.keras'
    )
  batch_norm = 'synchronized' if recipe.sync_batch_norm else 'own'
  automatic = its.beta == recipes.AUTO  # settled by the stage, which measures
  return [
    factor_transfer.FactorTransfer(
      teacher=parts.teacher,
      paraphraser=parts.paraphrasers[number] if paraphrases else None,
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
      number=number + 1 if len(pairs) > 1 else 0,
    )
    for number, (theirs, ours) in enumerate(pairs)
  ]


_MAKERS = {
  'ft': _factor_transfer,
  'ft_no_paraphraser': lambda recipe, parts: _factor_transfer(
    recipe, parts, paraphrases=False
  ),
  'ft_no_translator': lambda recipe, parts: _factor_transfer(
    recipe, parts, translates=False
  ),
  'kd': lambda recipe, parts: [
    soft_targets.SoftTargets(
      alpha=recipe.student.kd_alpha, temperature=recipe.student.temperature
    )
  ],
  'dkd': lambda recipe, parts: [
    soft_targets.DecoupledSoftTargets(
      alpha=recipe.student.dkd_alpha,
      beta=recipe.student.dkd_beta,
      temperature=recipe.student.temperature,
    )
  ],
  'at': lambda recipe, parts: [
    attention_transfer.AttentionTransfer(
      teacher=parts.teacher, student=parts.student, beta=recipe.student.at_beta
    )
  ],
  'fitnet': lambda recipe, parts: [
    hints.Hints(
      teacher=parts.teacher,
      student=parts.student,
      weight=recipe.student.fitnet_weight,
      sync_batch_norm=recipe.sync_batch_norm,
      precision=recipe.precision,
    )
  ],
  'sp': lambda recipe, parts: [
    similarity.Similarity(
      teacher=parts.teacher,
      student=parts.student,
      gamma=recipe.student.sp_gamma,
    )
  ],
  'ofd': lambda recipe, parts: [
    overhaul.Overhaul(
      teacher=parts.teacher,
      student=parts.student,
      images=sampling.sample(parts.examples, _IMAGES).images[:],
      weight=recipe.student.ofd_weight,
      sync_batch_norm=recipe.sync_batch_norm,
      precision=recipe.precision,
    )
  ],
}
