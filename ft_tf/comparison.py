"""Methods against each other: one teacher, many students, trained alike."""

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from ft_tf import (
  arms,
  compression,
  errors,
  knowledge,
  processes,
  recipes,
  run_dir,
)
from ft_tf.data import datasets
from ft_tf.models import zoo
from ft_tf.report import comparison as report
from ft_tf.signals import cache
from ft_tf.training import (
  common,
  loop,
  paraphraser,
  precision,
  strategy,
  student,
  teacher,
)

_REHEARSED = 16  # batches


@dataclasses.dataclass(frozen=True)
class Workshop:
  """What students are trained with; it can be sent to another process.

  Attributes:
    open_dataset: Returns the images.
    options: Intervals.
    num_replicas: As of `strategy.make`.
    signal_cache: Where the teacher's signals are kept, as of `cache.Store`.
    signal_cache_gib: What they may take.
    allow_unsafe_model: Whether models may run code, as of `zoo.allow_unsafe`.
  """

  open_dataset: Callable[[], datasets.Dataset]
  options: loop.Options
  num_replicas: int = 0
  signal_cache: str = 'off'
  signal_cache_gib: float = 8.0
  allow_unsafe_model: bool = False


def compare(
  recipe: recipes.Recipe,
  *,
  run: run_dir.RunDir,
  devices: tf.distribute.Strategy,
  workshop: Workshop,
  chosen: list[arms.Arm],
  seeds: int = 1,
  jobs: int = 1,
  exports: bool = True,
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

  Returns:
    The comparison as in `comparison.json`.

  Raises:
    UsageError: something does not fit; nothing has been written.
    TrainingError: the teacher cannot be trained. A paraphraser or a student
      that cannot is reported in the result.
  """
  recipe = precision.settle(recipe)
  dataset = workshop.open_dataset()
  tasks = arms.plan(recipe, dataset, chosen=chosen, seeds=seeds)
  if jobs > 1 and workshop.signal_cache == 'memory':
    raise errors.UsageError(
      '--signal_cache=memory is not shared by --jobs: give a folder, or off'
    )
  with _claimed(run, recipe, dataset):
    known = run.read(report.PLAN) or []
    names = [arm.name for arm in chosen if arm.name not in known]
    run.write(report.PLAN, known + names)
    work = {'strategy': devices, 'options': workshop.options}
    teacher_run = run.child('teacher')
    teacher.obtain_teacher(recipe, dataset, run=teacher_run, **work)
    paraphrasers, failures = _paraphrase(
      run, recipe, tasks, dataset, teacher_run.model, work
    )
    tasks = [task for task in tasks if task.name not in failures]
    for task, failure in _train(
      run, tasks, paraphrasers, workshop, devices, dataset, jobs
    ):
      if failure:
        failures[task.name] = failure
      report.write(run, failures)
    if exports:
      names = [
        f'runs/{task.name}' for task in tasks if task.recipe.seed == recipe.seed
      ]
      folders = [run.child(name) for name in ('teacher', *names)]
      _export([f for f in folders if f.read('result.json')], workshop)
    return report.write(run, failures)


def rehearse(
  recipe: recipes.Recipe,
  *,
  devices: tf.distribute.Strategy,
  workshop: Workshop,
  chosen: list[arms.Arm],
  seeds: int = 1,
  jobs: int = 1,
) -> list[dict[str, Any]]:
  """Returns the plan with the seconds that each of its parts will take.

  Every part is really run, on a few batches and in a folder that goes again.
  Speeds are those of its last steps, the time to compile is added. The signals
  are computed in every step.

  Args:
    recipe: As of `compare`, like the others.
    devices: Those that are measured.
    workshop: Likewise.
    chosen: The arms.
    seeds: Number of students of each arm.
    jobs: Students at once, which are taken to go no faster in all than one.

  Returns:
    `{'part', 'runs', 'images_per_epoch', 'images_per_second', 'seconds'}` for
    teacher, paraphrasers and arms; `seconds` are of all runs of the part.
  """
  del jobs
  recipe = precision.settle(recipe)
  dataset = workshop.open_dataset()
  small = dataset.part(_REHEARSED * recipe.data.batch_size)
  short = {f'{s}_epochs': 1 for s in ('teacher', 'paraphraser', 'student')}
  with tempfile.TemporaryDirectory() as folder:
    run = run_dir.RunDir(folder)
    compare(
      recipes.override(recipe, short),
      run=run,
      devices=devices,
      workshop=dataclasses.replace(
        workshop,
        open_dataset=lambda: small,
        options=dataclasses.replace(workshop.options, log_steps=5),
        signal_cache='off',
      ),
      chosen=chosen,
      exports=False,
    )
    failures = run.read('comparison.json')['failures']
    if failures:
      name, reason = next(iter(failures.items()))
      raise errors.TrainingError(f'{name} failed in the rehearsal: {reason}')
    parts = []
    if not common.is_given(recipe.teacher, small):
      parts.append(('teacher', 'teacher', recipe.teacher.epochs, 1))
    names = run.child('paraphrasers').path
    for name in sorted(os.listdir(names)) if os.path.isdir(names) else []:
      for its in run.child(f'paraphrasers/{name}').parts():
        where = os.path.relpath(its.path, run.path)
        parts.append((where, where, recipe.paraphraser.epochs, 1))
    for task in arms.plan(recipe, small, chosen=chosen, seeds=1):
      epochs = task.recipe.student.epochs
      parts.append((task.arm, f'runs/{task.name}', epochs, seeds))
    found = []
    for part, where, epochs, count in parts:
      rows = run.child(where).metrics()
      images = len(dataset.train if part == 'teacher' else dataset.every)
      speed = rows[-1]['images_per_second']
      seconds = epochs * images / speed + rows[0]['compile_seconds']
      found.append(
        {
          'part': part,
          'runs': count,
          'images_per_epoch': images,
          'images_per_second': speed,
          'seconds': count * seconds,
        }
      )
    return found


def _paraphrase(
  run, recipe, tasks, dataset, teacher, work
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
  """Trains the paraphrasers that tasks ask for.

  Returns:
    By task's name the files of its paraphrasers, and of those whose paraphraser
    cannot be trained what went wrong.
  """
  files, failures, known, wrong = {}, {}, {}, {}
  for task in tasks:
    if not recipes.needs_paraphraser(task.recipe.student.method):
      continue
    of_seed_0 = recipes.override(task.recipe, {'seed': recipe.seed})
    its = run.child(f'paraphrasers/{_paraphraser_name(of_seed_0, recipe)}')
    if its.path not in {*known, *wrong}:
      try:
        known[its.path] = paraphraser.train_paraphrasers(
          of_seed_0, dataset, teacher=teacher, run=its, **work
        )
      except errors.TrainingError as error:
        wrong[its.path] = f'its paraphraser: {error}'
        _say(f'{its.path} failed: {error}')
    if its.path in wrong:
      failures[task.name] = wrong[its.path]
    else:
      files[task.name] = known[its.path]
  return files, failures


def _paraphraser_name(own: recipes.Recipe, recipe: recipes.Recipe) -> str:
  """Returns a folder's name: the rate k, and what differs from the recipe."""
  changes = [
    f'{leaf.flag}={leaf.value(own)}'
    for leaf in recipes.leaves()
    if leaf.group in ('', 'data', 'paraphraser')
    and leaf.flag not in ('rate', 'student_layer')
    and leaf.value(own) != leaf.value(recipe)
  ]
  return ','.join([f'k{own.paraphraser.rate:g}', *changes]).replace('/', '.')


@contextlib.contextmanager
def _claimed(run, recipe, dataset) -> Iterator[None]:
  """Holds the folder; what may differ from call to call is not part of it."""
  identity = json.loads(json.dumps(dataclasses.asdict(recipe)))
  for name in ('method', 'beta'):
    del identity['student'][name]
  path = common.teacher_file(recipe.teacher)
  if path:
    identity['teacher_sha256'] = run_dir.digest(path)
  identity |= common.images_identity(dataset)
  run.claim(identity)
  try:
    yield
  finally:
    run.release()


def _train(
  run, tasks, paraphrasers, workshop, devices, dataset, jobs
) -> Iterator[tuple[arms.Task, str]]:
  """Yields each task when it is over, with what went wrong if it did."""
  arguments = {
    task.name: {
      'teacher': run.child('teacher').model,
      'paraphrasers': paraphrasers.get(task.name, ()),
      'folder': run.child(f'runs/{task.name}').path,
    }
    for task in tasks
  }
  if jobs == 1:
    bench = _Bench(workshop, devices, dataset)
    for task in tasks:
      yield task, bench.train(task, **arguments[task.name])
    return
  for number, failure in processes.each(
    _train_elsewhere,
    [{'task': task, **arguments[task.name]} for task in tasks],
    workers=jobs,
    start=_open_bench,
    start_arguments=(workshop, jobs),
  ):
    task = tasks[number]
    if isinstance(failure, processes.Died):
      fewer = f', with --jobs={jobs - 1}' if failure.killed else ''
      failure = f'{failure}: run the same command again{fewer}'
      _say(f'{task.name} failed: {failure}')
    yield task, failure


def _export(folders, workshop) -> None:
  """Exports networks that are not, in another process: a dead one ends it.

  LiteRT gives up its process over a network whose maps are all zero.
  """
  waiting = [f for f in folders if not f.read('export/export.json')]
  for number, found in processes.each(
    _export_elsewhere,
    [{'path': folder.path} for folder in waiting],
    workers=1,
    start=_open_bench,
    start_arguments=(workshop, 1),
  ):
    if isinstance(found, processes.Died):
      _say(f'{waiting[number].path}: no TFLite file, {found}')


class _Bench:
  """A process's means to train students.

  Attributes:
    dataset: The images.
  """

  def __init__(self, workshop, devices, dataset):
    self._options = workshop.options
    self._devices = devices
    self.dataset = dataset
    self._signals = cache.Store(
      workshop.signal_cache, budget_gib=workshop.signal_cache_gib
    )

  def train(self, task, *, teacher, paraphrasers, folder) -> str:
    """Trains a student; returns what went wrong, or ''."""
    try:
      student.train_student(
        task.recipe,
        self.dataset,
        run=run_dir.RunDir(folder),
        strategy=self._devices,
        options=self._options,
        teacher=teacher,
        paraphrasers=paraphrasers,
        signals=self._signals,
        label=task.arm,
      )
      knowledge.look(
        run_dir.RunDir(folder),
        task.recipe,
        self.dataset,
        teacher=teacher,
        paraphrasers=paraphrasers,
      )
    except (errors.UsageError, errors.TrainingError) as error:
      _say(f'{task.name} failed: {error}')
      return str(error)
    except Exception as error:  # One run must not take the others with it.
      _say(f'{task.name} failed:\n{traceback.format_exc()}')
      return f'{type(error).__name__}: {error}'
    return ''


_bench: _Bench | None = None  # of a process that trains for another


def _open_bench(workshop: Workshop, jobs: int) -> None:
  global _bench
  if workshop.allow_unsafe_model:
    zoo.allow_unsafe()
  if jobs > 1:
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
  _bench = _Bench(
    workshop, strategy.make(workshop.num_replicas), workshop.open_dataset()
  )


def _train_elsewhere(task, **arguments) -> str:
  return _bench.train(task, **arguments)


def _export_elsewhere(path) -> None:
  compression.export_beside(run_dir.RunDir(path), _bench.dataset)


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
