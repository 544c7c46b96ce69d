"""Known values, gradients, compiled against eager, and refused shapes."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import losses


def _random(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _numpy_factor_transfer(student, teacher, p):
  """The paper's equation 3 over H*W*C, in float64."""
  student = student.reshape(len(student), -1).astype(np.float64)
  teacher = teacher.reshape(len(teacher), -1).astype(np.float64)
  student /= np.linalg.norm(student, axis=1, keepdims=True)
  teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
  return (np.abs(student - teacher) ** p).mean(axis=1)


def _softmax(logits):
  e = np.exp(logits - logits.max(axis=1, keepdims=True))
  return e / e.sum(axis=1, keepdims=True)


def _divergence(theirs, ours):
  return (theirs * np.log(theirs / ours)).sum(axis=1)


class SoftTargetsTest(parameterized.TestCase):
  def test_known_value_when_worked_out_by_hand(self):
    # At T 2: teacher (3/4, 1/4), student (1/2, 1/2); 4 times their divergence.
    teacher = np.float32([[2 * np.log(3), 0]])
    loss = losses.soft_targets(np.float32([[1, 1]]), teacher, 2.0)
    expected = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)

  def test_gradient_is_t_times_the_difference_of_probabilities(self):
    # Hinton et al. 2015, equation 2: 1/T (q - p), times T^2.
    ours, theirs = tf.constant(_random(3, 5)), _random(3, 5, seed=1)
    with tf.GradientTape() as tape:
      tape.watch(ours)
      loss = losses.soft_targets(ours, theirs, 4.0)
    np.testing.assert_allclose(
      tape.gradient(loss, ours),
      4 * (_softmax(ours.numpy() / 4) - _softmax(theirs / 4)),
      atol=1e-5,
    )

  @parameterized.parameters(1.0, 4.0)
  def test_decoupled_parts_make_up_the_divergence(self, temperature):
    # Zhao et al. 2022, equation 6: KL = TCKD + (1 - p_label) NCKD.
    ours, theirs = 3 * _random(6, 4), 3 * _random(6, 4, seed=1)
    labels = np.array([0, 1, 2, 3, 0, 1])
    of_label, of_others = losses.decoupled_soft_targets(
      ours, theirs, labels, temperature
    )
    p = _softmax(theirs / temperature)[np.arange(6), labels]
    np.testing.assert_allclose(
      of_label + (1 - p) * of_others,
      losses.soft_targets(ours, theirs, temperature),
      rtol=1e-4,
    )

  def test_decoupled_parts_are_the_papers_equations(self):
    ours, theirs = 3 * _random(2, 4), 3 * _random(2, 4, seed=1)
    of_label, of_others = losses.decoupled_soft_targets(
      ours, theirs, np.array([2, 0]), 1.0
    )
    for i, label in enumerate((2, 0)):
      p, q = (_softmax(x)[i] for x in (theirs, ours))
      binary = [np.array([[x[label], 1 - x[label]]]) for x in (p, q)]
      others = [np.delete(x, label)[None] / (1 - x[label]) for x in (p, q)]
      self.assertAlmostEqual(
        float(of_label[i]), _divergence(*binary)[0], places=4
      )
      self.assertAlmostEqual(
        float(of_others[i]), _divergence(*others)[0], places=4
      )

  def test_equal_logits_cost_nothing_and_have_a_finite_gradient(self):
    logits = tf.constant(np.float32([[90, -90, 0], [0, 0, 0]]))
    with tf.GradientTape() as tape:
      tape.watch(logits)
      loss = losses.soft_targets(logits, logits.numpy(), 4.0) + sum(
        losses.decoupled_soft_targets(logits, logits.numpy(), [0, 1], 4.0)
      )
    np.testing.assert_allclose(loss, [0, 0], atol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), 0, atol=1e-5)

  def test_other_shapes_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'soft_targets'):
      losses.soft_targets(_random(2, 3), _random(2, 4), 1.0)


