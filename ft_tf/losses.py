"""Losses: pure functions, one float32 value per example, no broadcasting."""

import tensorflow as tf

_NEVER = -1e9  # the logarithm of no probability, without an infinity's gradient


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
  student_factor: tf.Tensor,
  teacher_factor: tf.Tensor,
  p: int = 1,
  *,
  normalized: str = 'elements',
) -> tf.Tensor:
  """Returns L_FT (paper, equation 3), in the public code's reduction.

  mean over H*W*C of |F_S/||F_S||_2 - F_T/||F_T||_2|^p, each factor flattened
  over all but the batch. With beta 500 and the mean over the batch this is the
  public code's term for p = 1. A factor that is zero throughout counts as zero.

  Args:
    student_factor: F_S, `[B, H, W, C]`.
    teacher_factor: F_T, `[B, H, W, C]`. The caller stops its gradient.
    p: 1 or 2.
    normalized: What is brought to norm 1: 'elements', the factor's own, as in
      the paper and its code; or 'squared_mean', its squares averaged over the
      channels, `[B, H * W]`, as RepDistiller has it.

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
  """Returns T^2 KL(teacher || student), both softened (Hinton et al. 2015).

  Args:
    student_logits: `[B, classes]`.
    teacher_logits: `[B, classes]`.
    temperature: T, which divides the logits.

  Returns:
    `[B]`, float32, in nats times T^2.

  Raises:
    ValueError: the shapes differ.
  """
  ours, theirs = _pair('soft_targets', student_logits, teacher_logits)
  return temperature**2 * _divergence(
    tf.nn.log_softmax(ours / temperature),
    tf.nn.log_softmax(theirs / temperature),
  )


def decoupled_soft_targets(
  student_logits: tf.Tensor,
  teacher_logits: tf.Tensor,
  labels: tf.Tensor,
  temperature: float,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns T^2 times TCKD and NCKD (Zhao et al. 2022, equations 5 and 6).

  TCKD is the divergence of the label's probability against all others, NCKD
  that of the others among themselves.

  Args:
    student_logits: `[B, classes]`, of two classes or more.
    teacher_logits: `[B, classes]`.
    labels: `[B]`, integers.
    temperature: T, which divides the logits.

  Returns:
    `[B]` and `[B]`, float32, in nats times T^2.

  Raises:
    ValueError: the shapes differ.
  """
  pair = _pair('decoupled_soft_targets', student_logits, teacher_logits)
  is_label = tf.one_hot(
    labels, pair[0].shape[-1], on_value=True, off_value=False
  )
  binary, others = [], []
  for logits in pair:
    log = tf.nn.log_softmax(logits / temperature)
    of_label = tf.reduce_logsumexp(tf.where(is_label, log, _NEVER), axis=1)
    rest = tf.reduce_logsumexp(tf.where(is_label, _NEVER, log), axis=1)
    binary.append(tf.stack([of_label, rest], axis=1))
    others.append(tf.where(is_label, _NEVER, log - rest[:, None]))
  return (
    temperature**2 * _divergence(*binary),
    temperature**2 * _divergence(*others),
  )


def attention(feature: tf.Tensor) -> tf.Tensor:
  """Returns the normalised attention map (Zagoruyko and Komodakis 2017).

  The mean of the squares over the channels, flattened, at L2 norm 1 (section
  3.1: F^2_mean); zero stays zero.

  Args:
    feature: `[B, H, W, C]`.

  Returns:
    `[B, H * W]`, float32.
  """
  return _unit(_mean_square(feature))


def mean_squared(ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
  """Returns the mean of squared differences, `[B]` float32, of `[B, ..., C]`.

  Raises:
    ValueError: the shapes differ.
  """
  ours, theirs = _pair('mean_squared', ours, theirs)
  return _mean_power(ours - theirs, 2)


def similarity(
  ours: tf.Tensor,
  theirs: tf.Tensor,
  all_ours: tf.Tensor,
  all_theirs: tf.Tensor,
) -> tf.Tensor:
  """Returns each image's row of L_SP (Tung and Mori 2019, equation 4).

  The rows of Q Q^T, Q the flattened feature maps of a batch, are brought to L2
  norm 1. The mean over the batch of what is returned is the squared Frobenius
  norm of the two networks' difference over the batch's size squared.

  Args:
    ours: The student's feature maps, `[B, ...]`.
    theirs: The teacher's, `[B, ...]`; their sizes may differ.
    all_ours: Those of the whole batch, `[A, ...]`, of which `ours` are some.
    all_theirs: Likewise.

  Returns:
    `[B]`, float32.
  """
  rows = []
  for some, every in ((ours, all_ours), (theirs, all_theirs)):
    some, every = (_flat(tf.cast(x, tf.float32)) for x in (some, every))
    rows.append(_unit(tf.matmul(some, every, transpose_b=True)))
  return _mean_power(rows[0] - rows[1], 2)


def partial_squared(ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
  """Returns the partial squared distance (Heo et al. 2019, equation 4).

  The sum of squared differences, but of elements where the teacher is not above
  0 and the student not above the teacher: those are right as they are.

  Args:
    ours: The student's maps, `[B, ..., C]`.
    theirs: The teacher's.

  Returns:
    `[B]`, float32.

  Raises:
    ValueError: the shapes differ.
  """
  ours, theirs = _pair('partial_squared', ours, theirs)
  wrong = tf.where((ours > theirs) | (theirs > 0), ours - theirs, 0.0)
  return tf.reduce_sum(tf.square(_flat(wrong)), axis=1)


def _divergence(ours, theirs):
  """Returns KL(theirs || ours), `[B]`, of logarithms of probabilities."""
  return tf.reduce_sum(tf.exp(theirs) * (theirs - ours), axis=1)


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


def _mean_square(feature):
  """Returns the mean of squares over the channels, `[B, H, W]` float32.

  As a product: TensorFlow's graph optimiser joins its Square with the sum
  before it, breaks on that, and gives up on the whole graph.
  """
  feature = tf.cast(feature, tf.float32)
  return tf.reduce_mean(feature * feature, axis=-1)


def _flat(x):
  """Returns `[B, ...]` as `[B, elements]`, their number known if it can be."""
  elements = x.shape[1:].num_elements()
  return tf.reshape(x, [tf.shape(x)[0], -1 if elements is None else elements])


def _unit(x):
  """Returns each example over its L2 norm; zero stays zero, with a gradient."""
  x = _flat(x)
  square = tf.reduce_sum(tf.square(x), axis=1, keepdims=True)
  return x * tf.math.rsqrt(tf.where(square > 0, square, 1.0))


def _mean_power(difference, p):
  """Returns the mean of |difference|^p over all but the batch."""
  difference = _flat(difference)
  powered = tf.abs(difference) if p == 1 else tf.square(difference)
  return tf.reduce_mean(powered, axis=1)
