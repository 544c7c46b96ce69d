"""What a recipe comes to with its images, networks and limits, untrained.

Nothing is written here: whatever does not fit is refused before that.
"""

import dataclasses
import json
from typing import Any

import keras
import numpy as np

from ft_tf import errors, factors, recipe_flags, recipes, run_dir, specs
from ft_tf.data import datasets, example_sets, sampling
from ft_tf.export import budget, device_limits
from ft_tf.methods import base, factor_transfer, registry
from ft_tf.models import feature_maps
from ft_tf.training import (
  class_weights,
  cluster,
  linear_head,
  quantisation_aware,
)


@dataclasses.dataclass(frozen=True)
class Fit:
  """A recipe whose parts fit each other.

  Attributes:
    recipe: With the paraphrase rate that its method asks for.
    loss_terms: Those of its method; paraphrasers and adapters are untrained.
  """

  recipe: recipes.Recipe
  loss_terms: list[base.Method]


def within(
  limits: device_limits.Limits | None,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
) -> tuple[recipes.Recipe, dict[str, Any] | None]:
  """Returns the recipe with the student that limits leave, and its choice.

  Args:
    limits: What the student's files may take; None: anything.
    recipe: Whose student names the family.
    dataset: The images.
    run: Where an earlier choice may lie, which stands.

  Returns:
    The recipe, and what `budget.settle` returns; None without limits.

  Raises:
    UsageError: as of `budget.settle`, or there are weights for the student.
  """
  if limits is None:
    return recipe, None
  if recipe.student.student_weights:
    raise errors.UsageError(
      f'--student_weights={recipe.student.student_weights} are of '
      f'--student={recipe.student.model} alone: leave them out where '
      '--max_bytes, --max_latency_ms or --max_ram choose the student'
    )
  seen = specs.student_dataset(recipe, dataset)
  choice = budget.settle(
    recipe.student.model,
    specs.spec(recipe, seen),
    sampling.sample(seen.train, budget.CALIBRATION).images[:],
    limits,
    label_names=seen.label_names,
    known=run.read(run_dir.CANDIDATES),
  )
  # Latencies are measured, and no two machines measure the same.
  choice = json.loads(cluster.from_chief(json.dumps(choice).encode()))
  return recipe_flags.override(recipe, {'student': choice['student']}), choice


def check_parts(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  teacher_model: keras.Model,
  student_model: keras.Model | None = None,
) -> Fit:
  """Makes the loss terms of a recipe, untrained, to see that its parts fit.

  Args:
    recipe: What to run, its precision settled.
    dataset: The images.
    teacher_model: The value of `teachers.network`.
    student_model: The value of `specs.build_student` if it is there already.

  Raises:
    UsageError: a part does not fit. Nothing has been written.
  """
  if student_model is None:
    student_model = specs.build_student(recipe, dataset)
  models = teacher_model, student_model
  rate = factor_transfer.paraphrase_rate(recipe, *models)
  recipe = recipe_flags.override(recipe, {'rate': rate})
  blank = []
  if recipes.needs_paraphraser(recipe.student.method):
    for tap, _ in registry.resolve_layer_pairs(recipe, *models):
      blank.append(
        factors.Paraphraser(recipe.paraphraser.rate, form=recipe.factor_form)
      )
      blank[-1].build((None, *feature_maps.shape(teacher_model, tap)))
  parts = registry.Parts(
    teacher=teacher_model,
    student=student_model,
    paraphrasers=blank,
    examples=example_sets.Examples(
      np.zeros((1, *dataset.image_shape), np.uint8), np.zeros(1, np.int64)
    ),
  )
  loss_terms = registry.make(recipe, parts)
  if recipe.student.method == recipes.LINEAR_HEAD:
    linear_head.check(recipe, student_model)
  quantisation_aware.check(recipe, student_model)
  class_weights.of(recipe, dataset)
  return Fit(recipe, loss_terms)
