"""Losses: pure functions, one float32 value per example, no broadcasting."""

import tensorflow as tf


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  """Returns -log softmax(logits)[label].

  Args:
    logits: `[B, classes]`, any float dtype.
    labels: `[B]`, integers.

  Returns:
    `[B]`, float32, in nats.

  Raises:
    ValueError: the shapes are not these.
  """
  logits = tf.cast(logits, tf.float32)
  if logits.shape.rank != 2 or labels.shape.rank != 1:
    raise ValueError(
      'cross_entropy takes logits [B, classes] and labels [B], not '
      f'{logits.shape} and {labels.shape}'
    )
  return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def reconstruction(
  paraphrased: tf.Tensor, feature: tf.Tensor, kind: str = 'l1'
) -> tf.Tensor:
  """Returns the paraphraser's loss (paper, equation 1).

  Args:
    paraphrased: P(x), `[B, H, W, m]`.
    feature: The teacher's feature map x, `[B, H, W, m]`.
    kind: 'l1', the mean over elements of |x - P(x)|, as in the public code; or
      'l2', the mean of their squares: the paper's squared norm over H*W*m, so
      that one learning rate serves both.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ, or there is no such kind.
  """
  paraphrased, feature = _pair('reconstruction', paraphrased, feature)
  if kind not in ('l1', 'l2'):
    raise ValueError(f"reconstruction is 'l1' or 'l2', not {kind!r}")
  return _mean_power(paraphrased - feature, 1 if kind == 'l1' else 2)


def factor_transfer(
  student_factor: tf.Tensor, teacher_factor: tf.Tensor, p: int = 1
) -> tf.Tensor:
  """Returns L_FT (paper, equation 3), in the public code's reduction.

  mean over H*W*C of |F_S/||F_S||_2 - F_T/||F_T||_2|^p, each factor flattened
  over all but the batch. With beta 500 and the mean over the batch this is the
  public code's term for p = 1. A factor that is zero throughout counts as zero.

  Args:
    student_factor: F_S, `[B, H, W, C]`.
    teacher_factor: F_T, `[B, H, W, C]`. The caller stops its gradient.
    p: 1 or 2.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ, or p is neither 1 nor 2.
  """
  student_factor, teacher_factor = _pair(
    'factor_transfer', student_factor, teacher_factor
  )
  if p not in (1, 2):
    raise ValueError(f'p is 1 or 2, not {p!r}')
  return _mean_power(_unit(student_factor) - _unit(teacher_factor), p)


def _pair(name, first, second):
  """Returns both as float32, or raises if their shapes may differ."""
  first, second = tf.convert_to_tensor(first), tf.convert_to_tensor(second)
  if first.shape.rank is None or first.shape.rank < 2:
    raise ValueError(f'{name} takes [B, ..., C], not {first.shape}')
  same = first.shape.is_compatible_with(second.shape)
  if first.shape.rank != second.shape.rank or not same:
    raise ValueError(
      f'{name} takes two tensors of one shape, not {first.shape} and '
      f'{second.shape}'
    )
  return tf.cast(first, tf.float32), tf.cast(second, tf.float32)


def _unit(x):
  """Returns each example over its L2 norm; zero stays zero, with a gradient."""
  x = tf.reshape(x, [tf.shape(x)[0], -1])
  square = tf.reduce_sum(tf.square(x), axis=1, keepdims=True)
  return x * tf.math.rsqrt(tf.where(square > 0, square, 1.0))


def _mean_power(difference, p):
  """Returns the mean of |difference|^p over all but the batch."""
  difference = tf.reshape(difference, [tf.shape(difference)[0], -1])
  powered = tf.abs(difference) if p == 1 else tf.square(difference)
  return tf.reduce_mean(powered, axis=1)