class AttentionTest(absltest.TestCase):
  def test_known_value_when_worked_out_by_hand(self):
    # Squares (9, 16) and (0, 0): means 12.5 and 0, at norm 1.
    feature = np.float32([[3, 4], [0, 0]]).reshape(1, 1, 2, 2)
    np.testing.assert_allclose(losses.attention(feature), [[1, 0]], atol=1e-6)
    # (1, 0) against (0.6, 0.8): 0.16 and 0.64, mean 0.4.
    np.testing.assert_allclose(
      losses.mean_squared(np.float32([[1, 0]]), np.float32([[0.6, 0.8]])),
      [0.4],
      rtol=1e-5,
    )


class SimilarityTest(absltest.TestCase):
  def test_mean_is_the_papers_equation(self):
    ours, theirs = _random(5, 2, 2, 3), _random(5, 4, 4, 2, seed=1)
    rows = []
    for x in (ours, theirs):
      x = x.reshape(5, -1).astype(np.float64)
      gram = x @ x.T
      rows.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    expected = ((rows[0] - rows[1]) ** 2).sum() / 25
    each = losses.similarity(ours, theirs, ours, theirs)
    self.assertEqual(each.shape, (5,))
    self.assertAlmostEqual(float(np.mean(each)), expected, places=6)

  def test_halves_of_a_batch_have_the_rows_of_the_whole(self):
    ours, theirs = _random(6, 2, 2, 3), _random(6, 2, 2, 3, seed=1)
    whole = losses.similarity(ours, theirs, ours, theirs)
    half = losses.similarity(ours[3:], theirs[3:], ours, theirs)
    np.testing.assert_allclose(half, whole[3:], rtol=1e-5)


class PartialSquaredTest(absltest.TestCase):
  def test_what_is_low_in_both_is_right_as_it_is(self):
    # Heo et al. 2019, equation 4: nothing where student <= teacher <= 0.
    ours = np.float32([[-3, -1, 1, -1, 2]])
    theirs = np.float32([[-1, -2, -1, 1, 3]])
    np.testing.assert_allclose(
      losses.partial_squared(ours, theirs), [0 + 1 + 4 + 4 + 1], rtol=1e-6
    )


