"""The plots of the reports, as SVG text."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import axes as plot_axes
from matplotlib import figure, ticker

from ft_tf import run_dir
from ft_tf.report import summary

_COLORS = {'teacher': '#5b6770', 'scratch': '#c2571a', 'ft': '#1763a6'}
_FURTHER = (
  '#2f8f5b',
  '#8a4fbf',
  '#c23b6b',
  '#8c6d1f',
  '#1f9aa8',
  '#6b8e23',
  '#d08770',
  '#4c566a',
  '#b48ead',
  '#7a3b2e',
)
_MARKERS = {
  run_dir.FLOAT32: ('o', 'float32'),
  run_dir.FLOAT16: ('s', 'float16'),
  run_dir.INT8: ('D', 'int8'),
}


def choose_colors(methods: Iterable[str]) -> dict[str, str]:
  """Returns a colour for each method; teacher, scratch and ft have fixed ones.

  The colours repeat after ten further methods.
  """
  further = [m for m in dict.fromkeys(methods) if m not in _COLORS]
  return {
    **_COLORS,
    **{m: _FURTHER[i % len(_FURTHER)] for i, m in enumerate(further)},
  }


def plot_runs(
  runs: list[summary.Run], field: str, label: str, percent: bool = False
) -> str:
  """Plots a field of the metrics over epochs, as one line per run.

  Runs of one method share a colour and one entry in the legend. Returns '' if
  no run has the field.
  """
  plot = figure.Figure(figsize=(6, 3.6), layout='constrained')
  axes = plot.subplots()
  labelled = set()
  color = choose_colors(run.method for run in runs)
  for run in runs:
    rows = [row for row in run.metrics if field in row]
    if not rows:
      continue
    axes.plot(
      [row['epoch'] for row in rows],
      [row[field] * (100 if percent else 1) for row in rows],
      color=color[run.method],
      linewidth=1.2,
      alpha=0.85,
      label=None if run.method in labelled else summary.label(run.method),
    )
    labelled.add(run.method)
  if not labelled:
    return ''
  axes.set_xlabel('epoch')
  axes.set_ylabel(label)
  axes.legend(frameon=False)
  return _svg(plot, axes)


def plot_means(
  runs: list[summary.Run], field: str, label: str, percent: bool = False
) -> str:
  """Plots a field of the metrics over epochs, as a line and band per method.

  The line is the mean over the seeds; the band is one sample standard deviation
  above and below it. Returns '' if no run has the field.
  """
  plot = figure.Figure(figsize=(7.2, 4.2), layout='constrained')
  axes = plot.subplots()
  color = choose_colors(run.method for run in runs)
  by_method: dict[str, dict[float, list[float]]] = {}
  for run in runs:
    for row in run.metrics:
      if field in row:
        epochs = by_method.setdefault(run.method, {})
        values = epochs.setdefault(row['epoch'], [])
        values.append(row[field] * (100 if percent else 1))
  if not by_method:
    return ''
  for method, epochs in by_method.items():
    x = sorted(epochs)
    mean = np.array([np.mean(epochs[e]) for e in x])
    spread = np.array(
      [np.std(epochs[e], ddof=1) if len(epochs[e]) > 1 else 0 for e in x]
    )
    axes.plot(
      x, mean, color=color[method], linewidth=1.3, label=summary.label(method)
    )
    axes.fill_between(
      x, mean - spread, mean + spread, color=color[method], alpha=0.12, lw=0
    )
  axes.set_xlabel('epoch')
  axes.set_ylabel(label)
  axes.legend(frameon=False, fontsize='x-small', ncols=2)
  return _svg(plot, axes)


def plot_accuracy_by_size(table: Sequence[summary.Row]) -> str:
  """Plots the test accuracy of exported files against their size."""
  plot = figure.Figure(figsize=(6, 3.6), layout='constrained')
  axes = plot.subplots()
  color = choose_colors(row.method for row in table)
  for row in table:
    points = [
      (marker, name, row.export[file])
      for file, (marker, name) in _MARKERS.items()
      if row.export
    ]
    axes.plot(
      [point['bytes'] / 1024 for _, _, point in points],
      [100 * point['accuracy'] for _, _, point in points],
      color=color[row.method],
      linewidth=0.8,
    )
    for marker, _, point in points:
      axes.scatter(
        point['bytes'] / 1024,
        100 * point['accuracy'],
        color=color[row.method],
        marker=marker,
        zorder=3,
      )
  # The legend lists colours (methods) and markers (formats) separately.
  for row in table:
    if row.export:
      axes.plot([], [], color=color[row.method], label=row.label)
  for marker, name in _MARKERS.values():
    axes.plot([], [], color='black', marker=marker, linestyle='', label=name)
  axes.set_xscale('log')
  axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes.xaxis.set_major_formatter(ticker.FormatStrFormatter('%g'))
  axes.xaxis.set_minor_formatter(ticker.NullFormatter())
  axes.set_xlabel('TFLite file, KiB')
  axes.set_ylabel('test accuracy, %')
  axes.legend(frameon=False, fontsize='small')
  return _svg(plot, axes)


def _svg(plot: figure.Figure, axes: plot_axes.Axes) -> str:
  """Returns the plot as an <svg> element that a page can contain."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(alpha=0.25, linewidth=0.6)
  buffer = io.StringIO()
  plot.savefig(buffer, format='svg', metadata={'Date': None})
  text = buffer.getvalue()
  return text[text.index('<svg') :]
