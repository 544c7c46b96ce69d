"""The calls of a student as LiteRT's integer kernels compute them.

A step replaces one call of the student's graph under its name and computes in
float32 whatever the student's precision. Its weights are the student's own
variables. Batch norm stands still: it is a factor and a summand made of its
moving statistics.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from ft_tf.quantisation import places, quantisers

# Returns the step between two values, and the int8 that is zero.
Grid = Callable[[], tuple[tf.Tensor, tf.Tensor]]

# Of a batch norm's epsilon: a channel of less variance is normalised to a
# deviation of less than 1/32, about one step of int8 from 0 to 6.
_STILL = 2.0**-10


def image_grid() -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the grid of a raw image's values."""
  return quantisers.fixed_grid(*quantisers.IMAGE)


def sigmoid_grid() -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the grid of a sigmoid's values."""
  return quantisers.fixed_grid(*quantisers.SIGMOID)


def inner_places(name: str, activation: str) -> list[str]:
  """Returns the places of learned ranges within an activation.

  Args:
    name: That of the call.
    activation: Its kind, as of `Step.activate`.
  """
  if activation == 'hard_swish':
    return [f'{name}/sixth', f'{name}/sum']
  return [f'{name}/sum'] if activation == 'hard_sigmoid' else []


class Step(keras.layers.Layer):
  """One call; the subclasses say what it computes before it is rounded."""

  def __init__(self, role: places.Role, mode: quantisers.Mode):
    super().__init__(name=role.name, dtype='float32')
    self.role, self.mode = role, mode
    self.operation = role.call.operation  # Its variables are the step's too.
    # The grid of its input's values; None where they are not rounded.
    self.input_grid: Grid | None = None
    # For those who look for height, width and channels in the twin's graph.
    self.data_format = 'channels_last'
    # Place -> quantiser, in the order of the kernels.
    self.quantisers = {}
    for place in self.places():
      self.quantisers[place] = quantisers.Quantiser(place, role.group, mode)
    self.built = True

  def places(self) -> list[str]:
    """Returns the names of the places of learned ranges, in their order."""
    return [self.role.name] if self.role.has_range else []

  def output_grid(self, input_grid: Grid | None) -> Grid | None:
    """Returns the grid of its output's values.

    Args:
      input_grid: That of its input; None where that is not rounded.
    """
    if 'sigmoid' in (self.role.kind, self.role.activation):
      return sigmoid_grid
    if self.quantisers:
      return list(self.quantisers.values())[-1].grid
    is_passing = self.role.kind in (
      'same',
      'window_mean',
      'dropout',
      'identity',
      'folded',
    )
    return input_grid if is_passing else None

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

  def call(self, inputs: tf.Tensor) -> tf.Tensor:
    values = [tf.cast(x, tf.float32) for x in keras.tree.flatten(inputs)]
    y = self.compute(values)
    return self.round(y, self.role.name) if self.role.has_range else y

  def compute(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns what the operation makes of its inputs, float32."""
    return self.role.call.compute(values, self.operation.call)[0]

  def round(self, y: tf.Tensor, place: str) -> tf.Tensor:
    """Returns values rounded to the learned range of a place."""
    return self.quantisers[place](y)

  def activate(self, x: tf.Tensor, kind: str) -> tf.Tensor:
    """Returns an activation of `x`; the last rounding is the caller's."""
    if kind in ('relu', 'relu6'):
      return getattr(tf.nn, kind)(x)
    if kind == 'hard_swish':
      # Not as one operation, see `convert.with_divided_hard_swish`.
      sixth = self.round(x * (1 / 6), f'{self.role.name}/sixth')
      return sixth * self.round(tf.nn.relu6(x + 3.0), f'{self.role.name}/sum')
    if kind == 'hard_sigmoid':
      # A sum, merged with relu6, and a product.
      y = self.round(tf.nn.relu6(x + 3.0), f'{self.role.name}/sum')
      return y * (1 / 6)
    if kind in ('sigmoid', 'swish'):
      y = self.mode.rounded(
        self.role.group,
        tf.sigmoid(x),
        lambda y: quantisers.round_between(y, *quantisers.SIGMOID),
      )
      return x * y if kind == 'swish' else y
    return x

  def constant(
    self,
    compute: Callable[[], tf.Tensor],
    round_values: Callable[[tf.Tensor], tf.Tensor] = quantisers.round_constant,
  ) -> tf.Tensor:
    """Returns a constant of the kernel, rounded where the group is."""
    return self.mode.constant(
      lambda: self.mode.rounded(self.role.group, compute(), round_values)
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
