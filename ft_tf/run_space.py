"""What a whole command takes of its disks, checked before it begins."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import keras

from ft_tf import recipe_fit, recipes, run_dir
from ft_tf.data import datasets
from ft_tf.signals import cache, filling
from ft_tf.training import space


@dataclasses.dataclass(frozen=True)
class OfStudent:
  """Bytes that one student takes of the disks.

  Attributes:
    trained: Of the weights that its run trains.
    paraphrasers: Of the runs of its paraphrasers, which others may share.
    export: Of its exported files.
    signals: Of the teacher's outputs for each of its terms, by what they are:
      students whose terms are the same share them.
  """

  trained: int
  paraphrasers: list[dict[str, int]]
  export: Mapping[str, int]
  signals: Mapping[str, int]


def of_student(
  fit: recipe_fit.Fit,
  dataset: datasets.Dataset,
  teacher_model: keras.Model,
  student_model: keras.Model,
  signals: cache.Store | None,
) -> OfStudent:
  """Returns what a student takes of the disks.

  Args:
    fit: Its recipe and loss terms.
    dataset: The images.
    teacher_model: The teacher's model.
    student_model: The student's.
    signals: Where the teacher's signals are kept, if they are.

  Raises:
    UsageError: its signals alone are more than their limit.
  """
  recipe, terms = fit.recipe, fit.loss_terms
  adapters = [term.adapter for term in terms if term.adapter is not None]
  kept = {}
  if signals is not None:
    filling.check(signals, terms, teacher_model, recipe, dataset)
    for term in terms:
      what = [term.signal_key, recipe.data, recipe.precision]
      if term.frozen:
        what += [recipe.paraphraser, recipe.teacher_layer, recipe.factor_form]
      kept[repr(what)] = filling.check(
        signals, [term], teacher_model, recipe, dataset
      )
  return OfStudent(
    trained=space.weigh(student_model, *adapters),
    paraphrasers=[
      space.of_training(space.weigh(model), recipe.paraphraser)
      for term in terms
      for model in term.frozen
    ],
    export=space.of_export(space.weigh(student_model)),
    signals=kept,
  )


def of_teacher(
  recipe: recipes.Recipe, model: keras.Model, *, given: bool, exports: bool
) -> list[dict[str, int]]:
  """Returns what a teacher takes of the disks: a run, perhaps an export.

  Args:
    recipe: With the numbers of its training.
    model: The teacher's model.
    given: Whether it is given, and not trained.
    exports: Whether it is exported.
  """
  weights = space.weigh(model)
  if given:
    run = space.of_copy(weights)
  else:
    run = space.of_training(weights, recipe.teacher)
  return [run, *[space.of_export(weights)] * exports]


def check(
  run: run_dir.RunDir,
  needed: Sequence[Mapping[str, int]],
  students: Iterable[OfStudent],
  signals: cache.Store | None,
) -> None:
  """Refuses a command whose disks have less space than it will take.

  Args:
    run: The folder of it all.
    needed: What its runs and exports take.
    students: Those whose signals are kept.
    signals: Where the teacher's signals are kept, if they are.

  Raises:
    UsageError: there is too little space, with the numbers. Nothing has been
      written.
  """
  folders = {run.path: space.total(needed)}
  if signals is not None and signals.folder is not None:
    kept: dict[str, int] = {}
    for each in students:
      for what, count in each.signals.items():
        kept[what] = max(count, kept.get(what, 0))
    folders[signals.folder] = {'teacher outputs': sum(kept.values())}
  space.check(folders)
