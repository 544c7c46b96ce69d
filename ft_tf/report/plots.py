"""The plots of the pages, as SVG text: curves, files and gains."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker

from ft_tf import run_dir
from ft_tf.report import comparison_table, drawing, summary

_MARKERS = {
  run_dir.FLOAT32: ('o', 'float32'),
  run_dir.FLOAT16: ('s', 'float16'),
  run_dir.INT8: ('D', 'int8'),
}
# Verdict to marker, and whether the marker is filled.
_VERDICTS = {
  'better': ('^', True),
  'worse': ('v', True),
  'no clear difference': ('o', False),
}


@drawing.style()
def plot_means(
  runs: Sequence[summary.Run], field: str, label: str, percent: bool = False
) -> str:
  """Plots a field of the metrics over epochs, as a line and band per method.

  The line is the mean over the seeds; the band is one sample standard deviation
  above and below it. Returns '' if no run has the field.

  Args:
    runs: The runs.
    field: The field of the rows of `metrics.jsonl`.
    label: Of the vertical axis.
    percent: Whether the field is a share (0..1), to be shown in per cent.
  """
  by_method: dict[str, dict[float, list[float]]] = {}
  for run in runs:
    for row in run.metrics:
      if row.get(field) is not None:
        epochs = by_method.setdefault(run.method, {})
        values = epochs.setdefault(row['epoch'], [])
        values.append(row[field] * (100 if percent else 1))
  if not by_method:
    return ''
  plot, axes = drawing.new()
  color = drawing.choose_colors(run.method for run in runs)
  dashes = drawing.choose_dashes(run.method for run in runs)
  for method, epochs in by_method.items():
    x = sorted(epochs)
    mean = np.array([np.mean(epochs[e]) for e in x])
    spread = np.array(
      [np.std(epochs[e], ddof=1) if len(epochs[e]) > 1 else 0 for e in x]
    )
    low, high = mean - spread, mean + spread
    if percent:
      low, high = np.clip(low, 0, 100), np.clip(high, 0, 100)
    axes.plot(
      x,
      mean,
      color=color[method],
      linestyle=dashes[method],
      linewidth=1.4,
      label=summary.label(method),
    )
    if spread.any():
      axes.fill_between(x, low, high, color=color[method], alpha=0.18, lw=0)
  axes.set_xlabel('epoch')
  axes.set_ylabel(label)
  _add_legend(plot, axes)
  return drawing.to_svg(plot)


@drawing.style()
def plot_accuracy_by_size(table: Sequence[summary.Row]) -> str:
  """Plots the test accuracy of exported files against their size.

  Returns '' if no row was exported.
  """
  exported = [row for row in table if row.export]
  if not exported:
    return ''
  plot, axes = drawing.new()
  color = drawing.choose_colors(row.method for row in table)
  for row in exported:
    points = [
      (figures['bytes'] / 1024, 100 * figures['accuracy'], marker)
      for file, (marker, _) in _MARKERS.items()
      if (figures := row.exported(file))
    ]
    sizes, accuracies, _ = zip(*points, strict=True)
    axes.plot(sizes, accuracies, color=color[row.method], linewidth=0.8)
    for size, accuracy, marker in points:
      axes.scatter(
        size, accuracy, color=color[row.method], marker=marker, zorder=3
      )
  # The legend lists colours (methods) and markers (formats) separately.
  for row in exported:
    axes.plot([], [], color=color[row.method], label=row.label)
  for marker, name in _MARKERS.values():
    axes.plot([], [], color='black', marker=marker, linestyle='', label=name)
  axes.set_xscale('log')
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:,g}'))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.set_xlabel('TFLite file, KiB')
  axes.set_ylabel('test accuracy, %')
  _add_legend(plot, axes)
  return drawing.to_svg(plot)


@drawing.style()
def plot_gains(rows: Sequence[comparison_table.Row]) -> str:
  """Plots the gain of each arm with its interval, and the baseline as a line.

  Verdicts differ in the marker and are written beside it, so that no one needs
  the colour to tell them apart. Returns '' if no arm has a gain.
  """
  known = [(row, row.gain) for row in rows if row.gain is not None]
  if not known:
    return ''
  plot, axes = drawing.new(7.6, 1.1 + 0.42 * len(known))
  color = drawing.choose_colors(row.method for row in rows)
  axes.axvline(0, color='black', linewidth=1)
  for place, (row, gain) in enumerate(known):
    marker, filled = _VERDICTS[gain.verdict]
    if gain.interval is not None:
      ends = [100 * end for end in gain.interval]
      axes.plot(ends, [place, place], color=color[row.method], linewidth=1.6)
      axes.plot(
        ends, [place, place], '|', color=color[row.method], markersize=9
      )
    axes.plot(
      100 * gain.mean,
      place,
      marker=marker,
      markersize=9,
      color=color[row.method],
      markerfacecolor=(color[row.method] if filled else drawing.BACKGROUND),
      markeredgewidth=1.6,
    )
    axes.annotate(
      f'{100 * gain.mean:+.2f}  {gain.verdict}',
      (1.02, place),
      xycoords=('axes fraction', 'data'),
      verticalalignment='center',
      annotation_clip=False,
    )
  axes.set_yticks(
    range(len(known)), [_two_lines(row.method) for row, _ in known]
  )
  axes.set_ylim(len(known) - 0.5, -0.5)
  axes.tick_params(axis='y', length=0)
  axes.spines['left'].set_visible(False)
  axes.grid(visible=False, axis='y')
  axes.set_xlabel('gain in test accuracy over the baseline, percentage points')
  return drawing.to_svg(plot)


def _two_lines(arm: str) -> str:
  """Returns the label of an arm; values of a sweep are the second line."""
  method, *values = arm.split(',')
  return '\n'.join([summary.label(method), ', '.join(values)]).strip()


def _add_legend(plot, axes):
  """Adds a legend above the axes, where it hides no line.

  The plot becomes higher by it, so that the axes keep their height.
  """
  handles, labels = axes.get_legend_handles_labels()
  columns = 2 if len(labels) > 1 and max(map(len, labels)) < 30 else 1
  plot.legend(
    handles,
    labels,
    loc='outside upper left',
    frameon=False,
    fontsize='small',
    ncols=columns,
  )
  rows = -(-len(labels) // columns)
  plot.set_figheight(plot.get_figheight() + 0.175 * (rows - 1))
