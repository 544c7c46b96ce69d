"""Methods against each other: one teacher, many students, trained alike."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from ft_tf import (
  arms,
  errors,
  processes,
  recipe_flags,
  recipes,
  run_dir,
  run_space,
  teachers,
)
from ft_tf import workshop as workshops
from ft_tf.data import datasets
from ft_tf.progress import plan, reporter
from ft_tf.report import comparison as report
from ft_tf.report import comparison_table
from ft_tf.signals import cache
from ft_tf.training import (
  memory,
  paraphraser,
  parts,
  precision,
  space,
  stage,
  teacher,
)


def compare(
  recipe: recipes.Recipe,
  *,
  run: run_dir.RunDir,
  devices: tf.distribute.Strategy,
  workshop: workshops.Workshop,
  chosen: list[arms.Arm],
  seeds: int = 1,
  jobs: int = 1,
  exports: bool = True,
  given: teachers.Teacher | None = None,
) -> dict[str, Any]:
  """Trains what is not there yet, and writes the tables of what is.

  Args:
    recipe: What the arms change. Its teacher is a network to train or a
      `.keras` file.
    run: The folder of it all: `teacher/`, `paraphrasers/`, `runs/<arm>-<seed>/`
      and the tables. More arms and seeds may be asked for later.
    devices: That teacher and paraphrasers are trained on, and with one job the
      students too.
    workshop: What students are trained with.
    chosen: The arms.
    seeds: Number of students of each arm, of the seeds from `recipe.seed` on.
    jobs: Students that are trained at once, each in a process of its own.
    exports: Whether the teacher and the first student of each arm are exported
      and measured, too.
    given: The value of `teachers.resolve` for recipe and images; None: it is
      resolved here.

  Returns:
    The comparison as in `comparison.json`.

  Raises:
    UsageError: something does not fit; nothing has been written.
    TrainingError: the teacher cannot be trained. A paraphraser or a student
      that cannot is reported in the result.
  """
  recipe = precision.settle(recipe)
  dataset = workshop.open_dataset()
  if given is None:
    given = teachers.resolve(recipe, dataset)
  teacher_model = teachers.network(recipe, dataset, given)
  signals = cache.Store(
    workshop.signal_cache, budget_gib=workshop.signal_cache_gib
  )
  tasks = arms.plan(
    recipe,
    dataset,
    teacher_model=teacher_model,
    chosen=chosen,
    seeds=seeds,
    signals=signals,
  )
  if jobs > 1 and workshop.signal_cache == 'memory':
    raise errors.UsageError(
      '--signal_cache=memory is not shared by --jobs: give a folder, or off'
    )
  needed = [
    *run_space.of_teacher(
      recipe, teacher_model, given=given is not None, exports=exports
    ),
    *_space(run, recipe, tasks, exports=exports),
  ]
  of_students = [task.bytes_needed for task in tasks]
  run_space.check(run, needed, of_students, signals)
  if given is None:
    memory.check(recipe, devices, dataset.image_shape, [teacher_model])
  with _claimed(run, recipe, dataset):
    known = run.read(comparison_table.PLAN) or []
    names = [arm.name for arm in chosen if arm.name not in known]
    run.write(comparison_table.PLAN, known + names)
    run.write(comparison_table.METHODS, arms.explain(known + names))
    planned = _plan(
      recipe,
      dataset,
      run,
      tasks,
      given=given is not None,
      exports=exports,
    )
    progress = reporter.Progress(
      planned, mode=workshop.options.progress, estimates=jobs == 1
    )
    progress.announce()
    work = {
      'strategy': devices,
      'options': workshop.options,
      'progress': progress,
    }
    trained_teacher = teacher.obtain_teacher(
      recipe, dataset, run=run.child('teacher'), given=given, **work
    )
    paraphrasers, failures = _paraphrase(
      run, recipe, tasks, dataset, trained_teacher, work
    )
    tasks = [task for task in tasks if task.name not in failures]
    bench = workshops.Bench(
      workshop,
      devices,
      dataset,
      teacher=trained_teacher,
      paraphrasers=[p for each in paraphrasers.values() for p in each],
      progress=progress,
    )
    orders = [
      workshops.Order(
        task=task,
        teacher=trained_teacher.path,
        paraphrasers=[p.path for p in paraphrasers.get(task.name, ())],
        folder=run.child(f'runs/{task.name}').path,
      )
      for task in tasks
    ]
    for task, failure in _train(orders, bench, workshop, jobs, planned):
      if failure:
        failures[task.name] = failure
      report.write(run, failures)
    if exports:
      names = [
        f'runs/{task.name}' for task in tasks if task.recipe.seed == recipe.seed
      ]
      folders = [run.child(name) for name in ('teacher', *names)]
      with progress.part(os.path.join(run.path, 'export'), 'export') as part:
        _export([f for f in folders if f.read('result.json')], workshop, part)
    return report.write(run, failures)


def _space(
  run: run_dir.RunDir,
  recipe: recipes.Recipe,
  tasks: list[arms.Task],
  *,
  exports: bool,
) -> list[Mapping[str, int]]:
  """Returns the bytes of the runs and exports of a comparison's students."""
  shared = {
    _paraphraser_run(run, recipe, task)[1].path: task.bytes_needed.paraphrasers
    for task in tasks
    if task.bytes_needed.paraphrasers
  }
  return [
    *(each for paraphrasers in shared.values() for each in paraphrasers),
    *(
      space.of_training(task.bytes_needed.trained, task.recipe.student)
      for task in tasks
    ),
    *(
      task.bytes_needed.export
      for task in tasks
      if exports and task.recipe.seed == recipe.seed
    ),
  ]


