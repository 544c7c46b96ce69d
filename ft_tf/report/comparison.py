"""The files of a comparison's report: JSON, Markdown, CSV, LaTeX and HTML."""

import base64
import csv
import dataclasses
import io
import json
import os
from typing import Any

from ft_tf import json_files, run_dir, storage
from ft_tf.report import (
  comparison_table,
  html,
  knowledge_table,
  links,
  paired,
  plots,
  summary,
  tables,
)


@json_files.explains
def write(
  root: run_dir.RunDir, failures: dict[str, str] | None = None
) -> dict[str, Any]:
  """Writes comparison.json, .md, .csv, .tex and .html.

  Args:
    root: The comparison's folder.
    failures: The reason of each failed run, by the run's name.

  Returns:
    The content of comparison.json.
  """
  failures = failures or {}
  runs = comparison_table.read_runs(root)
  rows = comparison_table.make_rows(runs)
  comparison: dict[str, Any] = {
    'rows': [_to_json(row) for row in rows],
    'verdicts': make_verdicts(rows),
    'failures': failures,
  }
  cells = [comparison_table.format_cells(row) for row in rows]
  root.write('comparison.json', comparison)
  _write(root, 'md', comparison_table.to_markdown(rows) + '\n')
  _write(root, 'csv', _to_csv(comparison['rows']))
  _write(root, 'tex', tables.to_latex(comparison_table.HEADER, cells) + '\n')
  recipe = root.read('recipe.json')
  html.write(
    os.path.join(root.path, links.COMPARISON_PAGE),
    'comparison.html.jinja',
    recipe=recipe,
    recipe_text=json.dumps(recipe, indent=2),
    columns=comparison_table.COLUMNS,
    rows=cells,
    methods=root.read(comparison_table.METHODS),
    gains_plot=plots.plot_gains(rows),
    verdicts=comparison['verdicts'],
    failures=failures,
    knowledge_header=knowledge_table.HEADER,
    knowledge=knowledge_table.make_cells(root, rows),
    pictures=_read_pictures(root, rows),
    paraphrasers=_make_paraphraser_cells(root),
    plots=_make_plots(runs, rows),
    run_links={row.label: _link_runs(root, row) for row in rows},
    reports=links.reports_below(root),
    files=links.existing(
      root, [f'comparison.{form}' for form in ('json', 'csv', 'md', 'tex')]
    ),
    environments=root.read('environment.json'),
  )
  return comparison


def make_verdicts(rows: list[comparison_table.Row]) -> list[str]:
  """Returns a sentence per arm: better, worse or no clear difference."""
  methods = {comparison_table.split_arm(row.method)[0] for row in rows}
  if comparison_table.BASELINE not in methods:
    return [
      'No gain is known, because there is no baseline (the student trained '
      f'without a teacher): add {comparison_table.BASELINE} to --methods.'
    ]
  return [
    f'{row.method}: {paired.describe(row.gain)}.'
    for row in rows
    if row.gain is not None
  ]


def _make_plots(
  runs: list[summary.Run], rows: list[comparison_table.Row]
) -> dict[str, str]:
  """Returns the SVG plots by title; '' where no run has the data."""
  students = [run for run in runs if run.method != 'teacher']
  return {
    'Validation accuracy by epoch': plots.plot_means(
      students, 'validation_accuracy', 'validation accuracy, %', percent=True
    ),
    'Training cross entropy by epoch': plots.plot_means(
      students, 'cross_entropy', 'cross entropy, nats'
    ),
    'Gradient norm: weighted factor loss over cross entropy': plots.plot_means(
      students, 'gradient_ratio_factor_transfer', 'ratio of norms'
    ),
    'Gradient cosine: factor loss and cross entropy': plots.plot_means(
      students, 'gradient_cosine_factor_transfer', 'cosine'
    ),
    'Test accuracy against file size': plots.plot_accuracy_by_size(rows),
  }


def _to_json(row: comparison_table.Row) -> dict[str, Any]:
  """Returns a row of comparison.json, with unrounded values."""
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


def _to_csv(rows: list[dict[str, Any]]) -> str:
  """Returns the rows of comparison.json as CSV.

  A list becomes one cell, separated by spaces; a gain becomes several columns.
  """
  buffer = io.StringIO()
  lines = []
  for row in rows:
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
  with storage.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(text)


def _make_paraphraser_cells(root: run_dir.RunDir) -> list[list[str]]:
  """Returns a table row for each finished paraphraser."""
  folder = root.child('paraphrasers').path
  names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  results = [
    (os.path.relpath(layer_run.path, folder), layer_run.read('result.json'))
    for name in names
    for layer_run in root.child(f'paraphrasers/{name}').parts()
  ]
  return [
    [
      name,
      f'{result["reconstruction"]:.3f}',
      f'{result["reconstruction_of_mean"]:.3f}',
      str(result['factors']),
      str(result['dead_factors']),
    ]
    for name, result in results
    if result
  ]


def _link_runs(
  root: run_dir.RunDir, row: comparison_table.Row
) -> list[links.Link]:
  """Returns links to the runs of an arm, their exports and their reports."""
  targets = []
  for run in row.runs:
    seed = run.result['seed']
    text = run.name if seed is None else f'seed {seed}'
    targets.append(links.to(run.name, text))
    for name, what in (('export', 'export'), ('report.html', 'report')):
      path = os.path.join(run.name, name)
      if os.path.exists(os.path.join(root.path, path)):
        targets.append(links.to(path, f'{text}, {what}'))
  return targets


def _read_pictures(
  root: run_dir.RunDir, rows: list[comparison_table.Row]
) -> dict[str, dict[str, str]]:
  """Returns images of feature maps from the first run of each arm.

  Returns:
    PNG files in base64, by the arm's label and the step: the first, the middle
    and the last step that has one.
  """
  pictures: dict[str, dict[str, str]] = {}
  for row in rows:
    run = root.child(row.runs[0].name)
    has_pictures = os.path.isdir(run.pictures)
    names = sorted(os.listdir(run.pictures)) if has_pictures else []
    if not names:
      continue
    chosen = sorted({names[0], names[len(names) // 2], names[-1]})
    pictures[row.label] = {}
    for name in chosen:
      with open(os.path.join(run.pictures, name), 'rb') as file:
        step = str(int(name.removesuffix('.png')))
        pictures[row.label][step] = base64.b64encode(file.read()).decode()
  return pictures
