"""What the folders of a comparison say: tables, verdicts, a page."""

import base64
import csv
import dataclasses
import io
import json
import os
import statistics
from collections.abc import Iterable
from typing import Any

from ft_tf import run_dir
from ft_tf.report import html, paired, plots, summary, tables

PLAN = 'plan.json'  # the names of all arms that were asked for, in order
_ALONE = 'scratch'


@dataclasses.dataclass(frozen=True)
class Row(summary.Row):
  """One arm over its seeds.

  Attributes:
    runs: Its finished runs, by seed.
    gain: Of test accuracy over the baseline, the student alone, by the same
      seeds; None for the teacher, the baseline, and without the latter.
  """

  runs: tuple[summary.Run, ...]
  gain: paired.Gain | None

  def figure(self, name: str) -> float | None:
    """Returns the mean of a figure of the results, or None if one lacks it."""
    values = [run.result.get(name) for run in self.runs]
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None


def runs(root: run_dir.RunDir) -> list[summary.Run]:
  """Returns the finished runs: teacher, then arms in the order of the plan."""
  planned = ['teacher', *(root.read(PLAN) or [])]
  names = ['teacher']
  folder = root.child('runs').path
  if os.path.isdir(folder):
    names += [os.path.join('runs', name) for name in os.listdir(folder)]
  found = []
  for name in names:
    run = root.child(name)
    result = run.read('result.json')
    if result is not None:
      export = run.read(os.path.join('export', 'export.json'))
      found.append(summary.Run(name, result, run.metrics(), export))

  def place(run):
    known = run.method in planned
    order = planned.index(run.method) if known else len(planned)
    return order, run.method, run.result['seed'] or 0

  return sorted(found, key=place)


