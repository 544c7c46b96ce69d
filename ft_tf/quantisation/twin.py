"""A student whose values are rounded where its int8 file rounds them.

Quantisation-aware training by simulated integers: Jacob et al. 2018,
arXiv:1712.05877; ranges that are learned: Jain et al. 2020, arXiv:1903.08066.
The twin is plain Keras in the manner of `ft_tf.models.fused`: it shares the
student's variables, and the student stays the model that is saved.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf

from ft_tf import errors
from ft_tf.models import graph, standard
from ft_tf.quantisation import operations, places, quantisers, steps

WEIGHT_SCALES = ('channel', 'tensor')
_BATCH = 64  # images observed at once


class Twin:
  """A student in simulated int8; see `build`.

  Attributes:
    model: Functional, from raw images `[B, H, W, C]` of 0 to 255 to logits,
      float32. Its layers have the student's names, and its variables are the
      student's and `ranges`.
    student: The student.
    weight_scales: 'channel' or 'tensor'.
    ranges: Trainable scalars, low and high of each place.
    image_step: The model's first layer, which takes the images.
    steps: Its others, in the order of the student's calls.
    mode: What the model does while it is traced.
    float_groups: The groups that compute in float: those that are left in
      float, and those that read what they write.
    gives_reals: Whether the logits are not rounded.
  """

  def __init__(
    self,
    student: keras.Model,
    weight_scales: str,
    mode: quantisers.Mode,
  ):
    self.student, self.weight_scales, self.mode = student, weight_scales, mode
    flat = standard.flatten(student) if standard.is_nested(student) else student
    self.steps: list[steps.Step] = []
    self.float_groups: set[str] = set()
    self.model = self._simulate(flat)
    self._quantisers = {
      place: each
      for step in self.steps
      for place, each in step.quantisers.items()
    }
    self.ranges = [
      variable
      for each in self._quantisers.values()
      for variable in (each.low, each.high)
    ]

  def _simulate(self, model):
    source = model.inputs[0]
    image = keras.Input(source.shape[1:], name='image')
    names = {call.operation.name for call in graph.calls(model)}
    name = 'raw_image'
    while name in names:
      name += '_'
    self.image_step = steps.Image(self.mode, name)
    tensors = {id(source): self.image_step(image)}
    ranges: dict[int, steps.Range | None] = {id(source): steps.image_range}
    reals = set()  # Ids of tensors that are not rounded.
    for role in places.plan(model):
      step = operations.make(role, self.mode)
      step.input_ranges = tuple(ranges[id(each)] for each in role.call.inputs)
      ranges[id(role.call.outputs[0])] = step.output_range()
      is_left = role.group in self.mode.in_float
      if is_left or any(id(each) in reals for each in role.call.inputs):
        self.float_groups.add(role.group)
        if is_left or step.is_passing():
          reals.add(id(role.call.outputs[0]))
          ranges[id(role.call.outputs[0])] = None
      values = [tensors[id(tensor)] for tensor in role.call.inputs]
      tensors[id(role.call.outputs[0])] = step(
        values if len(values) > 1 else values[0]
      )
      self.steps.append(step)
    for number, step in enumerate(self.steps):
      step.goes_on_in(
        [
          later
          for later in self.steps[number + 1 :]
          if later.role.group == step.role.group
        ]
      )
    (logits,) = model.outputs
    self.gives_reals = id(logits) in reals
    return keras.Model(image, tensors[id(logits)], name=model.name)

  def observe(self, images: np.ndarray) -> None:
    """Sets every range to the least and largest value of some images.

    The values are those of the float student: nothing is rounded.

    Args:
      images: Raw, `[N, H, W, C]` uint8, of the training split.

    Raises:
      UsageError: a value is not finite, or the logits do not depend on the
        image.
    """
    self.set_ranges(self._observed(images))

  def _observed(self, images):
    def measure(batch):
      with self.observing() as observed:
        logits = self.model(batch, training=False)
      return observed, tf.reduce_min(logits, 0), tf.reduce_max(logits, 0)

    measure = tf.function(measure, autograph=False).get_concrete_function(
      tf.TensorSpec([None, *self.model.input_shape[1:]])
    )
    ranges: dict[str, tuple[float, float]] = {}
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(images), _BATCH):
      batch = tf.constant(images[start : start + _BATCH], tf.float32)
      observed, low_logits, high_logits = measure(batch)
      lowest = np.minimum(lowest, low_logits)
      highest = np.maximum(highest, high_logits)
      for place, (low, high) in observed.items():
        known = ranges.get(place, (0.0, 0.0))
        # Not by min and max, which drop a NaN.
        ranges[place] = (
          float(np.minimum(known[0], low)),
          float(np.maximum(known[1], high)),
        )
    self._check_finite(ranges)
    if len(images) > 1 and np.all(lowest == highest):
      raise errors.UsageError(
        f'{self.student.name} returns the same logits for all '
        f'{len(images)} images, which cannot be quantised: train it again, '
        'with a lower learning rate'
      )
    # Where all values are zero any range holds them.
    return {
      place: (low, high if high > low else 1.0)
      for place, (low, high) in ranges.items()
    }

  def ranges_by_place(self) -> dict[str, tuple[float, float]]:
    """Returns low and high by the name of the place."""
    return {
      place: (float(each.low.numpy()), float(each.high.numpy()))
      for place, each in self._quantisers.items()
    }

  def is_in_file(self, place: str) -> bool:
    """Tells whether a place of a range is one of the twin's int8 kernels."""
    each = self._quantisers.get(place)
    return each is not None and each.group not in self.float_groups

  def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Sets the range of every place.

    Args:
      ranges: As `ranges_by_place` returns them.

    Raises:
      UsageError: a place is missing or unknown, or a range is not finite or
        empty. No range is set.
    """
    other = sorted(set(ranges) ^ set(self._quantisers))
    if other:
      raise errors.UsageError(
        f'these ranges are not those of {self.student.name}: they differ in '
        f'{", ".join(other[:3])}; give those of the same student'
      )
    self._check_finite(ranges)
    for place, (low, high) in ranges.items():
      if not low < high:
        raise errors.UsageError(
          f'the range of {place} in {self.student.name} is empty: {low:g} to '
          f'{high:g}; quantise it again from images'
        )
    for place, (low, high) in ranges.items():
      self._quantisers[place].low.assign(low)
      self._quantisers[place].high.assign(high)

  def check_finite(self) -> None:
    """Raises a UsageError if a weight or a range is not finite."""
    self._check_finite(self.ranges_by_place())

  def _check_finite(self, ranges):
    bad = [
      variable.path
      for variable in self.student.variables
      if not np.isfinite(np.asarray(variable, np.float32)).all()
    ]
    if bad:
      raise errors.UsageError(
        f'{self.student.name} cannot be quantised: {bad[0]} is not finite; '
        'train it again, with a lower learning rate'
      )
    for place, values in ranges.items():
      if not np.isfinite(values).all():
        raise errors.UsageError(
          f'{self.student.name} cannot be quantised: the values of {place} are '
          'not finite; train it again, with a lower learning rate'
        )

  @contextlib.contextmanager
  def observing(self) -> Iterator[dict[str, tuple[tf.Tensor, tf.Tensor]]]:
    """Makes calls in a block record values by place, and round nothing.

    What they are traced to keeps the weights of now.
    """
    self.mode.observed, self.mode.stands = {}, True
    try:
      yield self.mode.observed
    finally:
      self.mode.observed, self.mode.stands = None, False

  @contextlib.contextmanager
  def rounding(
    self, switches: Mapping[str, bool | tf.Variable]
  ) -> Iterator[None]:
    """Makes calls in a block round the values of some groups alone.

    What they are traced to keeps the weights and ranges of now.

    Args:
      switches: As of `quantisers.Mode`.
    """
    self.mode.switches, self.mode.stands = switches, True
    try:
      yield
    finally:
      self.mode.switches, self.mode.stands = None, False

  @contextlib.contextmanager
  def frozen(self) -> Iterator[None]:
    """Makes weights and ranges constants in calls traced in a block."""
    self.mode.frozen = True
    try:
      yield
    finally:
      self.mode.frozen = False


def build(
  student: keras.Model,
  *,
  weight_scales: str = 'channel',
  in_float: Collection[str] = (),
) -> Twin:
  """Returns the twin of a student, with ranges that are still to be set.

  Args:
    student: A functional or Sequential classifier from raw images to logits.
      Nested models are replaced by their layers, see `standard.flatten`.
    weight_scales: 'channel', a scale for each output channel of the weights, or
      'tensor', one for all, as some accelerators demand.
    in_float: Groups, as of `places.Role`, that compute in float, and so do
      those that read what they write, with their weights rounded.

  Raises:
    UsageError: the int8 arithmetic of a layer is not known; all are named.
  """
  if weight_scales not in WEIGHT_SCALES:
    raise errors.UsageError(
      f'--weight_scales={weight_scales}: give {" or ".join(WEIGHT_SCALES)}'
    )
  mode = quantisers.Mode(weight_scales, in_float)
  return Twin(student, weight_scales, mode)