def _paraphrase(
  run: run_dir.RunDir,
  recipe: recipes.Recipe,
  tasks: list[arms.Task],
  dataset: datasets.Dataset,
  trained_teacher: teachers.Teacher,
  work: dict[str, Any],
) -> tuple[
  dict[str, tuple[paraphraser.TrainedParaphraser, ...]], dict[str, str]
]:
  """Trains the paraphrasers that tasks ask for.

  Returns:
    By task's name its paraphrasers, and of those whose paraphraser cannot be
    trained what went wrong.
  """
  by_task: dict[str, tuple[paraphraser.TrainedParaphraser, ...]] = {}
  by_folder: dict[str, tuple[paraphraser.TrainedParaphraser, ...]] = {}
  failures: dict[str, str] = {}
  failed_folders: dict[str, str] = {}
  for task in tasks:
    if not recipes.needs_paraphraser(task.recipe.student.method):
      continue
    of_first_seed, folder = _paraphraser_run(run, recipe, task)
    if folder.path not in {*by_folder, *failed_folders}:
      try:
        by_folder[folder.path] = paraphraser.train_paraphrasers(
          of_first_seed, dataset, teacher=trained_teacher, run=folder, **work
        )
      except errors.TrainingError as error:
        failed_folders[folder.path] = f'its paraphraser: {error}'
        _print(f'{folder.path} failed: {error}')
    if folder.path in failed_folders:
      failures[task.name] = failed_folders[folder.path]
    else:
      by_task[task.name] = by_folder[folder.path]
  return by_task, failures


def _paraphraser_run(
  run: run_dir.RunDir, recipe: recipes.Recipe, task: arms.Task
) -> tuple[recipes.Recipe, run_dir.RunDir]:
  """Returns the recipe and the folder of a task's paraphrasers.

  One paraphraser serves all seeds of the student.
  """
  of_first_seed = recipe_flags.override(task.recipe, {'seed': recipe.seed})
  name = _paraphraser_name(of_first_seed, recipe)
  return of_first_seed, run.child(f'paraphrasers/{name}')


def _plan(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  tasks: list[arms.Task],
  *,
  given: bool,
  exports: bool,
) -> list[plan.Part]:
  """Returns the parts of a comparison, in their order.

  Args:
    recipe: As of `compare`, like the others.
    dataset: The images.
    run: The folder of it all.
    tasks: The students.
    given: Whether the teacher is given.
    exports: As of `compare`.
  """
  teacher_run = run.child('teacher')
  planned = [parts.of_teacher(recipe, dataset, teacher_run, given=given)]
  of_paraphrasers: dict[str, list[plan.Part]] = {}
  for task in tasks:
    if recipes.needs_paraphraser(task.recipe.student.method):
      of_first_seed, folder = _paraphraser_run(run, recipe, task)
      of_paraphrasers[folder.path] = parts.of_paraphrasers(
        of_first_seed, dataset, folder
      )
  for each in of_paraphrasers.values():
    planned += each
  planned += [
    parts.of_student(
      task.recipe, dataset, run.child(f'runs/{task.name}'), label=task.arm
    )
    for task in tasks
  ]
  export = [parts.of_export(os.path.join(run.path, 'export'))] * exports
  return planned + export


