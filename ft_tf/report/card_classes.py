"""The tables of a model card by class, in Markdown."""

from collections.abc import Iterator

import numpy as np

from ft_tf.report import export_tables, predictions, tables

# Tables and matrices of more classes show a part.
MOST = 20


def by_class(
  student: predictions.Predictions, int8: predictions.Predictions | None
) -> Iterator[str]:
  """Yields the lines on accuracy by class.

  Args:
    student: The Keras student's predictions.
    int8: Those of its int8 file; None if there is no such file.
  """
  order = np.arange(len(student.classes))
  if len(order) > MOST:
    # Classes without images, NaN, come last.
    order = np.argsort(student.accuracy, kind='stable')[:MOST]
    yield (f'The {MOST} least accurate of {len(student.classes):,} classes:')
    yield ''
  by_file = [student] if int8 is None else [student, int8]
  yield tables.show_names(
    ['class', 'test images', 'Keras %', 'int8 file %'][: 2 + len(by_file)],
    [
      [
        student.classes[i],
        f'{int(student.images[i]):,}',
        *(_percent(each.accuracy[i]) for each in by_file),
      ]
      for i in order
    ],
  )
  figures = ', '.join(
    f'{name} {_percent(each.balanced_accuracy)} %'
    for name, each in zip(('Keras', 'int8 file'), by_file, strict=False)
  )
  yield ''
  yield f'Averaged over classes (balanced accuracy): {figures}.'


def mistakes(student: predictions.Predictions) -> Iterator[str]:
  """Yields the confusion matrix, or of many classes its largest cells."""
  if len(student.classes) <= MOST:
    yield (
      'Confusion matrix of the Keras student, in images. Rows: class of the '
      'label. Columns: predicted class.'
    )
    yield ''
    yield tables.show_names(
      ['label \\ predicted', *student.classes],
      [
        [name, *map(str, row)]
        for name, row in zip(student.classes, student.matrix(), strict=True)
      ],
    )
    return
  yield 'Most frequent mistakes of the Keras student:'
  yield ''
  yield tables.show_names(
    ['label', 'predicted', 'images', "% of the label's images"],
    [
      [label, predicted, f'{images:,}', f'{100 * share:.1f}']
      for label, predicted, images, share in student.confused_pairs(MOST)
    ],
  )


def _percent(share: float) -> str:
  return export_tables.MISSING if np.isnan(share) else f'{100 * share:.1f}'
