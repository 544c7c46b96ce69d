"""What a compression takes of its disks, checked before it begins."""

import keras

from ft_tf import recipe_fit, run_dir
from ft_tf.data import datasets
from ft_tf.signals import cache, filling
from ft_tf.training import space


def check(
  run: run_dir.RunDir,
  fit: recipe_fit.Fit,
  dataset: datasets.Dataset,
  teacher_model: keras.Model,
  student_model: keras.Model,
  *,
  given: bool,
  students: int,
  continued: int,
  baseline: bool,
  signals: cache.Store | None,
) -> None:
  """Refuses a compression whose disks have less space than it will take.

  Args:
    run: The folder of it all.
    fit: The recipe, and its loss terms.
    dataset: The images.
    teacher_model: The teacher's model.
    student_model: The student's.
    given: Whether the teacher is given.
    students: Number of students to train.
    continued: How many of them are trained further in int8.
    baseline: Whether the export of a baseline is made as well.
    signals: Where the teacher's signals are kept, if they are.

  Raises:
    UsageError: there is too little space, with the numbers, or the signals
      alone are more than their limit. Nothing has been written.
  """
  recipe, terms = fit.recipe, fit.loss_terms
  teacher, student = space.weigh(teacher_model), space.weigh(student_model)
  trained = student + space.weigh(
    *(term.adapter for term in terms if term.adapter is not None)
  )
  needed = [
    space.of_copy(teacher)
    if given
    else space.of_training(teacher, recipe.teacher),
    *(
      space.of_training(space.weigh(model), recipe.paraphraser)
      for term in terms
      for model in term.frozen
    ),
    *[space.of_training(trained, recipe.student)] * students,
    *[space.of_training(trained, recipe.qat)] * continued,
    space.of_export(teacher),
    *[space.of_export(student)] * (1 + baseline),
  ]
  folders = {run.path: space.total(needed)}
  if signals is not None:
    kept = filling.check(signals, terms, teacher_model, recipe, dataset)
    if signals.folder is not None:
      folders[signals.folder] = {'teacher outputs': kept}
  space.check(folders)
