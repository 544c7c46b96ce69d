"""The self-contained HTML report of a compression."""

import json
from collections.abc import Sequence
from typing import Any

from ft_tf import json_files, run_dir
from ft_tf.report import (
  export_tables,
  html,
  links,
  model_card,
  paired,
  plots,
  predictions_section,
  ratios,
  summary,
)

_BASELINE = 'baseline (the same student trained without a teacher)'
_LINEAR_HEAD = 'linear head on the frozen pretrained student'
_CARD = f'export/{model_card.NAME}'
# Files that the page links to where they are there.
_LINKED = (
  'export/labels.txt',
  'export/export.json',
  'export/latency.json',
  'export/layers.json',
  'student/model.keras',
  'student/best.keras',
  'teacher/model.keras',
  'result.json',
  'recipe.json',
  'student',
  'comparison',
)


@json_files.explains
def write(root: run_dir.RunDir) -> str:
  """Writes `report.html` from the files of the run folders; returns its path.

  Sections whose files are not there, as in a folder of an older version, are
  left out.

  Args:
    root: The folder of a compression, with `export/` and `samples.json`.
  """
  runs = summary.read_runs(root)
  table = summary.make_rows(runs)
  recipe = root.read('recipe.json')
  path = f'{root.path}/report.html'
  html.write(
    path,
    'page.html.jinja',
    recipe=recipe,
    recipe_text=json.dumps(recipe, indent=2),
    comparison=links.comparison_above(root),
    verdict=make_verdict(runs),
    ratios=_make_ratios(table),
    header=summary.HEADER,
    rows=[summary.format_cells(row) for row in table],
    paraphrasers=_paraphraser_results(root),
    files=_describe_files(root),
    size_plot=plots.plot_accuracy_by_size(table),
    links=links.existing(root, _LINKED),
    student_plots=_plot_students([r for r in runs if r.method != 'teacher']),
    teacher_plots=_plot_teacher([r for r in runs if r.method == 'teacher']),
    predictions=predictions_section.make_section(
      root, runs, _student_method(table)
    ),
    samples=_group_samples(root.read('samples.json') or []),
    environments=root.read('environment.json'),
    wall=_training_seconds(root, runs),
  )
  return path


def _describe_files(root: run_dir.RunDir) -> dict[str, Any]:
  """Returns what the template shows of the exported files."""
  export = root.read('export/export.json')
  measured = root.read('export/latency.json')
  studied = root.read('export/layers.json')
  return {
    'card': links.existing(root, [_CARD]),
    'summary': export_tables.summarise(export, measured),
    'summary_note': export_tables.SUMMARY_NOTE,
    'latency': export_tables.latency(export, measured),
    'latency_note': export_tables.latency_note(
      measured, root.read('environment.json')
    ),
    'layers': export_tables.layers(studied),
    'layers_note': export_tables.layers_note(studied) if studied else '',
    'tensors': export_tables.tensors(export),
  }


def _plot_students(students: Sequence[summary.Run]) -> dict[str, str]:
  """Returns the plots of the students by title; '' where data are missing."""
  return {
    'Validation accuracy by epoch': plots.plot_means(
      students, 'validation_accuracy', 'validation accuracy, %', percent=True
    ),
    'Training cross entropy by epoch': plots.plot_means(
      students, 'cross_entropy', 'cross entropy, nats'
    ),
    **{
      f'{_title(term)} by epoch (unweighted)': plots.plot_means(
        students, term, 'factor loss'
      )
      for term in _factor_terms(students)
    },
  }


def _plot_teacher(teachers: Sequence[summary.Run]) -> dict[str, str]:
  """Returns the plots of the teacher by title; '' for a given teacher."""
  return {
    "Teacher's validation accuracy by epoch": plots.plot_means(
      teachers, 'validation_accuracy', 'validation accuracy, %', percent=True
    ),
    "Teacher's training cross entropy by epoch": plots.plot_means(
      teachers, 'cross_entropy', 'cross entropy, nats'
    ),
  }


def _student_method(table: Sequence[summary.Row]) -> str:
  """Returns the method of the exported student."""
  return summary.exported_method(row.method for row in table)


def _make_ratios(table: Sequence[summary.Row]) -> Sequence[ratios.Ratio]:
  by_method = {row.method: row for row in table}
  return ratios.compare(by_method['teacher'], by_method[_student_method(table)])


def _group_samples(
  samples: list[dict[str, str]],
) -> dict[str, list[dict[str, str]]]:
  """Returns the samples by the heading of their group.

  Older versions do not tell the groups apart.
  """
  headings = {
    'spread': 'Across the test split',
    'mistakes': 'Misclassified by the int8 file',
    None: 'Across the test split, then misclassified by the int8 file',
  }
  return {
    heading: [s for s in samples if s.get('chosen') == chosen]
    for chosen, heading in headings.items()
  }


def make_verdict(runs: list[summary.Run]) -> str:
  """Compares the student with teacher and baseline, in two sentences."""
  table = summary.make_rows(runs)
  by_method = {row.method: row for row in table}
  teacher = by_method['teacher']
  exported = summary.exported_method(by_method)
  # Methods are compared as they were trained first, over all seeds.
  student = by_method[summary.trained_first(exported)]
  if student.method in ('scratch', 'linear_head'):
    return 'No student that learns from the teacher was trained in this run.'
  result = (
    f'The student reaches {100 * student.mean:.2f} % with '
    f'{teacher.parameters / student.parameters:.1f} times fewer parameters '
    f"than the teacher's {100 * teacher.mean:.2f} %."
  )
  if exported != student.method:
    result += (
      ' The exported student was trained further in int8 and has '
      f'{100 * by_method[exported].mean:.2f} % in float.'
    )
  gain = paired.compute_gain(
    summary.accuracy_by_seed(runs, student.method),
    summary.accuracy_by_seed(runs, 'scratch'),
  )
  over_head = paired.compute_gain(
    summary.accuracy_by_seed(runs, student.method),
    summary.accuracy_by_seed(runs, 'linear_head'),
  )
  if over_head is not None:
    result += (
      f' Compared with the {_LINEAR_HEAD}: {paired.describe(over_head)}.'
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


def _factor_terms(runs: Sequence[summary.Run]) -> list[str]:
  """Returns the names of the factor losses, one per layer pair."""
  names = {name for run in runs for row in run.metrics for name in row}
  return sorted(n for n in names if n.startswith('factor_transfer'))


def _title(term: str) -> str:
  return term.replace('factor_transfer', 'Factor loss').replace('_', ' ')