class FactorTransferTest(parameterized.TestCase):
  @parameterized.parameters(1, 2)
  def test_loss_is_the_papers_equation(self, p):
    student, teacher = _random(3, 4, 4, 5), _random(3, 4, 4, 5, seed=1)
    np.testing.assert_allclose(
      losses.factor_transfer(student, teacher, p),
      _numpy_factor_transfer(student, teacher, p),
      rtol=1e-5,
    )

  def test_known_value_when_worked_out_by_hand(self):
    # (3, 4)/5 against (1, 0): |0.6 - 1| and |0.8 - 0|, mean 0.6.
    student = np.float32([3, 4]).reshape(1, 1, 1, 2)
    teacher = np.float32([2, 0]).reshape(1, 1, 1, 2)
    self.assertAlmostEqual(
      float(losses.factor_transfer(student, teacher)[0]), 0.6, places=6
    )
    self.assertAlmostEqual(
      float(losses.factor_transfer(student, teacher, p=2)[0]), 0.4, places=6
    )

  def test_weighted_loss_of_random_factors_is_about_the_public_codes(self):
    # The public code's reduction: 500 * mean over batch and elements. Random
    # normal factors of 8x8x32 through LeakyReLU(0.1) start near 9.7.
    student, teacher = (_random(64, 8, 8, 32, seed=s) for s in (1, 2))
    student, teacher = (np.maximum(f, 0.1 * f) for f in (student, teacher))
    loss = 500 * np.mean(losses.factor_transfer(student, teacher))
    self.assertAlmostEqual(loss, 9.7, delta=0.1)

  def test_squared_mean_is_rep_distillers_normalisation(self):
    student, teacher = _random(3, 4, 4, 5), _random(3, 4, 4, 5, seed=1)
    maps = [(x.astype(np.float64) ** 2).mean(-1) for x in (student, teacher)]
    np.testing.assert_allclose(
      losses.factor_transfer(student, teacher, normalized='squared_mean'),
      _numpy_factor_transfer(*maps, 1),
      rtol=1e-5,
    )
    with self.assertRaisesRegex(ValueError, "'elements' or 'squared_mean'"):
      losses.factor_transfer(student, teacher, normalized='mean')

  def test_loss_ignores_the_scale_of_either_factor(self):
    student, teacher = _random(2, 2, 2, 3), _random(2, 2, 2, 3, seed=1)
    np.testing.assert_allclose(
      losses.factor_transfer(7 * student, 0.01 * teacher),
      losses.factor_transfer(student, teacher),
      rtol=1e-5,
    )

  @parameterized.parameters(1, 2)
  def test_gradient_agrees_with_finite_differences(self, p):
    student, teacher = _random(2, 2, 2, 3), _random(2, 2, 2, 3, seed=1)
    x = tf.constant(student)
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = tf.reduce_sum(losses.factor_transfer(x, teacher, p))
    gradient = tape.gradient(loss, x).numpy()
    direction = _random(2, 2, 2, 3, seed=2)
    h = 1e-4
    above, below = (
      _numpy_factor_transfer(student + s * h * direction, teacher, p).sum()
      for s in (1, -1)
    )
    self.assertAlmostEqual(
      float((gradient * direction).sum()), (above - below) / (2 * h), places=4
    )

  def test_zero_factors_give_zero_and_a_finite_gradient(self):
    x = tf.zeros([2, 2, 2, 3])
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = losses.factor_transfer(x, x)
    np.testing.assert_array_equal(loss, [0, 0])
    np.testing.assert_array_equal(tape.gradient(loss, x), np.zeros(x.shape))
    against = losses.factor_transfer(x, _random(2, 2, 2, 3))
    self.assertTrue(np.isfinite(against).all())

  def test_half_precision_factors_are_compared_in_float32(self):
    student, teacher = _random(2, 4, 4, 8), _random(2, 4, 4, 8, seed=1)
    loss = losses.factor_transfer(
      tf.cast(student, tf.bfloat16), tf.cast(teacher, tf.bfloat16)
    )
    self.assertEqual(loss.dtype, tf.float32)
    np.testing.assert_allclose(
      loss, losses.factor_transfer(student, teacher), rtol=0.02
    )

  def test_compiled_equals_eager(self):
    student, teacher = _random(3, 4, 4, 5), _random(3, 4, 4, 5, seed=1)
    compiled = tf.function(losses.factor_transfer)
    np.testing.assert_allclose(
      compiled(tf.constant(student), tf.constant(teacher)),
      losses.factor_transfer(student, teacher),
      rtol=1e-6,
    )

  @parameterized.parameters(
    ((2, 4, 4, 5), (2, 4, 4, 6)),
    ((2, 4, 4, 5), (2, 4, 4, 1)),
    ((2, 4, 4, 5), (1, 4, 4, 5)),
    ((2, 4, 4, 5), (2, 2, 2, 5)),
    ((2, 80), (2, 4, 4, 5)),
    ((5,), (5,)),
  )
  def test_other_shapes_are_refused(self, student, teacher):
    with self.assertRaisesRegex(ValueError, 'factor_transfer'):
      losses.factor_transfer(_random(*student), _random(*teacher))

  def test_other_norms_are_refused(self):
    x = _random(1, 1, 1, 2)
    with self.assertRaisesRegex(ValueError, 'p is 1 or 2'):
      losses.factor_transfer(x, x, p=3)


