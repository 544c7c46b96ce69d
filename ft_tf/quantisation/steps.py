"""The calls of a student as LiteRT's integer kernels compute them.

A step replaces one call of the student's graph under its name and computes in
float32 whatever the student's precision. Its weights are the student's own
variables. Batch norm stands still: it is a factor and a summand made of its
moving statistics.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ft_tf.quantisation import kernels, places, quantisers

# Returns the least and the largest value, with zero in between.
Range = Callable[[], tuple[tf.Tensor, tf.Tensor]]

# Of a batch norm's epsilon: a channel of less variance is normalised to a
# deviation of less than 1/32, about one step of int8 from 0 to 6.
_STILL = 2.0**-10


def image_range() -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the range of a raw image's values."""
  low, high = quantisers.IMAGE
  return tf.constant(low), tf.constant(high)


def sigmoid_range() -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the range of a sigmoid's values."""
  low, high = quantisers.SIGMOID
  return tf.constant(low), tf.constant(high)


class Step(keras.layers.Layer):
  """One call; the subclasses say what it computes before it is rounded.

  Attributes:
    role: What the call is in the file.
    mode: What the twin does.
    operation: The student's; its variables are the step's too.
    input_ranges: Those of its inputs' values; None where they are not rounded.
    later_range: Where a call behind it ends its kernel: the range that the
      kernel writes in; None if it is not known.
    merged: What calls behind it add to the bias of its kernel.
    quantisers: By place, in the order of the kernels.
  """

  def __init__(self, role: places.Role, mode: quantisers.Mode):
    super().__init__(name=role.name, dtype='float32')
    self.role, self.mode = role, mode
    self.operation = role.call.operation
    self.input_ranges: tuple[Range | None, ...] = ()
    self.later_range: Range | None = None
    self.merged: tuple[Callable[[], tf.Tensor], ...] = ()
    # For those who look for height, width and channels in the twin's graph.
    self.data_format = 'channels_last'
    self.quantisers = {}
    for place in self.places():
      self.quantisers[place] = quantisers.Quantiser(place, role.group, mode)
    self.built = True

  def places(self) -> list[str]:
    """Returns the names of the places of learned ranges, in their order."""
    return [self.role.name] if self.role.has_range else []

  @property
  def input_range(self) -> Range | None:
    """The range of its first input's values; None: not rounded, or unknown."""
    return self.input_ranges[0] if self.input_ranges else None

  def output_range(self) -> Range | None:
    """Returns the range of its output's values; None where it is not known."""
    if 'sigmoid' in (self.role.kind, self.role.activation):
      return sigmoid_range
    if self.quantisers:
      return list(self.quantisers.values())[-1].ends
    return self.input_range if self.is_passing() else None

  def is_passing(self) -> bool:
    """Tells whether it writes in the range that it reads."""
    return self.role.kind in (
      'same',
      'window_mean',
      'dropout',
      'identity',
      'folded',
    )

  def goes_on_in(self, later: Sequence['Step']) -> None:
    """Takes note of the steps behind it that are part of its kernel."""
    merged = []
    for step in later:
      if step.summand is not None:
        merged.append(step.summand)
      if step.quantisers:
        self.later_range = next(iter(step.quantisers.values())).ends
        self.merged = tuple(merged)
        return

  @property
  def summand(self) -> Callable[[], tf.Tensor] | None:
    """What it adds to the bias of the weights before it, if it does."""
    return None

  def is_rounding(self) -> bool:
    """Tells whether it rounds weights, constants or what it computes."""
    return bool(self.quantisers) or self.role.kind in (
      *places.WEIGHTED,
      'sigmoid',
      'window_mean',
    )

  def compute_output_spec(
    self, inputs: keras.KerasTensor, training: bool | None = None
  ) -> keras.KerasTensor:
    """Returns that of the student's call; Keras would trace the step for it."""
    batch = keras.tree.flatten(inputs)[0].shape[0]
    shape = self.role.call.outputs[0].shape[1:]
    return keras.KerasTensor((batch, *shape), 'float32')

  def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    values = [tf.cast(x, tf.float32) for x in keras.tree.flatten(inputs)]
    y = None
    if not training and self.mode.rounds_all():
      y = self.compute_as_file(values)
    if y is None:
      y = self.compute(values)
    # What lies on the grid already stays.
    return self.round(y, self.role.name) if self.role.has_range else y

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns what the operation makes of its inputs, float32."""
    return self.role.call.compute(values, self.operation.call)[0]

  def compute_as_file(self, values: Sequence[tf.Tensor]) -> tf.Tensor | None:
    """Returns the same, rounded by the file's own arithmetic.

    Args:
      values: As of `compute`.

    Returns:
      Values on the grid that the kernel writes; None where a grid is not known,
      or the operation changes no value.
    """
    inputs, output = self.read(values), self.written_grid()
    if inputs is None or output is None:
      return None
    y = self.compute_integers(inputs, output)
    return None if y is None else y.values()

  def compute_integers(
    self, inputs: Sequence[kernels.Integers], output: kernels.Grid
  ) -> kernels.Integers | None:
    """Returns what the operation's kernels make of int8; None: not known."""
    del inputs, output
    return None

  def read(self, values: Sequence[tf.Tensor]) -> list[kernels.Integers] | None:
    """Returns inputs as a file holds them; None if one has no known grid."""
    ranges = [each for each in self.input_ranges if each is not None]
    if len(ranges) < len(values):
      return None
    return [
      kernels.read(x, kernels.grid(*ends()))
      for x, ends in zip(values, ranges, strict=True)
    ]

  def grid(self, place: str) -> kernels.Grid:
    """Returns the grid of a place in a file."""
    return kernels.grid(*self.quantisers[place].ends())

  def written_grid(self) -> kernels.Grid | None:
    """Returns the grid that its last kernel writes; None: not known."""
    if self.role.name in self.quantisers:
      return self.grid(self.role.name)
    return kernels.grid(*self.later_range()) if self.later_range else None

  def round(self, y: tf.Tensor, place: str) -> tf.Tensor:
    """Returns values rounded to the learned range of a place."""
    return self.quantisers[place](y)

  def constant(
    self,
    compute: Callable[[], tf.Tensor],
    round_values: Callable[[tf.Tensor], tf.Tensor] = quantisers.round_constant,
  ) -> tf.Tensor:
    """Returns a constant of the kernel, rounded where the group is."""
    return self.mode.choose(
      self.role.group,
      lambda: self.mode.constant(compute),
      lambda: self.mode.constant(lambda: round_values(compute())),
    )


