"""The whole way: from a teacher or a recipe to a measured, exported student."""

import base64
import dataclasses
import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import evaluation, factors, recipes, run_dir
from ft_tf.data import datasets, sampling
from ft_tf.export import budget
from ft_tf.export import student as export_student
from ft_tf.methods import registry
from ft_tf.models import taps
from ft_tf.report import page, summary
from ft_tf.signals import cache
from ft_tf.training import (
  common,
  loop,
  paraphraser,
  precision,
  student,
  teacher,
)

CANDIDATES = 'candidates.json'  # what limits of size and latency chose from
_SAMPLES = 12  # test images shown in the report, and as many mistakes


def compress(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  seeds: int = 1,
  baseline: bool = False,
  signals: cache.Store | None = None,
  choice: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """Trains, exports, measures and reports; continues what was begun.

  Args:
    recipe: What to run. `recipe.teacher.model` is a network to train, one with
      `teacher_weights`, or a `.keras` file.
    dataset: The images.
    run: The folder of it all: `teacher/`, `paraphraser/`, `student/` (the
      recipe's seed), `comparison/` (other seeds and the baseline), `export/`,
      `report.html` and `result.json`.
    strategy: The devices.
    options: Intervals.
    seeds: Number of students, of the seeds from `recipe.seed` on.
    baseline: Whether to train the same students alone too, at equal budget.
    signals: Where the teacher's signals are kept; all students share them.
    choice: How limits chose the recipe's student, if they did, as `within`
      says it; kept in the folder.

  Returns:
    The result: that of the exported student, the table's rows, the candidates
    of the choice, and where the files lie.

  Raises:
    UsageError: something does not fit; nothing has been written.
    TrainingError: a loss is not finite.
  """
  recipe = check_parts(precision.settle(recipe), dataset)
  identity = {
    **dataclasses.asdict(recipe),
    'seeds': seeds,
    'baseline': baseline,
  }
  path = common.teacher_file(recipe.teacher)
  if path:
    identity['teacher_sha256'] = run_dir.digest(path)
  with common.work(run, identity, strategy, recipe, dataset) as done:
    if done:
      _say(f'{run.path} is complete')
      return done
    if choice is not None:
      run.write(CANDIDATES, choice)
    work = {'strategy': strategy, 'options': options}
    teacher_run = run.child('teacher')
    teacher.obtain_teacher(recipe, dataset, run=teacher_run, **work)
    inputs = {'teacher': teacher_run.model, 'signals': signals}
    if recipes.needs_paraphraser(recipe.student.method):
      inputs['paraphrasers'] = paraphraser.train_paraphrasers(
        recipe,
        dataset,
        teacher=teacher_run.model,
        run=run.child('paraphraser'),
        **work,
      )
    for name, its_recipe in _students(recipe, seeds, baseline).items():
      result = student.train_student(
        its_recipe, dataset, run=run.child(name), **inputs, **work
      )
      if name == 'student':
        exported = result
    export_student.export(
      run.child('student').model, dataset, os.path.join(run.path, 'export')
    )
    export_beside(teacher_run, dataset)
    if baseline:
      export_beside(run.child(f'comparison/scratch-{recipe.seed}'), dataset)
    own = common.as_student_sees(recipe, dataset)
    run.write('samples.json', _samples(run, dataset, own))
    report = page.write(run)
    return _finish(run, exported, report)


def within(
  limits: budget.Limits | None,
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
) -> tuple[recipes.Recipe, dict[str, Any] | None]:
  """Returns the recipe with the student that limits leave, and its choice.

  Args:
    limits: What the student's int8 file may take; None: anything.
    recipe: Whose student names the family.
    dataset: The images.
    run: Where an earlier choice may lie, which stands.

  Returns:
    The recipe, and what `budget.settle` returns; None without limits.

  Raises:
    UsageError: as of `budget.settle`.
  """
  if limits is None:
    return recipe, None
  own = common.as_student_sees(recipe, dataset)
  choice = budget.settle(
    recipe.student.model,
    common.spec(recipe, own),
    sampling.sample(own.train, budget.CALIBRATION).images[:],
    limits,
    known=run.read(CANDIDATES),
  )
  return recipes.override(recipe, {'student': choice['student']}), choice


def check_parts(
  recipe: recipes.Recipe, dataset: datasets.Dataset
) -> recipes.Recipe:
  """Returns the recipe with the paraphrase rate that its method asks for.

  Raises:
    UsageError: a part does not fit. Nothing has been written.
  """
  spec = common.spec(recipe, dataset)
  if common.is_given(recipe.teacher, dataset):
    teacher_model, _ = common.load_given_teacher(recipe.teacher, dataset)
  else:
    teacher_model = common.build_teacher(recipe, spec)
  student_model = common.build_student(recipe, dataset)
  recipe = recipes.override(
    recipe,
    {'rate': registry.paraphrase_rate(recipe, teacher_model, student_model)},
  )
  blank = []
  if recipes.needs_paraphraser(recipe.student.method):
    for tap, _ in registry.layers(recipe, teacher_model, student_model):
      blank.append(factors.Paraphraser(recipe.paraphraser.rate))
      blank[-1].build((None, *taps.shape(teacher_model, tap)))
  parts = registry.Parts(
    teacher=teacher_model,
    student=student_model,
    paraphrasers=blank,
    examples=datasets.Examples(
      np.zeros((1, *dataset.image_shape), np.uint8), np.zeros(1, np.int64)
    ),
  )
  registry.make(recipe, parts)
  return recipe


def _students(recipe, seeds, baseline) -> dict[str, recipes.Recipe]:
  """Returns the students to train: folder to recipe, the exported one first."""
  students = {'student': recipe}
  methods = [recipe.student.method, *(['scratch'] * baseline)]
  for seed in range(recipe.seed, recipe.seed + seeds):
    for method in methods:
      if (method, seed) != (recipe.student.method, recipe.seed):
        students[f'comparison/{method}-{seed}'] = recipes.override(
          recipe, {'method': method, 'seed': seed}
        )
  return students


def export_beside(run: run_dir.RunDir, dataset: datasets.Dataset) -> None:
  """Exports a network that is compared with, if it converts.

  The student must convert; a teacher that a user brings may hold operations
  that TFLite lacks, which is said and leaves its cells in the table empty.
  """
  try:
    export_student.export(run.model, dataset, os.path.join(run.path, 'export'))
  except Exception as error:  # The converter's own class is not public.
    # The last line is the reason where the first names a place in the code.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    _say(f'{run.path}: no TFLite file to compare with ({reason})')


def _samples(run, dataset, own) -> list[dict[str, str]]:
  """Returns test images with what each network says of them.

  The student sees them as `own` has them, the teacher as `dataset`.
  """
  export = os.path.join(run.path, 'export')
  predictors = {
    'teacher': evaluation.predictor(run.child('teacher').model),
    'student': evaluation.predictor(os.path.join(export, run_dir.KERAS)),
    'int8': evaluation.predictor(os.path.join(export, run_dir.INT8)),
  }
  test = own.test
  wrong = np.flatnonzero(
    evaluation.logits(predictors['int8'], test.images).argmax(axis=1)
    != test.labels
  )
  shown = _spread(np.arange(len(test)))
  chosen = np.concatenate([shown, _spread(np.setdiff1d(wrong, shown))])
  some = dataset.test.take(chosen)
  seen = {who: test.take(chosen).images for who in predictors}
  seen['teacher'] = some.images
  names = np.array(dataset.label_names)
  said = {
    who: names[evaluation.logits(predict, seen[who]).argmax(axis=1)]
    for who, predict in predictors.items()
  }
  return [
    {
      'png': base64.b64encode(tf.io.encode_png(image).numpy()).decode(),
      'label': str(names[label]),
      **{who: str(said[who][i]) for who in said},
    }
    for i, (image, label) in enumerate(
      zip(some.images, some.labels, strict=True)
    )
  ]


def _spread(places: np.ndarray) -> np.ndarray:
  """Returns some of many places from end to end: classes may lie in order."""
  if len(places) <= _SAMPLES:
    return places
  return places[np.linspace(0, len(places) - 1, _SAMPLES).astype(int)]


def _finish(run, exported, report) -> dict[str, Any]:
  """Writes and returns the compression's result."""
  table = summary.rows(summary.runs(run))
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
    'candidates': (run.read(CANDIDATES) or {}).get('candidates', []),
    'export': os.path.join(run.path, 'export'),
    'report': report,
  }
  run.write('result.json', result)
  return result


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
