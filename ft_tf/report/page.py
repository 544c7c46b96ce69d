"""One HTML page about a compression, complete in itself."""

import importlib.resources
import json
from typing import Any

import jinja2

from ft_tf import run_dir
from ft_tf.report import plots, summary


def write(root: run_dir.RunDir) -> str:
  """Writes `report.html` from what the folders hold; returns its path.

  Args:
    root: A compression's folder, with `export/` and `samples.json`.
  """
  runs = summary.runs(root)
  table = summary.rows(runs)
  students = [run for run in runs if run.method != 'teacher']
  template = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  ).from_string(
    importlib.resources.files('ft_tf.report')
    .joinpath('page.html.jinja')
    .read_text('utf-8')
  )
  html = template.render(
    recipe=root.read('recipe.json'),
    recipe_text=json.dumps(root.read('recipe.json'), indent=2),
    header=summary.HEADER,
    rows=[summary.cells(row) for row in table],
    paraphraser=root.child('paraphraser').read('result.json'),
    export=root.read('export/export.json'),
    verdict=verdict(table),
    plots={
      'Validation accuracy by epoch': plots.curves(
        runs, 'validation_accuracy', 'validation accuracy, %', percent=True
      ),
      'Training cross entropy by epoch': plots.curves(
        students, 'cross_entropy', 'cross entropy, nats'
      ),
      'Factor loss by epoch (unweighted)': plots.curves(
        students, 'factor_transfer', 'factor loss'
      ),
      'Test accuracy against file size': plots.accuracy_by_size(table),
    },
    samples=root.read('samples.json'),
    environments=root.read('environment.json'),
    wall=_wall(root, runs),
  )
  path = f'{root.path}/report.html'
  with run_dir.replacing(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as file:
      file.write(html)
  return path


def verdict(table: list[summary.Row]) -> str:
  """Returns what the table says of the student, in one or two sentences."""
  by_method = {row.method: row for row in table}
  teacher, student = by_method['teacher'], by_method.get('ft')
  if student is None:
    return 'No student by factor transfer was trained in this run.'
  said = (
    f'The student reaches {100 * student.mean:.2f} % with '
    f'{teacher.parameters / student.parameters:.1f} times fewer parameters '
    f"than the teacher's {100 * teacher.mean:.2f} %."
  )
  alone = by_method.get('scratch')
  if alone is None:
    return said + (
      ' It was not compared with the same student trained alone: --baseline '
      'does that.'
    )
  gain = 100 * (student.mean - alone.mean)
  spread = max(student.std or 0, alone.std or 0)
  said += f' Against the same student trained alone: {gain:+.2f} points'
  if student.std is None:
    return said + ', of one seed each, which proves nothing yet.'
  return said + (
    f', where the seeds of one method spread by {100 * spread:.2f} (standard '
    f'deviation, {len(student.accuracies)} seeds).'
  )


def _wall(root, runs) -> list[tuple[str, Any]]:
  """Returns (stage, seconds) of every run, the paraphraser's included."""
  wall = [
    (run.name, run.result['wall_seconds'])
    for run in runs
    if 'wall_seconds' in run.result
  ]
  paraphraser = root.child('paraphraser').read('result.json')
  if paraphraser:
    wall.insert(1, ('paraphraser', paraphraser['wall_seconds']))
  return wall
