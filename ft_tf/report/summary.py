"""What a compression's folders say, gathered by method."""

import dataclasses
import os
import statistics
from typing import Any

from ft_tf import run_dir
from ft_tf.report import tables

_LABELS = {
  'teacher': 'teacher',
  'scratch': 'student alone',
  'ft': 'student, factor transfer',
}


def label(method: str) -> str:
  """Returns what the tables call a method, or an arm such as 'ft,beta=20'."""
  name, *point = method.split(',')
  return ', '.join([_LABELS.get(name, f'student, {name}'), *point])


def _place(method: str) -> tuple[int, str]:
  """Returns what methods are sorted by: teacher, student alone, the rest."""
  names = list(_LABELS)
  return (names.index(method) if method in names else len(names)), method


@dataclasses.dataclass(frozen=True)
class Run:
  """One finished run of a network.

  Attributes:
    name: Its folder, relative to the compression's.
    result: Its `result.json`.
    metrics: Its rows.
    export: Its `export.json`, or None if it was not exported.
  """

  name: str
  result: dict[str, Any]
  metrics: list[dict[str, Any]]
  export: dict[str, Any] | None

  @property
  def method(self) -> str:
    return self.result['method']


@dataclasses.dataclass(frozen=True)
class Row:
  """One method over its seeds.

  Attributes:
    method: 'teacher', or a method of the student.
    accuracies: Test accuracy of the last epoch (0..1), by seed.
    parameters: Trainable weights of the network alone.
    export: `export.json` of the first seed, or None.
  """

  method: str
  accuracies: tuple[float, ...]
  parameters: int
  export: dict[str, Any] | None

  @property
  def label(self) -> str:
    return label(self.method)

  @property
  def mean(self) -> float:
    return statistics.mean(self.accuracies)

  @property
  def std(self) -> float | None:
    """Returns the sample standard deviation, None for a single seed."""
    if len(self.accuracies) < 2:
      return None
    return statistics.stdev(self.accuracies)

  def bytes(self, file: str) -> int | None:
    return self.export[file]['bytes'] if self.export else None


def runs(root: run_dir.RunDir) -> list[Run]:
  """Returns the finished runs of a compression: teacher, then the students."""
  names = ['teacher']
  comparison = root.child('comparison').path
  if os.path.isdir(comparison):
    names += [
      os.path.join('comparison', name)
      for name in sorted(os.listdir(comparison))
    ]
  names.append('student')
  found = []
  for name in names:
    run = root.child(name)
    result = run.read('result.json')
    if result is not None:
      # The student's export is the compression's own, at the top.
      owner = root if name == 'student' else run
      export = owner.read(os.path.join('export', 'export.json'))
      found.append(Run(name, result, run.metrics(), export))
  return sorted(
    found, key=lambda run: (_place(run.method), run.result['seed'] or 0)
  )


def rows(found: list[Run]) -> list[Row]:
  """Returns one row per method, in the order of their first runs."""
  by_method: dict[str, list[Run]] = {}
  for run in found:
    by_method.setdefault(run.method, []).append(run)
  return [
    Row(
      method,
      tuple(run.result['accuracy'] for run in same),
      same[0].result['parameters'],
      next((run.export for run in same if run.export), None),
    )
    for method, same in by_method.items()
  ]


def cells(row: Row) -> list[str]:
  """Returns a row's cells under `HEADER`."""

  def number(value):
    return '-' if value is None else f'{value:,}'

  spread = '-' if row.std is None else f'{100 * row.std:.2f}'
  int8 = row.export and row.export[run_dir.INT8]
  return [
    row.label,
    f'{100 * row.mean:.2f}',
    spread,
    str(len(row.accuracies)),
    number(row.parameters),
    number(row.bytes(run_dir.FLOAT32)),
    number(row.bytes(run_dir.INT8)),
    f'{100 * int8["accuracy"]:.2f}' if int8 else '-',
    f'{int8["latency_ms"]["p50"]:.3f}' if int8 else '-',
  ]


HEADER = [
  '',
  'accuracy %',
  'std',
  'seeds',
  'parameters',
  'TFLite float32 bytes',
  'TFLite int8 bytes',
  'int8 accuracy %',
  'int8 ms',
]


def by_seed(found: list[Run], method: str) -> dict[int, float]:
  """Returns the test accuracies (0..1) of a method by seed."""
  return {
    run.result['seed']: run.result['accuracy']
    for run in found
    if run.method == method
  }


def markdown(table: list[Row]) -> str:
  """Returns the table as aligned Markdown."""
  return tables.markdown(HEADER, [cells(row) for row in table])
