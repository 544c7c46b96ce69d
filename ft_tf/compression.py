"""The whole way: from a teacher or a recipe to a measured, exported student."""

import base64
import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import (
  catalogue,
  errors,
  exporting,
  json_files,
  recipe_fit,
  recipe_flags,
  recipes,
  run_dir,
  run_space,
  specs,
  teachers,
)
from ft_tf.data import datasets
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import measuring
from ft_tf.export import student as export_student
from ft_tf.progress import plan, reporter
from ft_tf.report import model_card, page, summary
from ft_tf.signals import cache
from ft_tf.training import linear_head as linear_heads
from ft_tf.training import (
  loop,
  memory,
  paraphraser,
  parts,
  precision,
  programs,
  quantisation_aware,
  space,
  stage,
  student,
  teacher,
)

_SAMPLES = 12  # test images shown in the report, and as many mistakes


def compress(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  given: teachers.Teacher | None = None,
  seeds: int = 1,
  baseline: bool = False,
  linear_head: bool = False,
  signals: cache.Store | None = None,
  choice: dict[str, Any] | None = None,
  export: export_student.Options = export_student.DEFAULTS,
) -> dict[str, Any]:
  """Trains, exports, measures and reports; continues what was begun.

  Args:
    recipe: What to run. `recipe.teacher.model` is a network to train, one with
      `teacher_weights`, or a `.keras` file.
    dataset: The images.
    run: The folder of it all: `teacher/`, `paraphraser/`, `student/` (the
      recipe's seed), `comparison/` (other seeds, baseline and linear head),
      `export/`, `report.html` and `result.json`. With `recipe.qat.epochs` also
      `qat/`, the student of the recipe's seed after quantisation-aware
      training, which is what is exported, and `qat-scratch/`, its baseline
      after as many steps.
      The others are not exported, and are not trained further. A run without it
      is continued, and its export kept as `export-before-qat/`.
    strategy: The devices.
    options: Intervals.
    given: The value of `teachers.resolve` for recipe and images; None: it is
      resolved here.
    seeds: Number of students, of the seeds from `recipe.seed` on.
    baseline: Whether to train the same students without a teacher too, at equal
      budget.
    linear_head: Whether to train the last layer of the same students alone,
      too, on the features of their pretrained weights.
    signals: Where the teacher's signals are kept; all students share them.
    choice: How limits chose the recipe's student, if they did, as
      `recipe_fit.within` says it; kept in the folder.
    export: What is exported; a complete run is given what it lacks of it.

  Returns:
    The result: that of the student, with quantisation-aware training also that
    of its stage as `qat`, the table's rows, the candidates of the choice, and
    where the files lie.

  Raises:
    UsageError: something does not fit; nothing has been written.
    TrainingError: a loss is not finite, or an exported file loses more
      accuracy than `export` allows; all but `result.json` is there then.
  """
  recipe = precision.settle(recipe)
  export = dataclasses.replace(export, weight_scales=recipe.qat.weight_scales)
  if given is None:
    given = teachers.resolve(recipe, dataset)
  student_model = specs.build_student(recipe, dataset)
  teacher_model = teachers.network(recipe, dataset, given)
  fit = recipe_fit.check_parts(recipe, dataset, teacher_model, student_model)
  recipe = fit.recipe
  if linear_head:
    linear_heads.check(recipe, student_model)
  if baseline and recipe.student.method == recipes.LINEAR_HEAD:
    raise errors.UsageError(
      f'--baseline with --method={recipes.LINEAR_HEAD} leaves open which of '
      f'both is exported: give --method={recipes.SCRATCH} --linear_head'
    )
  if not run.settled():
    seen = specs.student_dataset(recipe, dataset)
    export_student.check_untrained(student_model, seen, export)
  students = _students(recipe, seeds, baseline, linear_head)
  continued = _continued(recipe, baseline)
  own = run_space.of_student(
    fit, dataset, teacher_model, student_model, signals
  )
  needed = [
    *run_space.of_teacher(
      recipe, teacher_model, given=given is not None, exports=True
    ),
    *own.paraphrasers,
    *[space.of_training(own.trained, recipe.student)] * len(students),
    *[space.of_training(own.trained, recipe.qat)] * len(continued),
    *[own.export] * (1 + baseline),
  ]
  run_space.check(run, needed, [own], signals)
  memory.check(recipe, strategy, dataset.image_shape, [student_model])
  if given is None:
    memory.check(recipe, strategy, dataset.image_shape, [teacher_model])
  identity = {
    **recipes.identity(recipe),
    'seeds': seeds,
    'baseline': baseline,
    # Files and report are of these names.
    'label_names_sha256': json_files.digest(list(dataset.label_names)),
    **({'linear_head': True} if linear_head else {}),
  }
  identity |= stage.models_identity(recipe)
  # Earlier versions did not record the first two; a student's own folder has
  # its file's. A compression without quantisation-aware training is continued
  # by it.
  addable = ['student_sha256', 'label_names_sha256']
  addable += ['qat'] if recipe.qat.epochs else []
  with stage.claim(
    run, identity, strategy, recipe, dataset, addable
  ) as complete:
    stages = [run.child(name) for name in ('teacher', *students, *continued)]
    stages += [p for p in run.child('paraphraser').parts() if p.begun()]
    if complete and not any(map(stage.has_lost, stages)):
      _print(f'{run.path} is complete')
      _check_export(recipe, dataset, run, export)
      return complete
    if choice is not None:
      run.write(run_dir.CANDIDATES, choice)
    progress = reporter.Progress(
      _plan(recipe, dataset, run, students, continued, given=given is not None),
      mode=options.progress,
    )
    progress.announce()
    trained_teacher = teacher.obtain_teacher(
      recipe,
      dataset,
      run=run.child('teacher'),
      strategy=strategy,
      options=options,
      given=given,
      progress=progress,
    )
    paraphrasers: Sequence[paraphraser.TrainedParaphraser] = ()
    if recipes.needs_paraphraser(recipe.student.method):
      paraphrasers = paraphraser.train_paraphrasers(
        recipe,
        dataset,
        teacher=trained_teacher,
        run=run.child('paraphraser'),
        strategy=strategy,
        options=options,
        progress=progress,
      )
    work: dict[str, Any] = {
      'strategy': strategy,
      'options': options,
      'teacher': trained_teacher,
      'paraphrasers': paraphrasers,
      'signals': signals,
      'progress': progress,
    }
    compiled = programs.Programs()
    results = {
      name: student.train_student(
        student_recipe,
        dataset,
        run=run.child(name),
        compiled=compiled,
        **work,
      )
      for name, student_recipe in students.items()
    }
    for name, trained_name in continued.items():
      results[name] = quantisation_aware.train_quantised(
        students[trained_name],
        dataset,
        trained=run.child(trained_name),
        run=run.child(name),
        **work,
      )
      exporting.set_aside(
        run.child(trained_name), exporting.exporter(run, trained_name)
      )
    with progress.part(exporting.folder_of(run), 'export') as part:
      figures = exporting.export_all(
        recipe, dataset, run, trained_teacher, baseline, export, part
      )
      part.status('report')
      seen = specs.student_dataset(recipe, dataset)
      run.write('samples.json', _samples(run, dataset, seen, trained_teacher))
      model_card.write(run)
      report = page.write(run)
    measuring.check_drop(figures, export.max_drop, exporting.folder_of(run))
    qat = {
      name: result for name, result in results.items() if name == run_dir.QAT
    }
    return _finish(run, results['student'] | qat, report)


