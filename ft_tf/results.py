"""What `distill` returns: the student, its figures and where the files are."""

import dataclasses
import html
import os
from typing import Any

import keras

from ft_tf import run_dir
from ft_tf.models import model_files
from ft_tf.report import summary


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Result:
  """A finished distillation. In a notebook it shows itself as its table.

  Attributes:
    model: The student of the first seed after the last epoch, from raw images
      to logits `[B, classes]`; with `qat_epochs` after those.
    accuracy: Its accuracy on the test images, 0..1, in float.
    history: The rows of metrics by stage, each a dict with `step`, `epoch` and
      the losses: of 'teacher' and 'paraphraser', if they were trained here, of
      'student', of 'qat' with `qat_epochs`, and of the further students, such
      as 'comparison/scratch-0'.
      `pandas.DataFrame(result.history['student'])` makes a table of them.
    table: Teacher, baseline and student with accuracy, size and speed, as
      Markdown.
    files: The exported files by name, such as 'student_int8.tflite', to their
      paths.
    report: The path of report.html.
    workdir: The folder with all of it; the same call with this folder returns
      the same without training.
  """

  model: keras.Model = dataclasses.field(repr=False)
  accuracy: float
  history: dict[str, list[dict[str, Any]]] = dataclasses.field(repr=False)
  table: str = dataclasses.field(repr=False)
  files: dict[str, str] = dataclasses.field(repr=False)
  report: str = dataclasses.field(repr=False)
  workdir: str
  _cells: list[list[str]] = dataclasses.field(repr=False)

  def _repr_html_(self) -> str:
    """Returns the table for a notebook."""
    header, *rows = (
      [html.escape(cell) for cell in cells]
      for cells in (summary.HEADER, *self._cells)
    )
    lines = [
      ''.join(f'<th>{cell}</th>' for cell in header),
      *(''.join(f'<td>{cell}</td>' for cell in row) for row in rows),
    ]
    body = ''.join(f'<tr>{line}</tr>' for line in lines)
    return f'<table>{body}</table><p>{html.escape(self.report)}</p>'


def read(run: run_dir.RunDir, compressed: dict[str, Any]) -> Result:
  """Returns the result of a complete compression.

  Args:
    run: Its folder.
    compressed: The value of `compression.compress`.
  """
  rows = summary.make_rows(summary.read_runs(run))
  export = compressed['export']
  student, accuracy = run.child('student'), compressed['accuracy']
  if quantised := compressed.get('qat'):
    student, accuracy = run.child(run_dir.QAT), quantised['float_accuracy']
  return Result(
    model=model_files.load(student.model),
    accuracy=accuracy,
    history=_history(run),
    table=summary.to_markdown(rows),
    files={
      name: os.path.join(export, name)
      for name in os.listdir(export)
      if not name.startswith('.')
    },
    report=compressed['report'],
    workdir=run.path,
    _cells=[summary.format_cells(row) for row in rows],
  )


def _history(run: run_dir.RunDir) -> dict[str, list[dict[str, Any]]]:
  """Returns the rows of metrics of each stage that has some, by its folder."""
  parts = [run.child('teacher'), *run.child('paraphraser').parts()]
  parts += [run.child('student'), run.child(run_dir.QAT)]
  comparison = run.child('comparison')
  if os.path.isdir(comparison.path):
    parts += map(comparison.child, sorted(os.listdir(comparison.path)))
  history = {
    os.path.relpath(part.path, run.path): part.metrics() for part in parts
  }
  return {name: rows for name, rows in history.items() if rows}
