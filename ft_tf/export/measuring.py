"""What each file of an export is worth on the test split."""

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ft_tf import errors, run_dir
from ft_tf.data import datasets
from ft_tf.evaluation import device_files, metrics, predictors

Figures = dict[str, dict[str, Any]]

# Whose predictions are kept; those of other files hardly differ from the first.
_KEPT = (run_dir.KERAS, run_dir.INT8)
_SECONDS_BETWEEN = 5.0  # messages about one file


def measure(
  folder: str,
  names: Iterable[str],
  dataset: datasets.Dataset,
  *,
  given: str,
  status: Callable[[str], None],
) -> tuple[Figures, Figures]:
  """Runs files of an export folder on all test images.

  Args:
    folder: The export folder.
    names: Files in it, the Keras student first: the others are compared with
      it.
    dataset: Of the student's size.
    given: How messages call the model that was exported.
    status: Is told what is being done.

  Returns:
    By name of file: the figures of `export.json`; and the predictions of the
    Keras and the int8 file.

  Raises:
    UsageError: a file gives values that are not finite.
  """
  test = dataset.test
  figures: Figures = {}
  predictions: Figures = {}
  reference = None
  for name in names:
    status(f'measuring {name}')
    path = os.path.join(folder, name)
    predict = predictors.open_predictor(path)
    predict.given = f'{given}, exported as {name},'
    outputs = metrics.logits(
      predict, test.images, _teller(status, f'measuring {name}', len(test))
    )
    reference = outputs if reference is None else reference
    scores = metrics.score(outputs, test.labels)
    if name in _KEPT:
      predictions[name] = metrics.summarize_predictions(
        outputs, test.labels, dataset.label_names
      )
    differences = np.abs(outputs - reference)
    figures[name] = {
      'bytes': size(path),
      'accuracy': scores['accuracy'],
      'loss': scores['loss'],
      'agreement': float(
        (outputs.argmax(axis=1) == reference.argmax(axis=1)).mean()
      ),
      'max_logit_difference': float(differences.max()),
      'mean_logit_difference': float(differences.mean()),
      'worst_class': _worst_class(
        outputs, reference, test.labels, dataset.label_names
      ),
      'examples': scores['examples'],
      'preprocessing': test.preprocessing.as_json(test.images.shape[1:]),
    }
    if isinstance(predict, device_files.FilePredictor):
      figures[name] |= {
        'input': predict.input.as_json(),
        'output': predict.output.as_json(),
        'input_dtype': predict.input.dtype,
        'output_dtype': predict.output.dtype,
        'flexible_batch': predict.flexible_batch,
      }
  return figures, predictions


def _teller(
  status: Callable[[str], None], doing: str, images: int
) -> Callable[[int], None]:
  """Returns what shows, now and then, how many test images are done."""
  told = time.monotonic()

  def tell(done: int) -> None:
    nonlocal told
    if time.monotonic() - told >= _SECONDS_BETWEEN:
      told = time.monotonic()
      status(f'{doing}, {done:,} of {images:,} images')

  return tell


def _worst_class(
  outputs: np.ndarray,
  reference: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
) -> dict[str, Any]:
  """Returns the class whose accuracy falls most from one file to another.

  Of classes that fall alike it is that of the lowest accuracy.

  Args:
    outputs: The file's logits, `[N, classes]`.
    reference: Those of the Keras student.
    labels: `[N]`.
    label_names: By class.
  """

  def accuracies(logits):
    correct = logits.argmax(axis=1) == labels
    return np.bincount(labels, weights=correct, minlength=classes) / np.maximum(
      counts, 1
    )

  classes = len(label_names)
  counts = np.bincount(labels, minlength=classes)
  own, wanted = accuracies(outputs), accuracies(reference)
  drop = np.round(wanted - own, 9)
  worst = int(min(np.flatnonzero(counts), key=lambda i: (-drop[i], own[i])))
  return {
    'label': label_names[worst],
    'accuracy': float(own[worst]),
    'drop': float(drop[worst]),
    'examples': int(counts[worst]),
  }


def size(path: str) -> int:
  """Returns the bytes of a file, or of all files in a folder."""
  if os.path.isfile(path):
    return os.path.getsize(path)
  return sum(
    os.path.getsize(os.path.join(root, name))
    for root, _, names in os.walk(path)
    for name in names
  )


def check_drop(
  figures: Mapping[str, Any], max_drop: float, folder: str
) -> None:
  """Raises `TrainingError` if a file is less accurate than the Keras student.

  Args:
    figures: Of an export, by name of file.
    max_drop: How many points of accuracy a file may lose, in percentage
      points of the test images; a part of an image counts as one.
    folder: The export folder.
  """
  keras_student = figures[run_dir.KERAS]
  allowed = math.ceil(keras_student['examples'] * max_drop / 100 - 1e-9)
  lines, too_bad = [], set()
  for name, entry in figures.items():
    lost = round(
      (keras_student['accuracy'] - entry['accuracy']) * entry['examples']
    )
    if lost <= allowed:
      continue
    worst = entry['worst_class']
    lines.append(
      f'{name} has {100 * entry["accuracy"]:.2f} %, the Keras student '
      f'{100 * keras_student["accuracy"]:.2f} % (same class on '
      f'{100 * entry["agreement"]:.2f} % of images; logits differ by '
      f'{entry["mean_logit_difference"]:.3g} on average, '
      f'{entry["max_logit_difference"]:.3g} at most; {worst["label"]} loses '
      f'{100 * worst["drop"]:.1f} points)'
    )
    too_bad.add(name)
  if lines:
    remedy = 'add --formats=mixed'
    if run_dir.MIXED in figures:
      remedy = f'ship {run_dir.MIXED}'
    remedy = '' if run_dir.MIXED in too_bad else f'{remedy}, '
    raise errors.TrainingError(
      f'{"; ".join(lines)}: more than --max_drop={max_drop:g} allows. '
      f'{folder} is kept; {remedy}train for int8 with --qat_epochs, ship '
      f'{run_dir.FLOAT16}, or raise --max_drop'
    )