def _paraphraser_name(
  arm_recipe: recipes.Recipe, recipe: recipes.Recipe
) -> str:
  """Returns a folder's name: the rate k, and what differs from the recipe."""
  changes = [
    f'{leaf.flag}={leaf.value(arm_recipe)}'
    for leaf in recipe_flags.leaves()
    if leaf.group in ('', 'data', 'paraphraser')
    and leaf.flag not in ('rate', 'student_layer', 'class_weights')
    and leaf.value(arm_recipe) != leaf.value(recipe)
  ]
  return ','.join([f'k{arm_recipe.paraphraser.rate:g}', *changes]).replace(
    '/', '.'
  )


@contextlib.contextmanager
def _claimed(
  run: run_dir.RunDir, recipe: recipes.Recipe, dataset: datasets.Dataset
) -> Iterator[None]:
  """Holds the folder; what may differ from call to call is not part of it."""
  identity = json.loads(json.dumps(recipes.identity(recipe)))
  for name in ('method', 'beta'):
    del identity['student'][name]
  identity |= stage.models_identity(recipe) | stage.images_identity(dataset)
  # Earlier versions did not record it; the folder of each student has it.
  with run.held(identity, addable=['student_sha256']):
    yield


def _train(
  orders: list[workshops.Order],
  bench: workshops.Bench,
  workshop: workshops.Workshop,
  jobs: int,
  planned: list[plan.Part],
) -> Iterator[tuple[arms.Task, str]]:
  """Yields each task when it is over, with what went wrong if it did."""
  if jobs == 1:
    for order in orders:
      yield order.task, bench.train(order)
    return
  died: list[workshops.Order] = []
  for order, outcome in _in_processes(orders, workshop, jobs, planned):
    if isinstance(outcome, processes.Died):
      died.append(order)
      _print(f'{order.task.name}: {outcome}; it is tried again at the end')
    else:
      yield order.task, outcome
  # One at a time: then each has all of the memory.
  for order, outcome in _in_processes(died, workshop, 1, planned):
    if isinstance(outcome, processes.Died):
      fewer = ', with --jobs=1' if outcome.killed else ''
      outcome = f'{outcome}, twice: run the same command again{fewer}'
      _print(f'{order.task.name} failed: {outcome}')
    yield order.task, outcome


def _in_processes(
  orders: list[workshops.Order],
  workshop: workshops.Workshop,
  jobs: int,
  planned: list[plan.Part],
) -> Iterator[tuple[workshops.Order, str | processes.Died]]:
  """Yields each order when its process is through with it, with the outcome."""
  for number, outcome in processes.run_each(
    workshops.train,
    [{'order': order} for order in orders],
    workers=jobs,
    start=workshops.open_bench,
    start_arguments=(workshop, jobs, planned),
  ):
    yield orders[number], outcome


def _export(
  folders: list[run_dir.RunDir],
  workshop: workshops.Workshop,
  part: reporter.Running,
) -> None:
  """Exports networks that are not, in another process: a dead one ends it.

  LiteRT gives up its process over a network whose maps are all zero.
  """
  waiting = [f for f in folders if not f.read('export/export.json')]
  if not waiting:
    return
  part.announce(f'networks: {len(waiting)}')
  shown = 'lines' if part.prints_lines else 'off'
  options = dataclasses.replace(workshop.options, progress=shown)
  for number, outcome in processes.run_each(
    workshops.export,
    [{'path': folder.path} for folder in waiting],
    workers=1,
    start=workshops.open_bench,
    start_arguments=(dataclasses.replace(workshop, options=options), 1),
  ):
    if isinstance(outcome, processes.Died):
      _print(f'{waiting[number].path}: no TFLite file, {outcome}')
    part.status(f'networks: {number + 1} of {len(waiting)} done')


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
