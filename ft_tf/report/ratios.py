"""The student's accuracy, size and speed, compared with the teacher's."""

from collections.abc import Sequence
from typing import NamedTuple

from ft_tf import run_dir
from ft_tf.report import summary


class Ratio(NamedTuple):
  """One figure of the student against the teacher's.

  Attributes:
    value: The ratio or difference, such as '9.2x'.
    what: What it is of, such as 'smaller int8 file'.
    detail: Both figures.
  """

  value: str
  what: str
  detail: str


def compare(teacher: summary.Row, student: summary.Row) -> Sequence[Ratio]:
  """Returns accuracy, parameters, and bytes and latency of the int8 file.

  The int8 file is compared with the teacher's int8 file. A teacher that does
  not convert to TFLite has none, and the ratios are left out.
  """
  gain = 100 * (student.mean - teacher.mean)
  ratios = [
    Ratio(
      f'{gain:+.2f}',
      'points of test accuracy',
      f'{100 * student.mean:.2f} %; teacher {100 * teacher.mean:.2f} %',
    ),
    _ratio(
      student.parameters,
      teacher.parameters,
      ('fewer parameters', 'more parameters'),
      '{:,}',
    ),
  ]
  own = student.exported(run_dir.INT8)
  other = teacher.exported(run_dir.INT8)
  if own and other:
    ratios.append(
      _ratio(
        own['bytes'] / 1024,
        other['bytes'] / 1024,
        ('smaller int8 file', 'larger int8 file'),
        '{:,.1f} KiB',
      )
    )
    if 'latency_ms' in own and 'latency_ms' in other:
      ratios.append(
        _ratio(
          own['latency_ms']['p50'],
          other['latency_ms']['p50'],
          ('faster as int8 file', 'slower as int8 file'),
          '{:.3f} ms',
        )
      )
  return ratios


def _ratio(
  student: float, teacher: float, words: tuple[str, str], form: str
) -> Ratio:
  """Returns how much less the student has; more, if it has more."""
  larger, smaller = max(student, teacher), min(student, teacher)
  ratio = larger / smaller if smaller else float('inf')
  return Ratio(
    f'{ratio:.1f}x' if ratio < 10 else f'{ratio:,.0f}x',
    words[student > teacher],
    f'{form.format(student)}; teacher {form.format(teacher)}',
  )
