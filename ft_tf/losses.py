"""Losses: pure functions, one float32 value per example, no broadcasting."""

import numpy as np
import tensorflow as tf

# The logarithm of probability 0, finite so that gradients are finite too.
_LOG_ZERO = -1e9


def cross_entropy(
  logits: tf.Tensor,
  labels: tf.Tensor,
  class_weights: np.ndarray | None = None,
  smoothing: float = 0.0,
) -> tf.Tensor:
  """Returns -log softmax(logits)[label], times the weight of the label.

  With smoothing s the label is no longer certain (Szegedy et al., "Rethinking
  the Inception Architecture", CVPR 2016, section 7): its class has probability
  1 - s + s / K and each other one s / K. The loss is the cross entropy with
  these, a part 1 - s of it of the label and s of the mean over all classes.

  Args:
    logits: `[B, classes]`, any float dtype.
    labels: `[B]`, integers.
    class_weights: `[classes]` float32; None: all are 1.
    smoothing: The share s of a label that is spread over all K classes, 0..1.

  Returns:
    `[B]`, float32, in nats.

  Raises:
    ValueError: the shapes are different ones.
  """
  logits = tf.cast(logits, tf.float32)
  if logits.shape.rank != 2 or labels.shape.rank != 1:
    raise ValueError(
      'cross_entropy takes logits [B, classes] and labels [B], not '
      f'{logits.shape} and {labels.shape}'
    )
  if smoothing:
    classes = logits.shape[-1]
    spread = smoothing / classes
    probabilities = tf.one_hot(
      labels, classes, on_value=1 - smoothing + spread, off_value=spread
    )
    each = tf.nn.softmax_cross_entropy_with_logits(probabilities, logits)
  else:
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
  if class_weights is None:
    return each
  return each * tf.gather(tf.constant(class_weights), labels)


def reconstruction(
  paraphrased: tf.Tensor, feature: tf.Tensor, kind: str = 'l1'
) -> tf.Tensor:
  """Returns the paraphraser's loss (paper, equation 1).

  Args:
    paraphrased: P(x), `[B, H, W, m]`.
    feature: The teacher's feature map x, `[B, H, W, m]`.
    kind: 'l1', the mean over elements of |x - P(x)|, as in the public code; or
      'l2', the mean of the squared differences, which is the paper's squared
      norm divided by H*W*m, so that both need similar learning rates.

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
  student_factor: tf.Tensor,
  teacher_factor: tf.Tensor,
  p: int = 1,
  *,
  normalized: str = 'elements',
) -> tf.Tensor:
  """Returns L_FT (paper, equation 3), in the public code's reduction.

  mean over H*W*C of |F_S/||F_S||_2 - F_T/||F_T||_2|^p, each factor flattened
  except for the batch. With beta 500 and the mean over the batch, this is the
  term of the public code for p = 1. A factor of zeros stays zero.

  Args:
    student_factor: F_S, `[B, H, W, C]`.
    teacher_factor: F_T, `[B, H, W, C]`. The caller stops its gradient.
    p: 1 or 2.
    normalized: What is divided by its norm: 'elements', the factor itself, as
      in the paper and its code; or 'squared_mean', the squares of the factor
      averaged over the channels, `[B, H * W]`, as in RepDistiller.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ, p is neither 1 nor 2, or there is no such
      normalisation.
  """
  student_factor, teacher_factor = _pair(
    'factor_transfer', student_factor, teacher_factor
  )
  if p not in (1, 2):
    raise ValueError(f'p is 1 or 2, not {p!r}')
  if normalized not in ('elements', 'squared_mean'):
    raise ValueError(
      f"normalized is 'elements' or 'squared_mean', not {normalized!r}"
    )
  if normalized == 'squared_mean':
    student_factor, teacher_factor = (
      _mean_square(f) for f in (student_factor, teacher_factor)
    )
  return _mean_power(_unit(student_factor) - _unit(teacher_factor), p)


def soft_targets(
  student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
  """Returns T^2 KL(teacher || student) of softened logits (Hinton 2015).

  Args:
    student_logits: `[B, classes]`.
    teacher_logits: `[B, classes]`.
    temperature: T, which divides the logits.

  Returns:
    `[B]`, float32, in nats times T^2.

  Raises:
    ValueError: the shapes differ.
  """
  student_logits, teacher_logits = _pair(
    'soft_targets', student_logits, teacher_logits
  )
  return temperature**2 * _divergence(
    tf.nn.log_softmax(student_logits / temperature),
    tf.nn.log_softmax(teacher_logits / temperature),
  )


def decoupled_soft_targets(
  student_logits: tf.Tensor,
  teacher_logits: tf.Tensor,
  labels: tf.Tensor,
  temperature: float,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns T^2 times TCKD and NCKD (Zhao et al. 2022, equations 5 and 6).

  TCKD is the divergence of the two probabilities "label" and "any other class",
  NCKD that of the probabilities of the other classes among themselves.

  Args:
    student_logits: `[B, classes]`, with at least two classes.
    teacher_logits: `[B, classes]`.
    labels: `[B]`, integers.
    temperature: T, which divides the logits.

  Returns:
    `[B]` and `[B]`, float32, in nats times T^2.

  Raises:
    ValueError: the shapes differ.
  """
  student_and_teacher = _pair(
    'decoupled_soft_targets', student_logits, teacher_logits
  )
  is_label = tf.one_hot(
    labels, student_and_teacher[0].shape[-1], on_value=True, off_value=False
  )
  label_or_not, others = [], []
  for logits in student_and_teacher:
    log = tf.nn.log_softmax(logits / temperature)
    log_label = tf.reduce_logsumexp(tf.where(is_label, log, _LOG_ZERO), axis=1)
    log_rest = tf.reduce_logsumexp(tf.where(is_label, _LOG_ZERO, log), axis=1)
    label_or_not.append(tf.stack([log_label, log_rest], axis=1))
    # Conditional on not being the label, whose probability is then 0.
    others.append(tf.where(is_label, _LOG_ZERO, log - log_rest[:, None]))
  return (
    temperature**2 * _divergence(*label_or_not),
    temperature**2 * _divergence(*others),
  )


