"""One HTML page about a compression, complete in itself."""

import json
from typing import Any

from ft_tf import run_dir
from ft_tf.report import html, paired, plots, summary

_BASELINE = 'baseline (the same student trained without a teacher)'


def write(root: run_dir.RunDir) -> str:
  """Writes `report.html` from what the folders hold; returns its path.

  Args:
    root: A compression's folder, with `export/` and `samples.json`.
  """
  runs = summary.runs(root)
  table = summary.rows(runs)
  students = [run for run in runs if run.method != 'teacher']
  path = f'{root.path}/report.html'
  html.write(
    path,
    'page.html.jinja',
    recipe=root.read('recipe.json'),
    recipe_text=json.dumps(root.read('recipe.json'), indent=2),
    header=summary.HEADER,
    rows=[summary.cells(row) for row in table],
    paraphrasers=_paraphrasers(root),
    export=root.read('export/export.json'),
    verdict=verdict(runs),
    plots={
      'Validation accuracy by epoch': plots.curves(
        runs, 'validation_accuracy', 'validation accuracy, %', percent=True
      ),
      'Training cross entropy by epoch': plots.curves(
        students, 'cross_entropy', 'cross entropy, nats'
      ),
      **{
        f'{_title(term)} by epoch (unweighted)': plots.curves(
          students, term, 'factor loss'
        )
        for term in _factor_terms(students)
      },
      'Test accuracy against file size': plots.accuracy_by_size(table),
    },
    samples=root.read('samples.json'),
    environments=root.read('environment.json'),
    wall=_wall(root, runs),
  )
  return path


def verdict(runs: list[summary.Run]) -> str:
  """Returns what the runs say of the student, in one or two sentences."""
  table = summary.rows(runs)
  by_method = {row.method: row for row in table}
  teacher = by_method['teacher']
  learned = [m for m in by_method if m not in ('teacher', 'scratch')]
  if not learned:
    return 'No student that learns from the teacher was trained in this run.'
  student = by_method[learned[0]]
  said = (
    f'The student reaches {100 * student.mean:.2f} % with '
    f'{teacher.parameters / student.parameters:.1f} times fewer parameters '
    f"than the teacher's {100 * teacher.mean:.2f} %."
  )
  gain = paired.gain(
    summary.by_seed(runs, student.method), summary.by_seed(runs, 'scratch')
  )
  if gain is None:
    return f'{said} There is no {_BASELINE} to compare it with: add --baseline.'
  return f'{said} Compared with the {_BASELINE}: {paired.words(gain)}.'


def _wall(
  root: run_dir.RunDir, runs: list[summary.Run]
) -> list[tuple[str, Any]]:
  """Returns (stage, seconds) of every run, the paraphraser's included."""
  wall = [
    (run.name, run.result['wall_seconds'])
    for run in runs
    if 'wall_seconds' in run.result
  ]
  for result in reversed(_paraphrasers(root)):
    wall.insert(1, ('paraphraser', result['wall_seconds']))
  return wall


def _paraphrasers(root: run_dir.RunDir) -> list[dict[str, Any]]:
  """Returns the results of the paraphrasers, one for each layer."""
  found = [its.read('result.json') for its in root.child('paraphraser').parts()]
  return [result for result in found if result]


def _factor_terms(runs: list[summary.Run]) -> list[str]:
  """Returns the names of the factor losses, one for each pair of layers."""
  names = {name for run in runs for row in run.metrics for name in row}
  return sorted(n for n in names if n.startswith('factor_transfer'))


def _title(term: str) -> str:
  return term.replace('factor_transfer', 'Factor loss').replace('_', ' ')
