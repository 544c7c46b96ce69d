"""How long a comparison will take: every part run for a few real steps."""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from ft_tf import (
  arms,
  comparison,
  errors,
  recipe_flags,
  recipes,
  run_dir,
  teachers,
)
from ft_tf import workshop as workshops
from ft_tf.data import datasets
from ft_tf.training import precision

_BATCHES = 16  # of each part
_FORWARD = 1 / 3  # of a step
_RATE = 1e-6  # Weights stay about where they are.


def rehearse(
  recipe: recipes.Recipe,
  *,
  devices: tf.distribute.Strategy,
  workshop: workshops.Workshop,
  chosen: list[arms.Arm],
  seeds: int = 1,
  given: teachers.Teacher | None = None,
) -> list[dict[str, Any]]:
  """Returns the plan with the seconds that each of its parts will take.

  Every part is really run, on a few batches and in a folder that goes again.
  Speeds are those of its last steps, the time to compile is added. The signals
  are computed in every step.

  Args:
    recipe: As of `comparison.compare`, like the others.
    devices: Those that are measured.
    workshop: As of `comparison.compare`.
    chosen: The arms.
    seeds: Number of students of each arm.
    given: As of `comparison.compare`.

  Returns:
    `{'part', 'runs', 'images_per_epoch', 'images_per_second', 'seconds'}` for
    teacher, paraphrasers and arms; `seconds` are of all runs of the part.
  """
  recipe = precision.settle(recipe)
  dataset = workshop.open_dataset()
  if given is None:
    given = teachers.resolve(recipe, dataset)
  small = dataset.part(_BATCHES * recipe.data.batch_size)
  # Rates do not change the speed. At a rate of its own a schedule of one epoch
  # may break a network whose full schedule is harmless.
  short: dict[str, Any] = {}
  for stage in ('teacher', 'paraphraser', 'student'):
    short |= {f'{stage}_epochs': 1, f'{stage}_learning_rate': _RATE}
  # A sample may be without a rare class; weights take no time.
  short['class_weights'] = recipes.NONE
  shortened = [
    dataclasses.replace(
      arm,
      changes={k: short.get(k, value) for k, value in arm.changes.items()},
    )
    for arm in chosen
  ]
  print(f'rehearsal: {_BATCHES} steps of every part', file=sys.stderr)
  with tempfile.TemporaryDirectory() as folder:
    run = run_dir.RunDir(folder)
    comparison.compare(
      recipe_flags.override(recipe, short),
      run=run,
      devices=devices,
      workshop=dataclasses.replace(
        workshop,
        open_dataset=lambda: small,
        options=dataclasses.replace(workshop.options, log_steps=5),
        signal_cache='off',
      ),
      chosen=shortened,
      exports=False,
      given=given,
    )
    failures = run.read('comparison.json')['failures']
    if failures:
      name, reason = next(iter(failures.items()))
      raise errors.TrainingError(f'{name} failed in the rehearsal: {reason}')
    return [
      _estimate(part, run.child(part.folder), dataset)
      for part in _parts(recipe, run, chosen, seeds, trains=given is None)
    ]


@dataclasses.dataclass(frozen=True)
class _Part:
  """One kind of run: its name, a folder where it was run, and how much of it.

  Attributes:
    name: What the plan calls it.
    folder: Within the rehearsal's.
    epochs: Of each run.
    runs: How many there will be.
  """

  name: str
  folder: str
  epochs: int
  runs: int


def _parts(
  recipe: recipes.Recipe,
  run: run_dir.RunDir,
  chosen: Sequence[arms.Arm],
  seeds: int,
  *,
  trains: bool,
) -> Iterator[_Part]:
  """Yields teacher (if one is trained), paraphrasers and arms."""
  if trains:
    yield _Part('teacher', 'teacher', recipe.teacher.epochs, 1)
  folder = run.child('paraphrasers').path
  for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
    for layer_run in run.child(f'paraphrasers/{name}').parts():
      where = os.path.relpath(layer_run.path, run.path)
      yield _Part(where, where, recipe.paraphraser.epochs, 1)
  for arm in chosen:
    epochs = recipe_flags.override(recipe, arm.changes).student.epochs
    yield _Part(arm.name, f'runs/{arm.name}-{recipe.seed}', epochs, seeds)


def _estimate(
  part: _Part, run: run_dir.RunDir, dataset: datasets.Dataset
) -> dict[str, Any]:
  """Returns a part's line of the plan, from the rows of its few steps."""
  rows = run.metrics()
  images = len(dataset.train if part.name == 'teacher' else dataset.every)
  speed = rows[-1]['images_per_second']
  # Validation images each epoch and test images at the end pass forward alone.
  passed = part.epochs * len(dataset.validation) + len(dataset.test)
  trained = part.epochs * images + _FORWARD * passed
  seconds = trained / speed + rows[0]['compile_seconds']
  return {
    'part': part.name,
    'runs': part.runs,
    'images_per_epoch': images,
    'images_per_second': speed,
    'seconds': part.runs * seconds,
  }