class ReconstructionTest(parameterized.TestCase):
  @parameterized.parameters(('l1', 2.0), ('l2', 5.0))
  def test_known_value(self, kind, expected):
    feature = np.zeros((1, 1, 2, 1), np.float32)
    paraphrased = np.float32([1, -3]).reshape(feature.shape)
    self.assertAlmostEqual(
      float(losses.reconstruction(paraphrased, feature, kind)[0]), expected
    )

  @parameterized.parameters('l1', 'l2')
  def test_one_value_per_example_in_float32(self, kind):
    x, y = _random(3, 2, 2, 4), _random(3, 2, 2, 4, seed=1)
    each = losses.reconstruction(x, y, kind)
    self.assertEqual((each.shape, each.dtype), ((3,), tf.float32))
    power = 1 if kind == 'l1' else 2
    np.testing.assert_allclose(
      each, (np.abs(x - y) ** power).mean(axis=(1, 2, 3)), rtol=1e-5
    )

  def test_gradient_of_l1_is_the_sign_over_the_elements(self):
    x, y = tf.constant(_random(1, 2, 2, 4)), _random(1, 2, 2, 4, seed=1)
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = losses.reconstruction(x, y, 'l1')
    np.testing.assert_allclose(
      tape.gradient(loss, x), np.sign(x.numpy() - y) / 16, rtol=1e-6
    )

  def test_unknown_kind_and_other_shapes_are_refused(self):
    x = _random(1, 2, 2, 4)
    with self.assertRaisesRegex(ValueError, "'l1' or 'l2'"):
      losses.reconstruction(x, x, 'huber')
    with self.assertRaisesRegex(ValueError, 'one shape'):
      losses.reconstruction(x, x[..., :1])


class CrossEntropyTest(parameterized.TestCase):
  def test_known_value(self):
    logits = np.log(np.float32([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    each = losses.cross_entropy(tf.constant(logits), tf.constant([0, 2]))
    np.testing.assert_allclose(each, -np.log([0.5, 0.8]), rtol=1e-5)

  def test_gradient_is_softmax_minus_one_hot(self):
    logits = tf.constant(_random(2, 3))
    with tf.GradientTape() as tape:
      tape.watch(logits)
      loss = losses.cross_entropy(logits, tf.constant([1, 0]))
    expected = tf.nn.softmax(logits) - tf.one_hot([1, 0], 3)
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=1e-6)

  @parameterized.parameters(0.1, 0.5, 1.0)
  def test_smoothed_labels_give_kerass_loss_and_its_gradient(self, smoothing):
    logits, labels = tf.constant(_random(6, 4)), tf.constant([0, 1, 2, 3, 0, 3])
    weights = np.float32([0.5, 1, 2, 4])
    theirs = keras.losses.CategoricalCrossentropy(
      from_logits=True, label_smoothing=smoothing, reduction='none'
    )
    with tf.GradientTape(persistent=True) as tape:
      tape.watch(logits)
      expected = theirs(tf.one_hot(labels, 4), logits)
      loss = losses.cross_entropy(logits, labels, smoothing=smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
      tape.gradient(loss, logits), tape.gradient(expected, logits), atol=1e-6
    )
    np.testing.assert_allclose(
      losses.cross_entropy(logits, labels, weights, smoothing),
      expected * weights[labels],
      rtol=1e-5,
    )

  def test_smoothed_label_by_hand(self):
    logits = np.log(np.float32([[0.5, 0.25, 0.25]]))
    (loss,) = losses.cross_entropy(
      tf.constant(logits), tf.constant([0]), smoothing=0.3
    )
    # 0.8 of the label, 0.1 of each other class.
    expected = -(0.8 * np.log(0.5) + 0.2 * np.log(0.25))
    self.assertAlmostEqual(float(loss), expected, places=5)

  def test_other_shapes_are_refused(self):
    with self.assertRaisesRegex(ValueError, 'cross_entropy'):
      losses.cross_entropy(tf.zeros([2, 3]), tf.zeros([2, 1], tf.int64))


if __name__ == '__main__':
  absltest.main()
