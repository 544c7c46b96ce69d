"""The exports of a compression: the student's, and what it is compared with."""

import os
import sys
from collections.abc import Callable

import keras

from ft_tf import recipes, run_dir, storage, teachers
from ft_tf.data import datasets
from ft_tf.export import folder as export_folder
from ft_tf.export import measuring, student
from ft_tf.models import onnx_models
from ft_tf.progress import reporter
from ft_tf.training import quantisation_aware


def export_all(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  trained_teacher: teachers.Teacher,
  baseline: bool,
  export: student.Options,
  part: reporter.Running,
) -> measuring.Figures:
  """Exports the student, and what its table compares it with.

  Returns:
    The student's figures, as of `export.student.export`.
  """
  compared = student.Options(weight_scales=export.weight_scales)
  export_compared(
    run.child('teacher'),
    dataset,
    loaded=trained_teacher.model,
    options=compared,
    status=part.step('teacher'),
  )
  if baseline:
    scratch_run = run.child(f'comparison/scratch-{recipe.seed}')
    export_compared(
      scratch_run,
      dataset,
      quantised=run.child(run_dir.QAT_BASELINE) if recipe.qat.epochs else None,
      options=compared,
      status=part.step('baseline'),
    )
  # Last: it is timed beside the teacher's file.
  return export_student(recipe, dataset, run, export, part.step('student'))


def export_student(
  recipe: recipes.Recipe,
  dataset: datasets.Dataset,
  run: run_dir.RunDir,
  export: student.Options,
  status: Callable[[str], None] = student.print_status,
) -> measuring.Figures:
  """Exports the student, after quantisation-aware training if there is one."""
  exported = run.child(run_dir.QAT if recipe.qat.epochs else 'student')
  return student.export(
    exported.model,
    dataset,
    folder_of(run),
    status=status,
    options=export,
    teacher=os.path.join(folder_of(run.child('teacher')), run_dir.FLOAT32),
    ranges=quantisation_aware.read_ranges(exported),
  )


def folder_of(run: run_dir.RunDir) -> str:
  return os.path.join(run.path, 'export')


def exporter(run: run_dir.RunDir, name: str) -> run_dir.RunDir:
  """Returns the folder with the export of one of the compression's students."""
  return run if name == 'student' else run.child(name)


def set_aside(trained: run_dir.RunDir, exporter: run_dir.RunDir) -> None:
  """Keeps an export from before quantisation-aware training by another name."""
  folder = folder_of(exporter)
  if export_folder.is_of(folder, trained.model):
    os.replace(folder, os.path.join(exporter.path, run_dir.EXPORT_BEFORE_QAT))


def export_compared(
  run: run_dir.RunDir,
  dataset: datasets.Dataset,
  *,
  loaded: keras.Model | None = None,
  quantised: run_dir.RunDir | None = None,
  options: student.Options = student.DEFAULTS,
  status: Callable[[str], None] = student.print_status,
) -> None:
  """Exports a network that the student is compared with, if it converts.

  The student must convert. A teacher that a user brings may hold operations
  that TFLite lacks; then a line tells so, and its cells in the table stay
  empty.

  Args:
    run: The network's run, whose folder gets the export.
    dataset: The images.
    loaded: As of `export.student.export`.
    quantised: Its quantisation-aware training, whose network is exported; None:
      that of the run.
    options: As of `export.student.export`.
    status: Likewise.
  """
  exported = quantised or run
  if loaded is not None and onnx_models.holds(loaded):
    _print(f'{run.path}: no TFLite file to compare with (an ONNX teacher)')
    return
  try:
    student.export(
      exported.model,
      dataset,
      folder_of(run),
      loaded=loaded,
      status=status,
      options=options,
      is_compared=True,
      ranges=quantisation_aware.read_ranges(exported),
    )
  except storage.StorageError:
    raise
  except Exception as error:  # The converter's own class is not public.
    if (known := storage.explain(error, run.path)) is not None:
      raise known from error
    # The last line is the reason where the first names a place in the code.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    _print(f'{run.path}: no TFLite file to compare with ({reason})')


def _print(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
