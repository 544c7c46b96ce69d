"""A twin with subsets of its layers in int8.

What a layer computes depends on which of the layers before it are rounded, and
on no others. Of many subsets at once it is computed once for all that agree on
these: where each subset is one layer, half of what to run them one by one
takes. The maps that differ lie behind each other in one batch.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from ft_tf.quantisation import steps
from ft_tf.quantisation import twin as twins

_MOST_BYTES = 2**24  # of a batch's maps; larger ones miss the caches
_MOST_IMAGES = 64


class OneByOne:
  """A twin that is compiled once for all subsets."""

  def __init__(self, twin: twins.Twin):
    """Compiles the twin, with its weights and ranges of now."""
    self._switches = {
      step.role.group: tf.Variable(False, trainable=False)
      for step in twin.steps
    }
    with twin.rounding(self._switches):
      self._compute = tf.function(
        lambda images: twin.model(images, training=False), autograph=False
      ).get_concrete_function(
        tf.TensorSpec([None, *twin.model.input_shape[1:]])
      )

  def logits(self, rounded: frozenset[str], images: np.ndarray) -> np.ndarray:
    """Returns logits `[N, classes]`, float32.

    Args:
      rounded: Groups of the twin's steps.
      images: Raw, `[N, H, W, C]`.
    """
    for name, switch in self._switches.items():
      switch.assign(name in rounded)
    return np.concatenate(
      [self._compute(batch) for batch in _batches(images, _MOST_IMAGES)]
    )


def logits(
  twin: twins.Twin, subsets: Sequence[frozenset[str]], images: np.ndarray
) -> Iterator[np.ndarray]:
  """Yields logits `[subsets, N, classes]`, float32, of some images at a time.

  Args:
    twin: Its ranges are set.
    subsets: Of the groups of its steps, which are rounded.
    images: Raw, `[all images, H, W, C]`.
  """
  source = id(twin.steps[0].role.call.inputs[0])
  passes, rows = _plan(twin.steps, source, subsets)
  compute = tf.function(
    lambda images: _run(twin, source, passes, rows, images), autograph=False
  ).get_concrete_function(tf.TensorSpec([None, *images.shape[1:]]))
  image_bytes = max(each.image_bytes for each in passes)
  count = min(max(1, _MOST_BYTES // image_bytes), _MOST_IMAGES)
  for batch in _batches(images, count):
    yield compute(batch).numpy()


def _batches(images, count):
  for start in range(0, len(images), count):
    yield tf.constant(images[start : start + count], tf.float32)


@dataclasses.dataclass(frozen=True)
class _Pass:
  """A step, and what it reads for some subsets.

  Attributes:
    step: The step.
    inputs: The tensors that it reads, by their ids in the student's graph.
    output: That which it writes.
    halves: For not rounded and for rounded, for each input, the places in its
      batch of what is read. The batch of the output has those of both.
    totals: For each input, how many places its batch has.
  """

  step: steps.Step
  inputs: list[int]
  output: int
  halves: list[list[list[int]]]
  totals: list[int]

  @property
  def image_bytes(self) -> int:
    """What the output takes for each image."""
    shape = self.step.role.call.outputs[0].shape[1:]
    return 4 * math.prod(shape) * sum(len(half[0]) for half in self.halves)


def _plan(
  twin_steps: Sequence[steps.Step],
  source: int,
  subsets: Sequence[frozenset[str]],
) -> tuple[list[_Pass], list[int]]:
  """Returns how to run subsets, and the place in the last batch of each.

  Args:
    twin_steps: The twin's.
    source: The id of the images in the student's graph.
    subsets: Of the groups of the steps.
  """
  # A subset is a number with a bit for each group.
  bits: dict[str, int] = {}
  for step in twin_steps:
    bits.setdefault(step.role.group, 1 << len(bits))
  wanted = [sum(bits[name] for name in each) for each in subsets]
  # Of each tensor: the groups that it depends on, and the place in its batch of
  # each subset of these.
  groups, places = {source: 0}, {source: {0: 0}}
  passes = []
  for step in twin_steps:
    inputs = [id(each) for each in step.role.call.inputs]
    output, own = id(step.role.call.outputs[0]), bits[step.role.group]
    groups[output] = own
    for each in inputs:
      groups[output] |= groups[each]
    found = dict.fromkeys(each & groups[output] for each in wanted)
    halves = [
      [each for each in found if bool(each & own) == is_rounded]
      for is_rounded in (False, True)
    ]
    places[output] = {
      each: place for place, each in enumerate(halves[0] + halves[1])
    }
    read = [
      [[places[name][each & groups[name]] for each in half] for name in inputs]
      for half in halves
    ]
    totals = [len(places[name]) for name in inputs]
    passes.append(_Pass(step, inputs, output, read, totals))
  last = passes[-1].output
  return passes, [places[last][each & groups[last]] for each in wanted]


def _run(
  twin: twins.Twin,
  source: int,
  passes: Sequence[_Pass],
  rows: Sequence[int],
  images: tf.Tensor,
) -> tf.Tensor:
  """Returns the logits `[rows, N, classes]` of images `[N, H, W, C]`."""
  count = tf.shape(images)[0]
  tensors = {source: twin.image_step(images)}
  for each in passes:
    outputs = []
    for is_rounded, half in zip((False, True), each.halves, strict=True):
      if half[0]:
        values = [
          _take(tensors[name], places, total, count)
          for name, places, total in zip(
            each.inputs, half, each.totals, strict=True
          )
        ]
        with twin.rounding({each.step.role.group: is_rounded}):
          outputs.append(each.step(values if len(values) > 1 else values[0]))
    tensors[each.output] = tf.concat(outputs, axis=0)
  return tf.gather(_apart(tensors[passes[-1].output], count), rows)


def _take(
  x: tf.Tensor, places: list[int], total: int, count: tf.Tensor
) -> tf.Tensor:
  """Returns the maps `[len(places) * count, ...]` at some places of a batch.

  Args:
    x: `[total * count, ...]`.
    places: Which.
    total: Number of places.
    count: Number of images.
  """
  if places == list(range(total)):
    return x
  return tf.reshape(tf.gather(_apart(x, count), places), [-1, *x.shape[1:]])


def _apart(x: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  return tf.reshape(x, [-1, count, *x.shape[1:]])
