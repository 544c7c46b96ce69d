"""The logits of a model on images, and the figures that follow from them."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ft_tf import errors
from ft_tf.data import example_sets
from ft_tf.evaluation import inference
from ft_tf.models import heads

_BATCH = 250
_BINS = 15  # of confidence
_LEAST = 1e-7  # probability
_PROBABILITY_STEP = 1 / 250  # the coarsest of 8 bits from 0 to 1, and a little


def check_classes(
  predict: inference.Predictor,
  examples: example_sets.AnyExamples,
  label_names: Sequence[str],
) -> None:
  """Raises `UsageError` if a model has not as many classes as a data set."""
  classes = predict(examples.images[:1]).shape[-1]
  if classes != len(label_names):
    raise errors.UsageError(
      f'--model has {classes} classes, the data set {len(label_names)}: give '
      'the data set it was trained on'
    )


def in_batches(
  function: Callable[[np.ndarray], np.ndarray],
  inputs: example_sets.Images,
  tell: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
  """Returns a function's values of many inputs, a batch at a time.

  Args:
    function: From `[B, ...]` to `[B, ...]`, such as a `inference.Predictor`.
    inputs: `[N, ...]`, N at least 1.
    tell: Is called before each batch with the number of inputs that are done.
  """
  values = []
  for first in range(0, len(inputs), _BATCH):
    tell(first)
    values.append(function(inputs[first : first + _BATCH]))
  return np.concatenate(values)


def logits(
  predict: inference.Predictor,
  images: example_sets.Images,
  tell: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
  """Returns the logits `[N, classes]` of raw images `[N, H, W, C]` uint8.

  Of a model that gives probabilities they are their logarithms, which is said.

  Args:
    predict: The model's inference.
    images: Raw images.
    tell: As of `in_batches`.

  Raises:
    UsageError: a model that was given has outputs that are not finite.
    TrainingError: so has one that was trained.
  """
  outputs = in_batches(predict, images, tell)
  finite = np.isfinite(outputs).all(axis=1)
  if not finite.all():
    what = f'{(~finite).sum()} of {len(outputs)} images'
    if predict.given:
      raise errors.UsageError(
        f'{predict.given} gives outputs that are not finite (nan or infinity) '
        f'for {what}: give a model whose weights and preprocessing are sound'
      )
    raise errors.TrainingError(
      f'the trained network gives outputs that are not finite for {what}: '
      'start again in another --workdir with a lower learning rate or '
      '--precision=float32'
    )
  step = predict.output_step
  if step > _PROBABILITY_STEP:
    return outputs
  rounding = outputs.shape[1] * step / 2
  if predict.opaque and heads.look_like_probabilities(outputs, rounding):
    print(
      f'{predict.given} gives probabilities: the loss is computed from their '
      'logarithms',
      file=sys.stderr,
      flush=True,
    )
    return np.log(np.maximum(outputs, max(step / 2, _LEAST)))
  return outputs


def score(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float | int]:
  """Returns accuracy (0..1), mean cross entropy (nats) and their count.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
  """
  log = _log_probabilities(outputs)
  picked = np.take_along_axis(log, labels[:, None], axis=1)
  return {
    'accuracy': float((outputs.argmax(axis=1) == labels).mean()),
    'loss': float(-picked.mean()),
    'examples': len(labels),
  }


def test_scores(
  outputs: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> dict[str, Any]:
  """Returns a run's figures on a split.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
    label_names: The classes' names, in the order of the logits.

  Returns:
    `score`, `calibration_error`, and of the classes that have images
    `accuracy_by_class` (0..1, by name) and its mean, `balanced_accuracy`.
  """
  correct = outputs.argmax(axis=1) == labels
  by_class = {
    label_names[label]: float(correct[labels == label].mean())
    for label in np.unique(labels)
  }
  return {
    **score(outputs, labels),
    'calibration_error': calibration_error(outputs, labels),
    'balanced_accuracy': float(np.mean(list(by_class.values()))),
    'accuracy_by_class': by_class,
  }


def calibration_error(outputs: np.ndarray, labels: np.ndarray) -> float:
  """Returns the expected calibration error, 0..1 (Guo et al. 2017, section 2).

  The difference of confidence and accuracy within equal bins of confidence,
  weighted by the images in each.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
  """
  bins = _reliability(outputs, labels)
  gaps = bins['confidence'] - bins['correct']
  return float(np.abs(gaps).sum() / len(labels))


def summarize_predictions(
  outputs: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> dict[str, Any]:
  """Returns what the pages show of a network's predictions, as JSON values.

  Args:
    outputs: Logits, `[N, classes]`.
    labels: `[N]`, integers.
    label_names: The classes' names, in the order of the logits.

  Returns:
    `classes`: the names. `confusion`: the cells of the confusion matrix that
    are not 0, each `[label, prediction, images]`, by label and prediction; the
    accuracy by class follows from it. `reliability`: for each of 15 equal bins
    of confidence that has images `[images, mean confidence, accuracy]`.
  """
  size = len(label_names)
  cells, images = np.unique(
    labels.astype(np.int64) * size + outputs.argmax(axis=1), return_counts=True
  )
  bins = _reliability(outputs, labels)
  filled = bins['images'] > 0
  count = bins['images'][filled]
  return {
    'classes': list(label_names),
    'confusion': np.stack([*divmod(cells, size), images], axis=1).tolist(),
    'reliability': [
      [int(n), float(confidence), float(accuracy)]
      for n, confidence, accuracy in zip(
        count,
        bins['confidence'][filled] / count,
        bins['correct'][filled] / count,
        strict=True,
      )
    ],
  }


def _reliability(
  outputs: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns sums over the images in each bin of confidence, `[15]` each.

  The bins are equal, (0, 1/15], (1/15, 2/15], ...; 15 as in Guo et al. 2017.
  """
  probabilities = np.exp(_log_probabilities(outputs))
  confidence = probabilities.max(axis=1)
  correct = outputs.argmax(axis=1) == labels
  which = np.minimum(np.int64(np.ceil(confidence * _BINS)) - 1, _BINS - 1)
  return {
    name: np.bincount(which, weights, minlength=_BINS)
    for name, weights in (
      ('images', np.ones(len(labels))),
      ('confidence', confidence),
      ('correct', correct),
    )
  }