def rows(found: list[summary.Run]) -> list[Row]:
  """Returns one row per arm, in the order of the runs."""
  by_method: dict[str, list[summary.Run]] = {}
  for run in found:
    by_method.setdefault(run.method, []).append(run)
  baselines = {method: _baseline(method, by_method) for method in by_method}
  gains = paired.gains(
    {
      method: (
        summary.by_seed(found, method),
        summary.by_seed(found, baseline),
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
    for row in summary.rows(found)
  ]


def _baseline(method: str, methods: Iterable[str]) -> str | None:
  """Returns the student alone at the same point of a sweep, if there is one."""
  name, point = _parts(method)
  if name in ('teacher', _ALONE):
    return None
  # What says nothing to the student alone is not part of its name.
  alone = [
    other
    for other in methods
    if _parts(other)[0] == _ALONE and _parts(other)[1] <= point
  ]
  return max(alone, key=lambda other: len(_parts(other)[1]), default=None)


def _parts(arm: str) -> tuple[str, set[str]]:
  """Returns an arm's method, and what a sweep changes in it."""
  method, *point = arm.split(',')
  return method, set(point)


HEADER = [
  '',
  'accuracy %',
  'std',
  'seeds',
  'gain',
  '95 % interval',
  'p',
  'best epoch %',
  'as teacher %',
  'KL to teacher',
  'ECE %',
  'parameters',
  'int8 bytes',
  'int8 %',
  'seconds',
]


def cells(row: Row) -> list[str]:
  """Returns a row's cells under `HEADER`; what is not known is a dash."""

  def percent(value):
    return '-' if value is None else f'{100 * value:.2f}'

  def number(value, form=','):
    return '-' if value is None else format(value, form)

  gain, interval, p = '-', '-', '-'
  if row.gain is not None:
    gain = f'{100 * row.gain.mean:+.2f}'
    if row.gain.interval is not None:
      low, high = row.gain.interval
      interval = f'{100 * low:+.2f} .. {100 * high:+.2f}'
    if row.gain.p is not None:
      p = '< 0.001' if row.gain.p < 0.001 else f'{row.gain.p:.3f}'
  int8 = row.export and row.export[run_dir.INT8]
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


KNOWLEDGE_HEADER = [
  '',
  'CKA of features',
  'shuffled',
  'CKA of factors',
  'shuffled',
  'CKA of feature and factor',
  'shuffled',
  'linear probe %',
]
_CKA = ('feature_cka', 'factor_cka', 'feature_factor_cka')


def knowledge(root: run_dir.RunDir, table: list[Row]) -> list[list[str]]:
  """Returns cells under `KNOWLEDGE_HEADER`: means over the seeds of an arm.

  A CKA without the value of shuffled features is left out: it is the biased one
  of an older version.
  """
  lines = []
  for row in table:
    known = [root.child(run.name).read('knowledge.json') for run in row.runs]
    if None in known:
      continue

    def mean(name, form, known=known, scale=1):
      values = [its[name] for its in known if its.get(name) is not None]
      return format(scale * statistics.mean(values), form) if values else '-'

    cells = [row.label]
    for name in _CKA:
      shuffled = f'{name}_shuffled'
      debiased = all(shuffled in its for its in known)
      cells += [mean(name, '.3f') if debiased else '-', mean(shuffled, '.3f')]
    lines.append([*cells, mean('probe_accuracy', '.2f', scale=100)])
  return lines


def _pictures(
  root: run_dir.RunDir, table: list[Row]
) -> dict[str, dict[str, str]]:
  """Returns the maps of each arm's first run: at first, halfway, and last.

  By arm's label and step, as base64 of PNG.
  """
  found: dict[str, dict[str, str]] = {}
  for row in table:
    run = root.child(row.runs[0].name)
    known = os.path.isdir(run.pictures)
    names = sorted(os.listdir(run.pictures)) if known else []
    if not names:
      continue
    chosen = sorted({names[0], names[len(names) // 2], names[-1]})
    found[row.label] = {}
    for name in chosen:
      with open(os.path.join(run.pictures, name), 'rb') as file:
        step = str(int(name.removesuffix('.png')))
        found[row.label][step] = base64.b64encode(file.read()).decode()
  return found


def verdicts(table: list[Row]) -> list[str]:
  """Returns a sentence for each arm: better, worse or no clear difference."""
  if all(_parts(row.method)[0] != _ALONE for row in table):
    return [
      'No baseline (a student trained without a teacher), so that no gain is '
      f'known: add {_ALONE} to --methods.'
    ]
  return [
    f'{row.method}: {paired.words(row.gain)}.'
    for row in table
    if row.gain is not None
  ]


def write(
  root: run_dir.RunDir, failures: dict[str, str] | None = None
) -> dict[str, Any]:
  """Writes comparison.json, .md, .csv, .tex and .html; returns the first.

  Args:
    root: The comparison's folder.
    failures: What went wrong, by the run's name.
  """
  failures = failures or {}
  found = runs(root)
  table = rows(found)
  comparison: dict[str, Any] = {
    'rows': [_plain(row) for row in table],
    'verdicts': verdicts(table),
    'failures': failures,
  }
  lines = [cells(row) for row in table]
  root.write('comparison.json', comparison)
  _write(root, 'md', markdown(table) + '\n')
  _write(root, 'csv', _csv(comparison['rows']))
  _write(root, 'tex', tables.latex(HEADER, lines) + '\n')
  recipe = root.read('recipe.json')
  html.write(
    os.path.join(root.path, 'comparison.html'),
    'comparison.html.jinja',
    recipe=recipe,
    recipe_text=json.dumps(recipe, indent=2),
    header=HEADER,
    rows=lines,
    verdicts=comparison['verdicts'],
    failures=failures,
    knowledge_header=KNOWLEDGE_HEADER,
    knowledge=knowledge(root, table),
    pictures=_pictures(root, table),
    paraphrasers=_paraphrasers(root),
    plots=_plots(found, table),
    environments=root.read('environment.json'),
  )
  return comparison


def markdown(table: list[Row]) -> str:
  """Returns the table as aligned Markdown."""
  return tables.markdown(HEADER, [cells(row) for row in table])


def _plots(found: list[summary.Run], table: list[Row]) -> dict[str, str]:
  students = [run for run in found if run.method != 'teacher']
  exported = [row for row in table if row.export]
  return {
    'Validation accuracy by epoch: mean and spread over seeds': plots.bands(
      students, 'validation_accuracy', 'validation accuracy, %', percent=True
    ),
    'Cross entropy of training by epoch': plots.bands(
      students, 'cross_entropy', 'cross entropy, nats'
    ),
    "The factor loss's gradient over cross entropy's, weighted": plots.bands(
      students, 'gradient_ratio_factor_transfer', 'ratio of norms'
    ),
    "Cosine of the factor loss's gradient and cross entropy's": plots.bands(
      students, 'gradient_cosine_factor_transfer', 'cosine'
    ),
    'Test accuracy against file size': plots.accuracy_by_size(exported)
    if exported
    else '',
  }


def _plain(row: Row) -> dict[str, Any]:
  """Returns a row as JSON has it, unrounded."""
  gain = row.gain and {
    **dataclasses.asdict(row.gain),
    'verdict': row.gain.verdict,
  }
  return {
    'method': row.method,
    'mean': row.mean,
    'std': row.std,
    'seeds': len(row.accuracies),
    'accuracies': list(row.accuracies),
    'seed_numbers': [run.result['seed'] for run in row.runs],
    'gain': gain,
    **{
      name: row.figure(name)
      for name in (
        'best_accuracy',
        'teacher_agreement',
        'teacher_divergence',
        'calibration_error',
        'wall_seconds',
      )
    },
    'parameters': row.parameters,
    'tflite_bytes': row.bytes(run_dir.FLOAT32),
    'tflite_int8_bytes': row.bytes(run_dir.INT8),
  }


def _csv(plain: list[dict[str, Any]]) -> str:
  """Returns the rows as CSV: lists with spaces, a gain's parts apart."""
  buffer = io.StringIO()
  lines = []
  for row in plain:
    gain = row['gain'] or {}
    line = {k: v for k, v in row.items() if k != 'gain'}
    line |= {
      f'gain_{name}': gain.get(name)
      for name in ('mean', 'low', 'high', 'p', 'verdict')
    }
    lines.append(
      {
        k: ' '.join(map(str, v)) if isinstance(v, list) else v
        for k, v in line.items()
      }
    )
  if lines:
    writer = csv.DictWriter(buffer, lines[0].keys(), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
  return buffer.getvalue()


def _write(root, extension, text):
  path = os.path.join(root.path, f'comparison.{extension}')
  with run_dir.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(text)


def _paraphrasers(root: run_dir.RunDir) -> dict[str, dict[str, Any]]:
  """Returns the results of the paraphrasers by their folders' names."""
  folder = root.child('paraphrasers').path
  names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  found = {
    os.path.relpath(its.path, folder): its.read('result.json')
    for name in names
    for its in root.child(f'paraphrasers/{name}').parts()
  }
  return {name: result for name, result in found.items() if result}
