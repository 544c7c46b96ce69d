"""The results in a compression's run folders, gathered by method."""

import dataclasses
import os
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from ft_tf import json_files, run_dir
from ft_tf.report import tables

_LABELS = {
  'teacher': 'teacher',
  'scratch': 'baseline (no teacher)',
  'linear_head': 'linear head on frozen pretrained weights',
  'ft': 'student, factor transfer',
}
_NOT_DISTILLED = ('scratch', 'linear_head')

# What `Run.method` adds for a network that was trained further in int8.
_IN_INT8 = 'trained further in int8'


def label(method: str) -> str:
  """Returns the label in tables of a method, or of an arm like 'ft,beta=20'."""
  name, *point = method.split(',')
  return ', '.join([_LABELS.get(name, f'student, {name}'), *point])


def _sort_key(method: str) -> tuple[int, str]:
  """Returns the key that sorts methods: teacher, baseline, ft, the others."""
  names = list(_LABELS)
  name = trained_first(method)
  return (names.index(name) if name in names else len(names)), method


def trained_first(method: str) -> str:
  """Returns the method by which a network was trained before int8."""
  return method.removesuffix(f',{_IN_INT8}')


def exported_method(methods: Iterable[str]) -> str:
  """Returns which of a compression's methods its exported student has."""
  students = [method for method in methods if method != 'teacher']
  distilled = [m for m in students if trained_first(m) not in _NOT_DISTILLED]
  trained = (distilled or students)[0]
  further = f'{trained},{_IN_INT8}'
  return further if further in students else trained


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
    """The method; other than before where the network was trained further."""
    method = self.result['method']
    return f'{method},{_IN_INT8}' if self._is_in_int8() else method

  @property
  def accuracy(self) -> float:
    """Test accuracy (0..1) of the Keras model, in float."""
    return self.result['float_accuracy' if self._is_in_int8() else 'accuracy']

  def _is_in_int8(self) -> bool:
    return self.name in (run_dir.QAT, run_dir.QAT_BASELINE)


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

  def exported(self, file: str) -> dict[str, Any] | None:
    """Returns the figures of an exported file; None without one.

    A dead student has none in int8, a teacher none in float16.
    """
    return (self.export or {}).get(file)

  def bytes(self, file: str) -> int | None:
    """Returns the size of an exported file; None without one."""
    figures = self.exported(file)
    return None if figures is None else figures['bytes']


@json_files.explains
def read_runs(root: run_dir.RunDir) -> list[Run]:
  """Returns the finished runs of a compression: teacher, then the students."""
  names = ['teacher']
  comparison = root.child('comparison').path
  if os.path.isdir(comparison):
    names += [
      os.path.join('comparison', name)
      for name in sorted(os.listdir(comparison))
    ]
  names += ['student', run_dir.QAT, run_dir.QAT_BASELINE]
  results = {name: root.child(name).read('result.json') for name in names}
  finished = []
  for name, result in results.items():
    if result is not None:
      run = root.child(name)
      export = root.read(_export_of(name, results))
      predictions = run.read(run_dir.PREDICTIONS)
      finished.append(Run(name, result, run.metrics(), export, predictions))
  return sorted(
    finished, key=lambda run: (_sort_key(run.method), run.result['seed'] or 0)
  )


def _export_of(name: str, results: Mapping[str, Any]) -> str:
  """Returns where the `export.json` of a run is.

  An export lies beside the run that was trained first. One that was made before
  the network was trained further was set aside.

  Args:
    name: The run's.
    results: The content of `result.json` by run; None: not finished.
  """
  baseline = results.get(run_dir.QAT_BASELINE)
  # What was trained further, and what it was before.
  firsts = {run_dir.QAT: 'student'}
  if baseline:
    firsts[run_dir.QAT_BASELINE] = f'comparison/scratch-{baseline["seed"]}'
  continued = [first for run, first in firsts.items() if results.get(run)]
  first = firsts.get(name, name)
  return os.path.join(
    # The student is exported into the compression's folder, not its run's.
    '' if first == 'student' else first,
    run_dir.EXPORT_BEFORE_QAT if name in continued else 'export',
    'export.json',
  )


def make_rows(runs: list[Run]) -> list[Row]:
  """Returns one row per method, in the order of their first runs."""
  by_method: dict[str, list[Run]] = {}
  for run in runs:
    by_method.setdefault(run.method, []).append(run)
  return [
    Row(
      method,
      tuple(run.accuracy for run in seeds),
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
  int8 = row.exported(run_dir.INT8)
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
    run.result['seed']: run.accuracy for run in runs if run.method == method
  }


def to_markdown(table: list[Row]) -> str:
  """Returns the table as aligned Markdown."""
  return tables.to_markdown(HEADER, [format_cells(row) for row in table])
