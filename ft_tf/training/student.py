"""Stage 3: the student and what its method trains with it."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ft_tf import recipes, run_dir, teachers
from ft_tf.data import datasets
from ft_tf.progress import reporter
from ft_tf.signals import cache
from ft_tf.training import (
  linear_head,
  loop,
  paraphraser,
  programs,
  stage,
  student_stage,
)


def train_student(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  *,
  run: run_dir.RunDir,
  strategy: tf.distribute.Strategy,
  options: loop.Options,
  teacher: teachers.Teacher | None = None,
  paraphrasers: Sequence[paraphraser.TrainedParaphraser] = (),
  signals: cache.Store | None = None,
  label: str | None = None,
  progress: reporter.Progress | None = None,
  compiled: programs.Programs | None = None,
) -> dict[str, Any]:
  """Trains a student by the recipe's method, or returns what is there.

  Args:
    recipe: Its `data`, `student` and `seed` count.
    dataset: The images.
    run: Where to work; `model.keras` (the student alone, after the last epoch),
      `best.keras` (after the epoch that was best on the validation images, if
      there are any) and `result.json` are there at the end.
    strategy: The devices.
    options: Intervals.
    teacher: The trained teacher; for `scratch` and `linear_head` it is only
      compared with.
    paraphrasers: The teacher's, one for each pair of layers in their order, for
      methods that learn from them.
    signals: Where the teacher's signals are kept; None computes them in every
      step.
    label: What the result calls the method; its own name if None.
    progress: As of `stage.run_stage`.
    compiled: Of the command's students before this one, which it continues to
      use and adds its own to; None: there are none.

  Returns:
    The result: the figures of `metrics.test_scores` on the test split, last
    epoch, computed in float32 as the exported student does;
    `best_accuracy`, that of `best.keras`, and `best_epoch`; with a teacher
    `teacher_agreement` and `teacher_divergence`.

  Raises:
    UsageError: the folder holds another run, the network is unknown, or
      teacher, paraphraser and student do not fit each other or the data.
    TrainingError: a loss term is not finite.
  """
  stage_class: type[student_stage.StudentStage] = student_stage.StudentStage
  if recipe.student.method == recipes.LINEAR_HEAD:
    stage_class = linear_head.LinearHeadStage
  return stage.run_stage(
    stage_class(
      recipe, dataset, teacher, paraphrasers, signals, label, compiled
    ),
    run=run,
    strategy=strategy,
    options=options,
    progress=progress,
  )
