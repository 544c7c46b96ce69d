"""Which layers of a student lose most in int8.

Each layer is rounded alone, and left in float alone, by the twin, which
computes what the file does. TensorFlow's QuantizationDebugger answers the same
for a converted file; it fails in current releases (tensorflow#86949).
"""

import functools
from collections.abc import Collection
from typing import Any

import numpy as np

from ft_tf.quantisation import subsets
from ft_tf.quantisation import twin as twins

# Images that tell layers apart. Each layer costs a pass over them, so that
# large ones are fewer. Of an EfficientNet-Lite2 on photos, 128 and 32
# rank the layers as 256 do, by a correlation of 0.99 and 0.98.
_LEAST_STUDIED, _MOST_STUDIED = 32, 128
_STUDIED_PIXELS = 128 * 64 * 64 * 3


def count(image_values: int) -> int:
  """Returns how many images tell layers apart.

  Args:
    image_values: Numbers of an image, height times width times channels.
  """
  count = _STUDIED_PIXELS // image_values
  return min(max(count, _LEAST_STUDIED), _MOST_STUDIED)


def choose_images(images: np.ndarray) -> np.ndarray:
  """Returns the first of some images, as many as tell layers apart.

  Args:
    images: `[N, H, W, C]`.
  """
  return images[: count(images[0].size)]


def study(
  twin: twins.Twin, images: np.ndarray, *, restore: float = 0.99
) -> dict[str, Any]:
  """Returns what each layer of a student loses in int8.

  Args:
    twin: The student's, with its ranges.
    images: Raw, `[N, H, W, C]` uint8; 128 tell the layers apart.
    restore: The share of images, 0 to 1, that the student is to classify in
      int8 as in float with the layers of `repair` left in float.

  Returns:
    `examples`; `weight_scales`; `quantised`, of all layers; `layers`, a list
    with the layer that loses most first, each with `layer`, `only_quantised`
    and `only_float`; `repair`, see `_repair`, and `repaired`. A loss is a dict
    of `agreement`, the share of images of the same class as in float, and of
    `mean_logit_difference` and `max_logit_difference` to float.

  Raises:
    UsageError: a weight or a range is not finite.
  """
  twin.check_finite()
  losses = _Losses(twin, images)
  names = losses.names
  rows: list[dict[str, Any]] = [
    {
      'layer': name,
      'only_quantised': losses.of([name]),
      'only_float': losses.of(set(names) - {name}),
    }
    for name in names
  ]
  rows.sort(
    key=lambda row: row['only_quantised']['mean_logit_difference'],
    reverse=True,
  )
  repair = _repair(losses, [row['layer'] for row in rows], restore)
  return {
    'examples': len(images),
    'weight_scales': twin.weight_scales,
    'quantised': losses.of(names),
    'layers': rows,
    'repair': repair,
    'repaired': losses.of(set(names) - set(repair)),
  }


def _repair(losses: '_Losses', names: list[str], restore: float) -> list[str]:
  """Returns few layers to leave in float for an agreement.

  The first layers of a list that are enough, found by bisection, less those
  that are not needed. No smaller set is ruled out: there are 2^N.

  Args:
    losses: The student's.
    names: All layers, the one that loses most first.
    restore: The agreement, 0 to 1.
  """

  def suffices(in_float):
    quantised = set(names) - set(in_float)
    return losses.of(quantised)['agreement'] >= restore

  if suffices([]):
    return []
  few, many = 0, len(names)  # All in float always agree.
  while many - few > 1:
    count = (few + many) // 2
    if suffices(names[:count]):
      many = count
    else:
      few = count
  chosen = names[:many]
  # The last are the likeliest to be needless, but for the very last.
  for name in reversed(chosen[:-1]):
    fewer = [each for each in chosen if each != name]
    if suffices(fewer):
      chosen = fewer
  return chosen


class _Losses:
  """What a student loses with some of its layers in int8.

  All layers, each alone and all but each are computed at once, and what else is
  asked for one by one.
  """

  def __init__(self, twin: twins.Twin, images: np.ndarray):
    self._twin, self._images = twin, images
    self.names: list[str] = list(
      dict.fromkeys(
        step.role.group for step in self._twin.steps if step.is_rounding()
      )
    )
    self._known: dict[frozenset[str], dict[str, float]] = {}
    self._float_logits: list[np.ndarray] = []  # of some images at a time
    every = frozenset(self.names)
    alone = [frozenset([name]) for name in self.names]
    sets = [every, *alone, *(every - each for each in alone)]
    self._add(sets, self._pairs(sets))

  def of(self, quantised: Collection[str]) -> dict[str, float]:
    """Returns how far the logits are from float with layers in int8."""
    layers = frozenset(quantised)
    if layers not in self._known:
      logits = self._one_by_one.logits(layers, self._images)
      in_float = np.concatenate(self._float_logits)
      self._add([layers], [(in_float, logits[None])])
    return self._known[layers]

  @functools.cached_property
  def _one_by_one(self):
    return subsets.OneByOne(self._twin)

  def _pairs(self, sets):
    """Yields logits in float, `[N, classes]`, and of sets of layers in int8."""
    for logits in subsets.logits(
      self._twin, [frozenset(), *sets], self._images
    ):
      self._float_logits.append(logits[0])
      yield logits[0], logits[1:]

  def _add(self, sets, pairs):
    """Takes note of the losses of sets of layers, by logits as of `_pairs`."""
    same, differences, largest = np.zeros((3, len(sets)))
    for in_float, logits in pairs:
      difference = np.abs(logits - in_float)
      same += (logits.argmax(axis=2) == in_float.argmax(axis=1)).sum(axis=1)
      differences += difference.mean(axis=2, dtype=np.float64).sum(axis=1)
      np.maximum(largest, difference.max(axis=(1, 2)), out=largest)
    count = len(self._images)
    for number, layers in enumerate(sets):
      self._known[layers] = {
        'agreement': float(same[number] / count),
        'mean_logit_difference': float(differences[number] / count),
        'max_logit_difference': float(largest[number]),
      }