def likeness(
  outputs: np.ndarray, teacher_outputs: np.ndarray
) -> dict[str, float]:
  """Returns how alike a student's answers are to its teacher's.

  Args:
    outputs: The student's logits, `[N, classes]`.
    teacher_outputs: The teacher's, likewise.

  Returns:
    `teacher_agreement`, the share of images (0..1) with the same class on top,
    and `teacher_divergence`, the mean KL(teacher || student) in nats.
  """
  ours, theirs = map(_log_probabilities, (outputs, teacher_outputs))
  divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
  same = outputs.argmax(axis=1) == teacher_outputs.argmax(axis=1)
  return {
    'teacher_agreement': float(same.mean()),
    'teacher_divergence': float(divergence.mean()),
  }


def _log_probabilities(outputs):
  """Returns logarithms of the softmax of logits, in float64."""
  outputs = outputs.astype(np.float64)
  shifted = outputs - outputs.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def evaluate(
  predict: inference.Predictor, examples: example_sets.AnyExamples
) -> dict[str, float | int]:
  """Returns `score` of a predictor on labelled images.

  Raises:
    UsageError: the model takes other images or has other classes.
  """
  shape = examples.images.shape[1:]
  if len(shape) != len(predict.image_shape) or any(
    takes not in (None, has)
    for takes, has in zip(predict.image_shape, shape, strict=True)
  ):
    raise errors.UsageError(
      f'the model does not take images {shape} but {predict.image_shape}: give '
      'the --dataset it was trained on'
    )
  outputs = logits(predict, examples.images)
  if examples.labels.max() >= outputs.shape[1]:
    raise errors.UsageError(
      f'the model has {outputs.shape[1]} classes, the data set more: give the '
      '--dataset it was trained on'
    )
  return score(outputs, examples.labels)
