"""The section of a report on predictions: which classes, and how sure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ft_tf import run_dir
from ft_tf.report import prediction_plots, predictions, summary

# A confusion matrix of more classes is a plot, and its largest cells a list.
_MOST_CELLS = 20
_MOST_PAIRS = 20


def make_section(
  root: run_dir.RunDir, runs: Sequence[summary.Run], method: str
) -> dict[str, Any] | None:
  """Returns what the template shows of the predictions on the test split.

  Args:
    root: The folder of a compression.
    runs: Its runs.
    method: The exported student's method.

  Returns:
    None for a folder of an older version, which has no predictions.
  """
  exported = root.read(f'export/{run_dir.PREDICTIONS}') or {}
  student = predictions.parse(exported.get(run_dir.KERAS))
  if student is None:
    return None
  teacher = _predictions_of(runs, 'teacher')
  accuracies = {
    'teacher': predictions.mean_accuracy(runs, 'teacher'),
    'baseline': predictions.mean_accuracy(runs, 'scratch'),
    'student': predictions.mean_accuracy(runs, method),
  }
  if accuracies['student'] is None:
    accuracies['student'] = student.accuracy
  if method == 'scratch':
    del accuracies['baseline']
  known = {name: v for name, v in accuracies.items() if v is not None}
  int8 = predictions.parse(exported.get(run_dir.INT8))
  table = known if int8 is None else {**known, 'int8 file': int8.accuracy}
  many = len(student.classes) > _MOST_CELLS
  shown = len(prediction_plots.choose_classes(known['student']))
  part = f' (the {shown} lowest)' if shown < len(student.classes) else ''
  networks = {'student': student}
  if teacher is not None:
    networks['teacher'] = teacher
  return {
    'classes': student.classes,
    'plots': {
      f'Accuracy by class{part}': prediction_plots.plot_by_class(
        student.classes, known
      ),
      'Reliability': prediction_plots.plot_reliability(networks),
      'Confusion matrix of the exported student': (
        prediction_plots.plot_confusion(student) if many else ''
      ),
    },
    'note': _make_note(many),
    'matrix': None if many else _shade(student),
    'pairs': [
      [label, prediction, f'{images:,}', f'{100 * share:.1f}']
      for label, prediction, images, share in student.confused_pairs(
        _MOST_PAIRS
      )
    ]
    if many
    else [],
    'balanced': ', '.join(
      f'{name} {_percent(np.nanmean(accuracy))} %'
      for name, accuracy in table.items()
    ),
    'by_class_header': [
      'class',
      'number',
      'images',
      *(f'{n} %' for n in table),
    ],
    'by_class': [
      [
        name,
        str(number),
        f'{int(student.images[number]):,}',
        *(_percent(accuracy[number]) for accuracy in table.values()),
      ]
      for number, name in enumerate(student.classes)
    ],
  }


def _predictions_of(
  runs: Sequence[summary.Run], method: str
) -> predictions.Predictions | None:
  """Returns the predictions of the first run of a method, if it has any."""
  values = (run.predictions for run in runs if run.method == method)
  return predictions.parse(next(values, None))


def _shade(
  student: predictions.Predictions,
) -> list[tuple[str, list[tuple[int, float]]]]:
  """Returns for each class its name, and number and shade (0..1) by cell."""
  matrix = student.matrix()
  shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
  return [
    (
      name,
      [
        (int(images), round(float(np.sqrt(share)), 2))
        for images, share in zip(row, row_shares, strict=True)
      ],
    )
    for name, row, row_shares in zip(
      student.classes, matrix, shares, strict=True
    )
  ]


def _make_note(many: bool) -> str:
  """Returns how to read the plots."""
  text = (
    'Accuracy by class: means over seeds. Reliability: accuracy of the '
    "exported student's predictions by their confidence (the largest "
    'probability), in 15 bins; the area of a marker is in proportion to the '
    'images in the bin. Below the dashed line a network is overconfident. ECE: '
    'expected calibration error (Guo et al. 2017).'
  )
  if many:
    text += (
      " Confusion matrix: the shade is the share of the row's images (square "
      'root); the table by class has the numbers of the classes.'
    )
  return text


def _percent(share: float | np.floating) -> str:
  return '-' if np.isnan(share) else f'{100 * share:.1f}'
