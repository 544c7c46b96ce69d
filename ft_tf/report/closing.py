"""The last lines of a command, for a person: table, verdict, what is next."""

import os
import shlex
import textwrap
from typing import Any

from ft_tf import json_files, run_dir
from ft_tf.report import comparison_table, page, summary

_WIDTH = 79
_UNKNOWN = '-'


@json_files.explains
def describe_compression(
  root: run_dir.RunDir, *, data_dir: str | None = None
) -> str:
  """Returns the table of a compression, its verdict, and what to do next.

  Args:
    root: The folder of the compression, which is complete.
    data_dir: Where its data set lies; None: in the default folder of TFDS.
  """
  runs = summary.read_runs(root)
  header = ['', 'accuracy %', 'seeds', 'parameters', 'int8 bytes', 'int8 ms']
  rows = []
  for row in summary.make_rows(runs):
    int8 = row.exported(run_dir.INT8)
    rows.append(
      [
        row.label,
        _accuracy(row),
        str(len(row.accuracies)),
        f'{row.parameters:,}',
        f'{int8["bytes"]:,}' if int8 else _UNKNOWN,
        f'{int8["latency_ms"]["p50"]:.3f}' if int8 else _UNKNOWN,
      ]
    )
  export = os.path.join(root.path, 'export')
  command = [
    'ft-tf',
    'evaluate',
    f'--model={_short(os.path.join(export, run_dir.INT8))}',
    f'--dataset={root.read("recipe.json")["data"]["dataset"]}',
    *([f'--data_dir={_short(data_dir)}'] if data_dir else []),
  ]
  return _join(
    _align(header, rows),
    [page.make_verdict(runs)],
    {
      'report': _short(os.path.join(root.path, 'report.html')),
      '.tflite files': _short(export),
      'curves': _tensorboard(root),
      'check a file': shlex.join(command),
      'in a browser': shlex.join(
        ['ft-tf', 'demo', f'--export={_short(export)}']
      ),
    },
  )


@json_files.explains
def describe_comparison(
  root: run_dir.RunDir, comparison: dict[str, Any]
) -> str:
  """Returns the table of a comparison, its verdicts, and what to do next.

  Args:
    root: The folder of the comparison.
    comparison: The content of `comparison.json`.
  """
  header = ['', 'accuracy %', 'seeds', 'gain', '95 % interval', 'int8 bytes']
  rows = []
  table = comparison_table.make_rows(comparison_table.read_runs(root))
  for row in table:
    gain, interval = _UNKNOWN, _UNKNOWN
    if row.gain is not None:
      gain = f'{100 * row.gain.mean:+.2f}'
      if row.gain.interval is not None:
        low, high = row.gain.interval
        interval = f'{100 * low:+.2f}..{100 * high:+.2f}'
    size = row.bytes(run_dir.INT8)
    rows.append(
      [
        row.label,
        _accuracy(row),
        str(len(row.accuracies)),
        gain,
        interval,
        _UNKNOWN if size is None else f'{size:,}',
      ]
    )
  if len(_align(header, rows).partition('\n')[0]) > _WIDTH:
    # The points of a sweep: as the verdicts call them.
    for cells, row in zip(rows, table, strict=True):
      if ',' in row.method:
        cells[0] = row.method
  following = {
    'report': _short(os.path.join(root.path, 'comparison.html')),
    'tables': _short(os.path.join(root.path, 'comparison.{md,csv,tex,json}')),
    'curves': _tensorboard(root),
  }
  if any(
    row['gain'] and row['gain']['verdict'] == 'no clear difference'
    for row in comparison['rows']
  ):
    following['more seeds'] = 'the same command with more --seeds adds to these'
  return _join(_align(header, rows), comparison['verdicts'], following)


def _join(table: str, sentences: list[str], following: dict[str, str]) -> str:
  """Returns the parts with empty lines between them.

  Commands and paths are not wrapped, so that they can be copied.
  """
  verdict = '\n'.join(
    textwrap.fill(sentence, _WIDTH, subsequent_indent='  ')
    if len(sentences) > 1
    else textwrap.fill(sentence, _WIDTH)
    for sentence in sentences
  )
  width = max(map(len, following)) + 2
  lines = [f'  {name:<{width}}{text}' for name, text in following.items()]
  return '\n\n'.join([table, verdict, '\n'.join(['Next:', *lines])])


def _align(header: list[str], rows: list[list[str]]) -> str:
  """Returns a table: the first column to the left, the others to the right."""
  lines = [header, *rows]
  widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
  return '\n'.join(
    '  '.join(
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    for line in lines
  )


def _accuracy(row: summary.Row) -> str:
  """Returns mean and standard deviation in percent."""
  spread = '' if row.std is None else f' ± {100 * row.std:.2f}'
  return f'{100 * row.mean:.2f}{spread}'


def _tensorboard(root: run_dir.RunDir) -> str:
  return shlex.join(['tensorboard', f'--logdir={_short(root.path)}'])


def _short(path: str) -> str:
  """Returns a path from the current folder, if it is below that."""
  relative = os.path.relpath(path)
  return path if relative.startswith(os.pardir) else relative
