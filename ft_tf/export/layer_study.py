"""Which layers of a student lose most in int8.

Each layer is rounded alone, and left in float alone, by the twin: it computes
what the file does, and one compiled graph with a switch per layer serves all.
TensorFlow's QuantizationDebugger answers the same for a converted file; it
fails in current releases (tensorflow#86949).
"""

from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf.quantisation import twin as twins

_BATCH = 64  # images at once
# Images that tell layers apart. Each layer costs two passes over them, so that
# there are fewer of large images.
_LEAST_STUDIED, _MOST_STUDIED = 32, 256
_STUDIED_PIXELS = 256 * 64 * 64 * 3


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
  student: keras.Model,
  images: np.ndarray,
  *,
  weight_scales: str = 'channel',
  ranges: Mapping[str, tuple[float, float]] | None = None,
  restore: float = 0.99,
) -> dict[str, Any]:
  """Returns what each layer of a student loses in int8.

  Args:
    student: See `twin.build`.
    images: Raw, `[N, H, W, C]` uint8; 256 tell the layers apart.
    weight_scales: See `twin.build`.
    ranges: Those of activations, by place, as of `Twin.ranges_by_place`; None:
      those that the images have.
    restore: The share of images, 0 to 1, that the student is to classify in
      int8 as in float with the layers of `repair` left in float.

  Returns:
    `examples`; `weight_scales`; `quantised`, of all layers; `layers`, a list
    with the layer that loses most first, each with `layer`, `only_quantised`
    and `only_float`; `repair`, see `_repair`, and `repaired`. A loss is a dict
    of `agreement`, the share of images of the same class as in float, and of
    `mean_logit_difference` and `max_logit_difference` to float.

  Raises:
    UsageError: see `twin.build` and `Twin.observe`.
  """
  switched = _SwitchedTwin(student, images, weight_scales, ranges)
  names = switched.names
  rows: list[dict[str, Any]] = [
    {
      'layer': name,
      'only_quantised': switched.loss([name]),
      'only_float': switched.loss(set(names) - {name}),
    }
    for name in names
  ]
  rows.sort(
    key=lambda row: row['only_quantised']['mean_logit_difference'],
    reverse=True,
  )
  repair = _repair(switched, [row['layer'] for row in rows], restore)
  return {
    'examples': len(images),
    'weight_scales': weight_scales,
    'quantised': switched.loss(names),
    'layers': rows,
    'repair': repair,
    'repaired': switched.loss(set(names) - set(repair)),
  }


def _repair(
  switched: '_SwitchedTwin', names: list[str], restore: float
) -> list[str]:
  """Returns few layers to leave in float for an agreement.

  The first layers of a list that are enough, found by bisection, less those
  that are not needed. No smaller set is ruled out: there are 2^N.

  Args:
    switched: The student.
    names: All layers, the one that loses most first.
    restore: The agreement, 0 to 1.
  """

  def suffices(in_float):
    quantised = set(names) - set(in_float)
    return switched.loss(quantised)['agreement'] >= restore

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


class _SwitchedTwin:
  """A student of which any set of layers computes in int8."""

  def __init__(
    self,
    student: keras.Model,
    images: np.ndarray,
    weight_scales: str,
    ranges: Mapping[str, tuple[float, float]] | None,
  ):
    self._twin = twins.build(
      student, weight_scales=weight_scales, switchable=True
    )
    if ranges is None:
      self._twin.observe(images)
    else:
      self._twin.set_ranges(ranges)
      self._twin.check_finite()
    self._switches = self._twin.mode.switches
    rounding = {
      step.role.group for step in self._twin.steps if step.is_rounding()
    }
    self.names: list[str] = [
      name for name in self._switches if name in rounding
    ]
    self._batches = [
      tf.constant(images[start : start + _BATCH], tf.float32)
      for start in range(0, len(images), _BATCH)
    ]
    self._compute = tf.function(
      lambda batch: self._twin.model(batch, training=False), autograph=False
    ).get_concrete_function(
      tf.TensorSpec([None, *self._twin.model.input_shape[1:]])
    )
    self._losses: dict[frozenset[str], dict[str, float]] = {}
    self._float_logits = self._logits(frozenset())

  def _logits(self, quantised):
    for name, switch in self._switches.items():
      switch.assign(name in quantised)
    return np.concatenate([self._compute(each) for each in self._batches])

  def loss(self, quantised: Collection[str]) -> dict[str, float]:
    """Returns how far the logits are from float with layers in int8."""
    key = frozenset(quantised)
    if key not in self._losses:
      logits = self._logits(key)
      difference = np.abs(logits - self._float_logits)
      same = logits.argmax(axis=1) == self._float_logits.argmax(axis=1)
      self._losses[key] = {
        'agreement': float(same.mean()),
        'mean_logit_difference': float(difference.mean()),
        'max_logit_difference': float(difference.max()),
      }
    return self._losses[key]
