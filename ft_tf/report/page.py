"""The self-contained HTML report of a compression."""

import json
from typing import Any

from ft_tf import run_dir
from ft_tf.report import html, paired, plots, summary

_BASELINE = 'baseline (the same student trained without a teacher)'


def write(root: run_dir.RunDir) -> str:
  """Writes `report.html` from the files of the run folders; returns its path.

  Args:
    root: The folder of a compression, with `export/` and `samples.json`.
  """
  runs = summary.read_runs(root)
  table = summary.make_rows(runs)
  students = [run for run in runs if run.method != 'teacher']
  path = f'{root.path}/report.html'
  html.write(
    path,
    'page.html.jinja',
    recipe=root.read('recipe.json'),
    recipe_text=json.dumps(root.read('recipe.json'), indent=2),
    header=summary.HEADER,
    rows=[summary.format_cells(row) for row in table],
    paraphrasers=_paraphraser_results(root),
    export=root.read('export/export.json'),
    verdict=make_verdict(runs),
    plots={
      'Validation accuracy by epoch': plots.plot_runs(
        runs, 'validation_accuracy', 'validation accuracy, %', percent=True
      ),
      'Training cross entropy by epoch': plots.plot_runs(
        students, 'cross_entropy', 'cross entropy, nats'
      ),
      **{
        f'{_title(term)} by epoch (unweighted)': plots.plot_runs(
          students, term, 'factor loss'
        )
        for term in _factor_terms(students)
      },
      'Test accuracy against file size': plots.plot_accuracy_by_size(table),
    },
    samples=root.read('samples.json'),
    environments=root.read('environment.json'),
    wall=_training_seconds(root, runs),
  )
  return path


def make_verdict(runs: list[summary.Run]) -> str:
  """Compares the student with teacher and baseline, in two sentences."""
  table = summary.make_rows(runs)
  by_method = {row.method: row for row in table}
  teacher = by_method['teacher']
  distilled = [m for m in by_method if m not in ('teacher', 'scratch')]
  if not distilled:
    return 'No student that learns from the teacher was trained in this run.'
  student = by_method[distilled[0]]
  result = (
    f'The student reaches {100 * student.mean:.2f} % with '
    f'{teacher.parameters / student.parameters:.1f} times fewer parameters '
    f"than the teacher's {100 * teacher.mean:.2f} %."
  )
  gain = paired.compute_gain(
    summary.accuracy_by_seed(runs, student.method),
    summary.accuracy_by_seed(runs, 'scratch'),
  )
  if gain is None:
    return (
      f'{result} There is no {_BASELINE} to compare it with: add --baseline.'
    )
  return f'{result} Compared with the {_BASELINE}: {paired.describe(gain)}.'


def _training_seconds(
  root: run_dir.RunDir, runs: list[summary.Run]
) -> list[tuple[str, Any]]:
  """Returns (stage, seconds) of the runs and of the paraphrasers."""
  seconds = [
    (run.name, run.result['wall_seconds'])
    for run in runs
    if 'wall_seconds' in run.result
  ]
  # The paraphrasers are trained after the teacher, which is the first run.
  for result in reversed(_paraphraser_results(root)):
    seconds.insert(1, ('paraphraser', result['wall_seconds']))
  return seconds


def _paraphraser_results(root: run_dir.RunDir) -> list[dict[str, Any]]:
  """Returns the results of the finished paraphrasers, one per layer pair."""
  layer_runs = root.child('paraphraser').parts()
  results = [layer_run.read('result.json') for layer_run in layer_runs]
  return [result for result in results if result]


def _factor_terms(runs: list[summary.Run]) -> list[str]:
  """Returns the names of the factor losses, one per layer pair."""
  names = {name for run in runs for row in run.metrics for name in row}
  return sorted(n for n in names if n.startswith('factor_transfer'))


def _title(term: str) -> str:
  return term.replace('factor_transfer', 'Factor loss').replace('_', ' ')
