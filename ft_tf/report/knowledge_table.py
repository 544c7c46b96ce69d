"""The table of what the students of a comparison know: CKA and linear probe."""

import statistics

from ft_tf import run_dir
from ft_tf.report import comparison_table

HEADER = [
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


def make_cells(
  root: run_dir.RunDir, rows: list[comparison_table.Row]
) -> list[list[str]]:
  """Returns the cells under `HEADER` of each arm: means over its seeds.

  Arms with a run that has no `knowledge.json` are left out. A CKA that has no
  value for shuffled features is a dash, because it is the biased estimate of an
  older version.
  """
  lines = []
  for row in rows:
    measured = [root.child(run.name).read('knowledge.json') for run in row.runs]
    if None in measured:
      continue

    def mean(name, format_spec, measured=measured, scale=1):
      values = [
        figures[name] for figures in measured if figures.get(name) is not None
      ]
      if not values:
        return '-'
      return format(scale * statistics.mean(values), format_spec)

    cells = [row.label]
    for name in _CKA:
      shuffled = f'{name}_shuffled'
      debiased = all(shuffled in figures for figures in measured)
      cells += [mean(name, '.3f') if debiased else '-', mean(shuffled, '.3f')]
    lines.append([*cells, mean('probe_accuracy', '.2f', scale=100)])
  return lines
