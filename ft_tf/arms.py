"""What a comparison trains: its arms, and a student of each at every seed."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import keras

from ft_tf import (
  catalogue,
  definitions,
  errors,
  recipe_fit,
  recipe_flags,
  recipes,
  run_space,
  specs,
)
from ft_tf.data import datasets
from ft_tf.signals import cache

# What comparisons have flags of their own for: --seeds, --methods.
_OWN_FLAG = ('seed', 'method')


@dataclasses.dataclass(frozen=True)
class Arm:
  """One way to train the student, over all seeds.

  Attributes:
    name: What the tables call it.
    changes: Flags over the recipe.
  """

  name: str
  changes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
  """One student: an arm at a seed.

  Attributes:
    name: Its folder under `runs/`.
    arm: The arm's name.
    recipe: With the arm's changes and the seed.
    bytes_needed: What it takes of the disks.
  """

  name: str
  arm: str
  recipe: recipes.Recipe
  bytes_needed: run_space.OfStudent


def make(methods: Iterable[str], sweep: dict[str, list[Any]]) -> list[Arm]:
  """Returns every method at every point of a sweep.

  Args:
    methods: Names as of `recipes.terms`, or of `catalogue.VARIANTS`.
    sweep: Flag name to its values. A method that a flag does not concern
      is there once.

  Raises:
    UsageError: there is no such method, one stands twice, or the sweep is of
      what all students share.
  """
  for leaf in recipe_flags.leaves():
    if leaf.flag not in sweep:
      continue
    if leaf.flag in _OWN_FLAG:
      raise errors.UsageError(f'--sweep={leaf.path}: give --{leaf.flag}s')
    metadata = leaf.field.metadata
    shared = metadata['stored'] or metadata['shared']
    if leaf.group == 'teacher' or shared:
      raise errors.UsageError(
        f'--sweep={leaf.path}: all students of a comparison share it; give '
        f'--{leaf.flag} and a --workdir for each value'
      )
  arms = []
  for method in methods:
    changes = catalogue.VARIANTS.get(method) or {'method': method}
    if method == recipes.LINEAR_HEAD:
      changes = catalogue.linear_head()
    recipes.terms(changes['method'])
    concerned = {
      flag: values
      for flag, values in sweep.items()
      if _concerns(flag, changes['method'])
    }
    for values in itertools.product(*concerned.values()):
      point = dict(zip(concerned, values, strict=True))
      name = ','.join([method, *(f'{k}={v}' for k, v in point.items())])
      arms.append(Arm(name, {**changes, **point}))
  names = [arm.name for arm in arms]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice:
    raise errors.UsageError(
      f'--methods has {", ".join(twice)} twice: give each once'
    )
  return arms


def explain(names: Iterable[str]) -> dict[str, str]:
  """Returns the methods in names of arms, each with what it is and its source.

  Args:
    names: Names of arms. A sum such as ft+kd gives its terms; the values of a
      sweep give nothing.
  """
  known = definitions.registered()
  about = {}
  for name in names:
    method = name.split(',')[0]
    if method == recipes.SCRATCH:
      about[method] = 'baseline: the student trained without a teacher'
    elif method == recipes.LINEAR_HEAD:
      about[method] = (
        'the last layer alone, trained without a teacher on the features of '
        'the pretrained student, whose other weights are frozen'
      )
    elif method in catalogue.VARIANTS:
      about[method] = (
        'factor transfer with the settings of '
        f'{catalogue.VARIANT_SOURCES[method]}'
      )
    elif method in recipes.INCUMBENTS:
      loss = 'its default loss'
      if method == recipes.KERAS_DISTILLER_KL:
        loss = 'the Kullback-Leibler divergence of softened probabilities'
      about[method] = f"Keras's own Distiller, with {loss} (keras.distillation)"
    else:
      about |= {term: known[term].about for term in recipes.terms(method)}
  return {name: text for name, text in about.items() if text}


def _concerns(flag: str, method: str) -> bool:
  """Tells whether a flag can change what a method trains."""
  (leaf,) = [leaf for leaf in recipe_flags.leaves() if leaf.flag == flag]
  if method == recipes.LINEAR_HEAD and flag in catalogue.linear_head():
    return False
  return leaf.concerns(method)


def plan(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  teacher_model: keras.Model,
  chosen: list[Arm],
  seeds: int,
  signals: cache.Store | None = None,
) -> list[Task]:
  """Returns the students to train, all arms of a seed before the next seed.

  Args:
    recipe: What the arms change, its precision settled.
    dataset: The images.
    teacher_model: The value of `teachers.network`.
    chosen: The arms.
    seeds: Number of students of each arm, of the seeds from `recipe.seed` on.
    signals: Where the teacher's signals will be kept, if they are.

  Raises:
    UsageError: a part does not fit; nothing has been written.
  """
  students = {}  # Arms differ in the method; few have another network.
  checked = []
  for arm in chosen:
    arm_recipe = recipe_flags.override(recipe, arm.changes)
    network = (
      arm_recipe.student.model,
      arm_recipe.student.student_weights,
      arm_recipe.student.backbone_rate,
      arm_recipe.new_head,
      arm_recipe.student.student_image_size,
      arm_recipe.data.mean,
      arm_recipe.data.std,
      arm_recipe.sync_batch_norm,
      arm_recipe.precision,
    )
    if network not in students:
      students[network] = specs.build_student(arm_recipe, dataset)
    fit = recipe_fit.check_parts(
      arm_recipe, dataset, teacher_model, students[network]
    )
    needed = run_space.of_student(
      fit, dataset, teacher_model, students[network], signals
    )
    checked.append((fit.recipe, needed))
  return [
    Task(
      f'{arm.name}-{seed}',
      arm.name,
      recipe_flags.override(arm_recipe, {'seed': seed}),
      needed,
    )
    for seed in range(recipe.seed, recipe.seed + seeds)
    for arm, (arm_recipe, needed) in zip(chosen, checked, strict=True)
  ]
