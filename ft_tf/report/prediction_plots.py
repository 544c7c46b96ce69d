"""The plots of predictions: by class, by confidence, and what is confused."""

from collections.abc import Sequence

import numpy as np
from matplotlib import collections, colors

from ft_tf.report import drawing, predictions

_MOST_CLASSES = 20  # rows of the plot by class
_SERIES = {  # to colour and marker
  'teacher': (drawing.TEACHER, 's'),
  'baseline': (drawing.BASELINE, 'v'),
  'student': (drawing.STUDENT, 'o'),
}


def choose_classes(accuracy: np.ndarray) -> list[int]:
  """Returns the classes of the plot: all, or those of the lowest accuracy.

  Args:
    accuracy: Of the student, `[classes]`; NaN for a class without images.

  Returns:
    Indices, in the order of the classes if all are there, else by rising
    accuracy. Classes without images are left out.
  """
  known = np.flatnonzero(~np.isnan(accuracy))
  if len(known) <= _MOST_CLASSES:
    return known.tolist()
  order = np.argsort(accuracy[known], kind='stable')
  return known[order[:_MOST_CLASSES]].tolist()


@drawing.style()
def plot_by_class(
  classes: Sequence[str], accuracies: dict[str, np.ndarray]
) -> str:
  """Plots the accuracy by class, a row per class and a marker per network.

  Args:
    classes: The names.
    accuracies: Accuracy by class (0..1), `[classes]`, of 'student' and
      optionally of 'baseline' and 'teacher'.
  """
  chosen = choose_classes(accuracies['student'])
  plot, axes = drawing.new(5.2, 1.1 + 0.24 * len(chosen))
  rows = range(len(chosen))
  shown = {name: 100 * accuracies[name][chosen] for name in accuracies}
  ends = np.array(list(shown.values()))
  axes.hlines(
    rows, ends.min(axis=0), ends.max(axis=0), color='black', alpha=0.3, lw=1
  )
  for name, (color, marker) in _SERIES.items():
    if name in shown:
      axes.plot(shown[name], rows, marker, color=color, label=name)
  axes.set_yticks(rows, [_shorten(classes[i]) for i in chosen])
  axes.set_ylim(len(chosen) - 0.5, -0.5)
  axes.set_xlabel('accuracy, %')
  plot.legend(loc='outside upper left', frameon=False, ncols=3)
  return drawing.to_svg(plot)


@drawing.style()
def plot_reliability(networks: dict[str, predictions.Predictions]) -> str:
  """Plots the accuracy over the confidence of each network's predictions.

  A calibrated network lies on the diagonal; below it is overconfident. The area
  of a marker is in proportion to the images in its bin.

  Args:
    networks: Predictions of 'student' and optionally of 'teacher'.
  """
  plot, axes = drawing.new(5.2, 4.4)
  axes.plot([0, 100], [0, 100], '--', color='black', lw=0.8, label='calibrated')
  for name, (color, marker) in _SERIES.items():
    if name in networks:
      images, confidence, accuracy = networks[name].bins.T
      x, y = 100 * confidence, 100 * accuracy
      error = 100 * networks[name].calibration_error
      label = f'{name}, ECE {error:.1f} %'
      area = 15 + 180 * images / images.sum()
      axes.scatter(
        x, y, area, color=color, marker=marker, alpha=0.75, label=label
      )
  axes.set_xlim(0, 102)
  axes.set_ylim(0, 102)
  axes.set_xlabel('confidence, %')
  axes.set_ylabel('accuracy, %')
  legend = axes.legend(frameon=False, loc='upper left')
  for handle in legend.legend_handles:
    if isinstance(handle, collections.PathCollection):
      handle.set_sizes([40])
  return drawing.to_svg(plot)


@drawing.style()
def plot_confusion(network: predictions.Predictions) -> str:
  """Plots a confusion matrix of many classes, as shades of one colour.

  The shade is the square root of the share of the row's images, so that rare
  mistakes show, too.
  """
  matrix = network.matrix()
  share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
  pixels = np.empty((*matrix.shape, 4))
  # No CSS variable reaches the pixels: a blue that both pages show well.
  pixels[..., :3] = colors.to_rgb('#2f80d0')
  pixels[..., 3] = np.sqrt(share)
  plot, axes = drawing.new(5.2, 5.2)
  axes.grid(visible=False)
  axes.imshow(pixels, interpolation='none')
  axes.spines[:].set_visible(True)
  axes.set_xlabel('predicted class, by number')
  axes.set_ylabel('class of the label, by number')
  return drawing.to_svg(plot)


def _shorten(name: str, length: int = 24) -> str:
  return name if len(name) <= length else f'{name[: length - 1]}…'
