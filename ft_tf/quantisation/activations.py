"""Activations, as calls of their own or within a layer of weights."""

import tensorflow as tf

from ft_tf.quantisation import kernels, quantisers, steps


def inner_places(name: str, activation: str) -> list[str]:
  """Returns the places of learned ranges within an activation.

  Args:
    name: That of the call.
    activation: Its kind, as of `Activating.activate`.
  """
  if activation == 'hard_swish':
    return [f'{name}/sixth', f'{name}/sum']
  return [f'{name}/sum'] if activation == 'hard_sigmoid' else []


class Activating(steps.Step):
  """A step with an activation."""

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

  def activate_integers(
    self, x: kernels.Integers, kind: str, output: kernels.Grid
  ) -> kernels.Integers | None:
    """Returns an activation of int8 by the file's kernels; None: not known.

    Args:
      x: What is activated, on the grid that the kernel before it writes.
      kind: As of `activate`.
      output: The grid that the last kernel of the activation writes.
    """
    name = self.role.name
    if kind in ('relu', 'relu6'):
      return kernels.quantise(getattr(tf.nn, kind)(x.values()), output)
    if kind == 'hard_swish':
      sixth = _sixth(x, self.grid(f'{name}/sixth'))
      return kernels.multiply(sixth, self._sum_with_3(x), output)
    if kind == 'hard_sigmoid':
      return _sixth(self._sum_with_3(x), output)
    if kind == 'sigmoid':
      return kernels.sigmoid(x, output)
    if kind == 'swish':
      sigmoid = kernels.sigmoid(x, kernels.grid(*steps.sigmoid_range()))
      return kernels.multiply(x, sigmoid, output)
    return None

  def _sum_with_3(self, x):
    place = self.grid(f'{self.role.name}/sum')
    return kernels.relu6(kernels.add(x, kernels.constant(3.0), place))

  def gate_as_file(self, x: tf.Tensor, output: kernels.Grid) -> tf.Tensor:
    """Returns a hard sigmoid whose sum the kernel before it has rounded.

    Args:
      x: The sum less 3.
      output: The grid that is written.
    """
    place = f'{self.role.name}/sum'
    total = self.round(tf.nn.relu6(x + 3.0), place)
    return _sixth(kernels.read(total, self.grid(place)), output).values()


def hard_sigmoid_summand() -> tf.Tensor:
  """Returns what a hard sigmoid adds to the bias of the weights before it."""
  return tf.constant(3.0)


def _sixth(x, output):
  return kernels.multiply(x, kernels.constant(1 / 6), output)
