"""The results in a compression's run folders, gathered by method."""

import dataclasses
import os
import statistics
from typing import Any

from ft_tf import run_dir
from ft_tf.report import tables

_LABELS = {
  'teacher': 'teacher',
  'scratch': 'baseline (no teacher)',
  'ft': 'student, factor transfer',
}


def label(method: str) -> str:
  """Returns the label in tables of a method, or of an arm like 'ft,beta=20'."""
  name, *point = method.split(',')
  return ', '.join([_LABELS.get(name, f'student, {name}'), *point])


def _sort_key(method: str) -> tuple[int, str]:
  """Returns the key that sorts methods: teacher, baseline, ft, the others."""
  names = list(_LABELS)
  return (names.index(method) if method in names else len(names)), method


@dataclasses.dataclass(frozen=True)
class Run:
  """One finished run of a network.

  Attributes:
    name: The run's folder, relative to the compression's.
    result: The content of `result.json`.
    metrics: The rows of `metrics.jsonl`.
    export: The content of `export.json`; None if the run was not exported.
    predictions: The content of `predictions.json`; None if there is no such
      file, as in runs of older versions.
  """

  name: str
  result: dict[str, Any]
  metrics: list[dict[str, Any]]
  export: dict[str, Any] | None
  predictions: dict[str, Any] | None = None

  @property
  def method(self) -> str:
    return self.result['method']


@dataclasses.dataclass(frozen=True)
class Row:
  """One method over its seeds.

  Attributes:
    method: 'teacher', or a method of the student.
    accuracies: Test accuracy of the last epoch (0..1), by seed.
    parameters: Trainable weights of the network, without adapters.
    export: `export.json` of the first exported seed, or None.
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
    """Returns the sample standard deviation; None for a single seed."""
    if len(self.accuracies) < 2:
      return None
    return statistics.stdev(self.accuracies)

  def bytes(self, file: str) -> int | None:
    """Returns the size of an exported file; None without an export."""
    return self.export[file]['bytes'] if self.export else None


def read_runs(root: run_dir.RunDir) -> list[Run]:
  """Returns the finished runs of a compression: teacher, then the students."""
  names = ['teacher']
  comparison = root.child('comparison').path
  if os.path.isdir(comparison):
    names += [
      os.path.join('comparison', name)
      for name in sorted(os.listdir(comparison))
    ]
  names.append('student')
  finished = []
  for name in names:
    run = root.child(name)
    result = run.read('result.json')
    if result is not None:
      # The student is exported into the compression's folder, not its run's.
      exporter = root if name == 'student' else run
      export = exporter.read(os.path.join('export', 'export.json'))
      predictions = run.read(run_dir.PREDICTIONS)
      finished.append(Run(name, result, run.metrics(), export, predictions))
  return sorted(
    finished, key=lambda run: (_sort_key(run.method), run.result['seed'] or 0)
  )


def make_rows(runs: list[Run]) -> list[Row]:
  """Returns one row per method, in the order of their first runs."""
  by_method: dict[str, list[Run]] = {}
  for run in runs:
    by_method.setdefault(run.method, []).append(run)
  return [
    Row(
      method,
      tuple(run.result['accuracy'] for run in seeds),
      seeds[0].result['parameters'],
      next((run.export for run in seeds if run.export), None),
    )
    for method, seeds in by_method.items()
  ]


def format_cells(row: Row) -> list[str]:
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


def accuracy_by_seed(runs: list[Run], method: str) -> dict[int, float]:
  """Returns a method's test accuracies (0..1) by seed."""
  return {
    run.result['seed']: run.result['accuracy']
    for run in runs
    if run.method == method
  }


def to_markdown(table: list[Row]) -> str:
  """Returns the table as aligned Markdown."""
  return tables.to_markdown(HEADER, [format_cells(row) for row in table])