def attention(feature: tf.Tensor) -> tf.Tensor:
  """Returns the normalised attention map (Zagoruyko and Komodakis 2017).

  The mean of the squares over the channels, flattened and divided by its L2
  norm (section 3.1: F^2_mean). A map of zeros stays zero.

  Args:
    feature: `[B, H, W, C]`.

  Returns:
    `[B, H * W]`, float32.
  """
  return _unit(_mean_square(feature))


def mean_squared(student_map: tf.Tensor, teacher_map: tf.Tensor) -> tf.Tensor:
  """Returns the mean of squared differences.

  Args:
    student_map: `[B, ..., C]`.
    teacher_map: `[B, ..., C]`.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ.
  """
  student_map, teacher_map = _pair('mean_squared', student_map, teacher_map)
  return _mean_power(student_map - teacher_map, 2)


def similarity(
  student_maps: tf.Tensor,
  teacher_maps: tf.Tensor,
  batch_student_maps: tf.Tensor,
  batch_teacher_maps: tf.Tensor,
) -> tf.Tensor:
  """Returns each image's row of L_SP (Tung and Mori 2019, equation 4).

  The rows of Q Q^T, where Q are the flattened feature maps of a batch, are
  divided by their L2 norms. The mean of the returned values over the batch is
  the squared Frobenius norm of the difference between the matrices of the two
  networks, divided by the squared batch size.

  Args:
    student_maps: The student's feature maps, `[B, ...]`.
    teacher_maps: The teacher's feature maps, `[B, ...]`; the sizes of the two
      may differ.
    batch_student_maps: Those of the whole batch, `[A, ...]`, which include
      `student_maps`.
    batch_teacher_maps: Those of the whole batch, `[A, ...]`, which include
      `teacher_maps`.

  Returns:
    `[B]`, float32.
  """
  rows = []
  for maps, batch_maps in (
    (student_maps, batch_student_maps),
    (teacher_maps, batch_teacher_maps),
  ):
    maps, batch_maps = (
      _flat(tf.cast(x, tf.float32)) for x in (maps, batch_maps)
    )
    rows.append(_unit(tf.matmul(maps, batch_maps, transpose_b=True)))
  return _mean_power(rows[0] - rows[1], 2)


def partial_squared(
  student_map: tf.Tensor, teacher_map: tf.Tensor
) -> tf.Tensor:
  """Returns the partial squared distance (Heo et al. 2019, equation 4).

  The sum of squared differences. Elements where the teacher is not above 0 and
  the student is not above the teacher count as equal: a ReLU makes both 0.

  Args:
    student_map: `[B, ..., C]`.
    teacher_map: `[B, ..., C]`.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ.
  """
  student_map, teacher_map = _pair('partial_squared', student_map, teacher_map)
  counts = (student_map > teacher_map) | (teacher_map > 0)
  difference = tf.where(counts, student_map - teacher_map, 0.0)
  return tf.reduce_sum(tf.square(_flat(difference)), axis=1)


def _divergence(student_log, teacher_log):
  """Returns KL(teacher || student), `[B]`, of logarithms of probabilities."""
  return tf.reduce_sum(
    tf.exp(teacher_log) * (teacher_log - student_log), axis=1
  )


def _pair(name, first, second):
  """Returns two tensors as float32; raises `ValueError` if shapes differ."""
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


def _mean_square(feature):
  """Returns the mean of squares over the channels, `[B, H, W]` float32.

  Written as a product: TensorFlow's graph optimiser would fuse Square with the
  addition before it, fail on that, and leave the whole graph unoptimised.
  """
  feature = tf.cast(feature, tf.float32)
  return tf.reduce_mean(feature * feature, axis=-1)


def _flat(x):
  """Returns `[B, ...]` as `[B, elements]`, with a static shape if possible."""
  elements = x.shape[1:].num_elements()
  return tf.reshape(x, [tf.shape(x)[0], -1 if elements is None else elements])


def _unit(x):
  """Returns each example divided by its L2 norm; zeros stay zeros.

  The gradient at zero is finite.
  """
  x = _flat(x)
  square = tf.reduce_sum(tf.square(x), axis=1, keepdims=True)
  return x * tf.math.rsqrt(tf.where(square > 0, square, 1.0))


def _mean_power(difference, p):
  """Returns the mean of |difference|^p over all axes but the batch's."""
  difference = _flat(difference)
  powered = tf.abs(difference) if p == 1 else tf.square(difference)
  return tf.reduce_mean(powered, axis=1)