def _check_export(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  export: export_student.Options,
) -> None:
  """Makes what a complete run's export lacks, and checks its accuracy."""
  folder = exporting.folder_of(run)
  before = run_dir.RunDir(folder).read('export.json')
  figures = exporting.export_student(recipe, dataset, run, export)
  if figures != before:
    model_card.write(run)
    page.write(run)
  measuring.check_drop(figures, export.max_drop, folder)


def _students(
  recipe: recipes.Recipe, seeds: int, baseline: bool, linear_head: bool
) -> dict[str, recipes.Recipe]:
  """Returns the students to train: folder to recipe, the exported one first."""
  students = {'student': recipe}
  changes = {recipe.student.method: {'method': recipe.student.method}}
  if baseline:
    changes[recipes.SCRATCH] = {'method': recipes.SCRATCH}
  if linear_head:
    changes[recipes.LINEAR_HEAD] = catalogue.linear_head()
  for seed in range(recipe.seed, recipe.seed + seeds):
    for method, values in changes.items():
      if (method, seed) != (recipe.student.method, recipe.seed):
        students[f'comparison/{method}-{seed}'] = recipe_flags.override(
          recipe, {**values, 'seed': seed}
        )
  return students


def _continued(recipe: recipes.Recipe, baseline: bool) -> dict[str, str]:
  """Returns the students to train in int8: folder to that of the student.

  They are those whose files are exported: that of the recipe's seed, and with a
  baseline its own, so that both files are of equal steps.
  """
  if not recipe.qat.epochs:
    return {}
  continued = {run_dir.QAT: 'student'}
  if baseline:
    continued[run_dir.QAT_BASELINE] = f'comparison/scratch-{recipe.seed}'
  return continued


