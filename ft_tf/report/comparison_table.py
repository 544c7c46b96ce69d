"""The rows of a comparison: one arm over its seeds, against its baseline."""

import dataclasses
import os
import statistics
from collections.abc import Iterable
from typing import NamedTuple

from ft_tf import json_files, run_dir
from ft_tf.report import paired, summary, tables

PLAN = 'plan.json'  # the names of all arms of the comparison, in order
METHODS = 'methods.json'  # what each method is, by its name
BASELINE = 'scratch'


@dataclasses.dataclass(frozen=True)
class Row(summary.Row):
  """One arm over its seeds.

  Attributes:
    runs: The finished runs of the arm, by seed.
    gain: The gain in test accuracy over the baseline (the student trained
      without a teacher) of the same seeds. None for the teacher, for the
      baseline itself, and where there is no baseline.
  """

  runs: tuple[summary.Run, ...]
  gain: paired.Gain | None

  def figure(self, name: str) -> float | None:
    """Returns the mean of a field of `result.json`; None if a run lacks it."""
    values = [run.result.get(name) for run in self.runs]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


@json_files.explains
def read_runs(root: run_dir.RunDir) -> list[summary.Run]:
  """Returns the finished runs: the teacher, then the arms in planned order."""
  planned = ['teacher', *(root.read(PLAN) or [])]
  names = ['teacher']
  folder = root.child('runs').path
  if os.path.isdir(folder):
    names += [os.path.join('runs', name) for name in os.listdir(folder)]
  finished = []
  for name in names:
    run = root.child(name)
    result = run.read('result.json')
    if result is not None:
      export = run.read(os.path.join('export', 'export.json'))
      finished.append(summary.Run(name, result, run.metrics(), export))

  def sort_key(run):
    in_plan = run.method in planned
    position = planned.index(run.method) if in_plan else len(planned)
    return position, run.method, run.result['seed'] or 0

  return sorted(finished, key=sort_key)


def make_rows(runs: list[summary.Run]) -> list[Row]:
  """Returns one row per arm, in the order of the runs."""
  by_method: dict[str, list[summary.Run]] = {}
  for run in runs:
    by_method.setdefault(run.method, []).append(run)
  baselines = {
    method: _find_baseline(method, by_method) for method in by_method
  }
  gains = paired.compute_gains(
    {
      method: (
        summary.accuracy_by_seed(runs, method),
        summary.accuracy_by_seed(runs, baseline),
      )
      for method, baseline in baselines.items()
      if baseline is not None
    }
  )
  return [
    Row(
      method=row.method,
      accuracies=row.accuracies,
      parameters=row.parameters,
      export=row.export,
      runs=tuple(by_method[row.method]),
      gain=gains.get(row.method),
    )
    for row in summary.make_rows(runs)
  ]


def _find_baseline(arm: str, arms: Iterable[str]) -> str | None:
  """Returns the baseline arm at the same point of a sweep, if there is one."""
  method, changes = split_arm(arm)
  if method in ('teacher', BASELINE):
    return None
  # A sweep over a field that the baseline does not use, such as beta, is not
  # part of the baseline's name. So its changes are a subset of the arm's, and
  # the largest subset is the nearest baseline.
  changes_by_baseline = {
    candidate: split_arm(candidate)[1]
    for candidate in arms
    if split_arm(candidate)[0] == BASELINE
    and split_arm(candidate)[1] <= changes
  }
  return max(
    changes_by_baseline,
    key=lambda candidate: len(changes_by_baseline[candidate]),
    default=None,
  )


def split_arm(arm: str) -> tuple[str, set[str]]:
  """Splits 'ft,beta=20' into the method and the fields that a sweep changes."""
  method, *changes = arm.split(',')
  return method, set(changes)


class Column(NamedTuple):
  """A column of the table: its name, and what it holds."""

  name: str
  about: str


COLUMNS = (
  Column('', ''),
  Column(
    'accuracy %', 'test accuracy after the last epoch, mean over the seeds'
  ),
  Column('std', 'sample standard deviation of the accuracy over the seeds'),
  Column('seeds', 'number of students that were trained'),
  Column(
    'gain',
    'mean difference in accuracy from the baseline of the same seed, in '
    'percentage points',
  ),
  Column(
    '95 % interval',
    'confidence interval of the gain (paired Student t test), corrected for '
    'the number of methods',
  ),
  Column(
    'p',
    'probability of a gain at least as large, of either sign, if the method '
    'made no difference; corrected for the number of methods',
  ),
  Column(
    'best epoch %',
    'test accuracy of the epoch with the highest accuracy on the validation '
    'images',
  ),
  Column(
    'as teacher %',
    'share of the test images for which student and teacher predict the same '
    'class',
  ),
  Column(
    'KL to teacher',
    'Kullback-Leibler divergence of the class probabilities, teacher to '
    'student, mean over the test images, in nats; 0: equal',
  ),
  Column(
    'ECE %',
    'expected calibration error: how far confidence and accuracy differ, in 15 '
    'bins of confidence (Guo et al. 2017)',
  ),
  Column('parameters', 'trained weights of the network, without translators'),
  Column('int8 bytes', 'size of the int8 TFLite file of the first seed'),
  Column('int8 %', 'test accuracy of the int8 TFLite file of the first seed'),
  Column('seconds', 'mean training time of a run on the machine below'),
)
HEADER = [column.name for column in COLUMNS]


def format_cells(row: Row) -> list[str]:
  """Returns a row's cells under `HEADER`; an unknown value is a dash."""

  def percent(value):
    return '-' if value is None else f'{100 * value:.2f}'

  def number(value, format_spec=','):
    return '-' if value is None else format(value, format_spec)

  gain, interval, p = '-', '-', '-'
  if row.gain is not None:
    gain = f'{100 * row.gain.mean:+.2f}'
    if row.gain.interval is not None:
      low, high = row.gain.interval
      interval = f'{100 * low:+.2f} .. {100 * high:+.2f}'
    if row.gain.p is not None:
      p = '< 0.001' if row.gain.p < 0.001 else f'{row.gain.p:.3f}'
  int8 = row.exported(run_dir.INT8)
  return [
    row.label,
    percent(row.mean),
    percent(row.std),
    str(len(row.accuracies)),
    gain,
    interval,
    p,
    percent(row.figure('best_accuracy')),
    percent(row.figure('teacher_agreement')),
    number(row.figure('teacher_divergence'), '.3f'),
    percent(row.figure('calibration_error')),
    number(row.parameters),
    number(row.bytes(run_dir.INT8)),
    percent(int8 and int8['accuracy']),
    number(row.figure('wall_seconds'), '.0f'),
  ]


def to_markdown(rows: list[Row]) -> str:
  """Returns the rows as aligned Markdown."""
  return tables.to_markdown(HEADER, [format_cells(row) for row in rows])