class Image(keras.layers.Layer):
  """Raw images as the file takes them: the whole numbers from 0 to 255."""

  def __init__(self, mode: quantisers.Mode, name: str):
    super().__init__(name=name, dtype='float32')
    self.mode = mode
    self.built = True

  def call(self, images: tf.Tensor) -> tf.Tensor:
    return self.mode.rounded(
      self.name,
      images,
      lambda x: quantisers.round_between(x, *quantisers.IMAGE),
    )


def norm_constants(
  norm: keras.layers.BatchNormalization, *, drops_still_channels: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns factor and summand `[C]` of a batch norm that stands still.

  Args:
    norm: The batch norm.
    drops_still_channels: Whether the factor of a channel that does not vary is
      0, and its summand what the channel then always is. The channel of a
      depthwise convolution behind a dead one has a variance near 0, which makes
      its folded weights some hundred times those of others. Where all weights
      share a scale, they round all others to 0 and change nothing themselves
      (Sheng et al. 2018, arXiv:1803.08607).
  """
  variance = tf.cast(norm.moving_variance, tf.float32)
  factor = tf.math.rsqrt(variance + norm.epsilon)
  mean = tf.cast(norm.moving_mean, tf.float32)
  if norm.scale:
    factor *= tf.cast(norm.gamma, tf.float32)
  if drops_still_channels:
    # A layer whose channels are all that small uses them.
    least = _STILL * tf.minimum(norm.epsilon, tf.reduce_max(variance))
    factor = tf.where(variance < least, 0.0, factor)
  summand = -mean * factor
  if norm.center:
    summand += tf.cast(norm.beta, tf.float32)
  return factor, summand