def _plan(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  students: dict[str, recipes.Recipe],
  continued: dict[str, str],
  *,
  given: bool,
) -> list[plan.Part]:
  """Returns the parts of a compression, in their order.

  Args:
    recipe: What to run.
    dataset: The images.
    run: The folder of it all.
    students: The value of `_students`.
    continued: The value of `_continued`.
    given: Whether the teacher is given.
  """
  teacher_run = run.child('teacher')
  planned = [parts.of_teacher(recipe, dataset, teacher_run, given=given)]
  if recipes.needs_paraphraser(recipe.student.method):
    planned += parts.of_paraphrasers(recipe, dataset, run.child('paraphraser'))
  planned += [
    parts.of_student(student_recipe, dataset, run.child(name))
    for name, student_recipe in students.items()
  ]
  planned += [
    parts.of_quantised(students[trained_name], dataset, run.child(name))
    for name, trained_name in continued.items()
  ]
  return [*planned, parts.of_export(exporting.folder_of(run))]


def _samples(
  run: run_dir.RunDir,
  dataset: datasets.Dataset,
  seen: datasets.Dataset,
  teacher: teachers.Teacher,
) -> list[dict[str, str]]:
  """Returns test images with the class that each network gives them.

  First images from the whole split (`chosen` is 'spread'), then further ones
  that the int8 file classifies wrongly ('mistakes').
  The student sees them as `seen` has them, the teacher as `dataset`.
  """
  export = exporting.folder_of(run)
  int8 = predictors.open_predictor(os.path.join(export, run_dir.INT8))
  answers = metrics.logits(int8, seen.test.images).argmax(axis=1)
  mistakes = np.flatnonzero(answers != seen.test.labels)
  shown = _spread(np.arange(len(answers)))
  chosen = np.concatenate([shown, _spread(np.setdiff1d(mistakes, shown))])
  in_float = predictors.open_predictor(os.path.join(export, run_dir.KERAS))
  by_network = {
    'teacher': teacher.logits(dataset.test)[chosen].argmax(axis=1),
    'student': metrics.logits(in_float, seen.test.take(chosen).images).argmax(
      axis=1
    ),
    'int8': answers[chosen],
  }
  names = np.array(dataset.label_names)
  samples = dataset.test.take(chosen)
  return [
    {
      'png': base64.b64encode(tf.io.encode_png(image).numpy()).decode(),
      'label': str(names[label]),
      'chosen': 'spread' if i < len(shown) else 'mistakes',
      **{who: str(names[classes[i]]) for who, classes in by_network.items()},
    }
    for i, (image, label) in enumerate(
      zip(samples.images[:], samples.labels, strict=True)
    )
  ]


def _spread(places: np.ndarray) -> np.ndarray:
  """Returns some of many places from end to end: classes may lie in order."""
  if len(places) <= _SAMPLES:
    return places
  return places[np.linspace(0, len(places) - 1, _SAMPLES).astype(int)]


@json_files.explains
def _finish(
  run: run_dir.RunDir, exported: dict[str, Any], report: str
) -> dict[str, Any]:
  """Writes and returns the compression's result."""
  table = summary.make_rows(summary.read_runs(run))
  result = {
    **exported,
    'table': [
      {
        'method': row.method,
        'mean': row.mean,
        'std': row.std,
        'seeds': len(row.accuracies),
        'accuracies': list(row.accuracies),
        'parameters': row.parameters,
        'tflite_bytes': row.bytes(run_dir.FLOAT32),
        'tflite_int8_bytes': row.bytes(run_dir.INT8),
      }
      for row in table
    ],
    'candidates': (run.read(run_dir.CANDIDATES) or {}).get('candidates', []),
    'export': exporting.folder_of(run),
    'report': report,
  }
  run.write('result.json', result)
  return result


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
