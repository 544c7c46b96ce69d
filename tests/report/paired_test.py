"""Paired gains: mean, confidence interval and verdict."""

import dataclasses

import numpy as np
from absl.testing import absltest, parameterized
from scipy import stats

from ft_tf.report import paired

# Student (1908), Biometrika 6:1, section IX: hours of sleep gained by ten
# patients under two drugs, here as two methods by seed. R's help page of
# `sleep` has t = -4.0621, p = 0.002833 and -2.4598858 .. -0.7001142.
_DRUG_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
_DRUG_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def _by_seed(*values):
  return dict(enumerate(values))


def _zeros(count):
  return dict.fromkeys(range(count), 0.0)


class GainTest(parameterized.TestCase):
  def test_interval_and_p_are_those_of_student_1908(self):
    gain = paired.compute_gain(_by_seed(*_DRUG_1), _by_seed(*_DRUG_2))
    self.assertEqual(gain.seeds, 10)
    self.assertAlmostEqual(gain.mean, -1.58)
    self.assertAlmostEqual(gain.low, -2.4598858, places=6)
    self.assertAlmostEqual(gain.high, -0.7001142, places=6)
    self.assertAlmostEqual(gain.p, 0.002833, places=6)
    self.assertEqual(gain.verdict, 'worse')

  @parameterized.parameters(2, 3, 7)
  def test_interval_and_p_are_those_of_scipy(self, seeds):
    values, baseline = np.random.default_rng(seeds).uniform(size=(2, seeds))
    gain = paired.compute_gain(_by_seed(*values), _by_seed(*baseline))
    expected = stats.ttest_rel(values, baseline)
    np.testing.assert_allclose(
      (gain.low, gain.high), expected.confidence_interval(0.95)
    )
    np.testing.assert_allclose(gain.p, expected.pvalue)

  def test_mean_is_over_the_seeds_that_both_have(self):
    gain = paired.compute_gain(
      {0: 0.9, 1: 0.8, 7: 0.1}, {1: 0.7, 0: 0.6, 3: 0.0}
    )
    self.assertEqual(gain.seeds, 2)
    self.assertAlmostEqual(gain.mean, 0.2)
    # Student's t of one degree of freedom at 97.5 % is tan(0.475 pi) = 12.7062;
    # the standard error of 0.3 and 0.1 is 0.1.
    self.assertAlmostEqual(gain.low, 0.2 - 1.27062, places=5)
    self.assertAlmostEqual(gain.high, 0.2 + 1.27062, places=5)

  def test_no_common_seed_gives_no_gain(self):
    self.assertIsNone(paired.compute_gain({0: 0.9}, {1: 0.9}))

  def test_effect_of_the_seed_cancels(self):
    noise = np.random.default_rng(0).normal(size=6)
    differences = (0.01, 0.02, 0.015, 0.01, 0.02, 0.03)
    gain = paired.compute_gain(
      _by_seed(*(noise + differences)), _by_seed(*noise)
    )
    expected = paired.compute_gain(_by_seed(*differences), _zeros(6))
    self.assertAlmostEqual(gain.low, expected.low)
    self.assertAlmostEqual(gain.high, expected.high)

  @parameterized.parameters(
    ((0.01, 0.02, 0.03, 0.02, 0.01), 'better'),
    ((-0.01, -0.02, -0.03, -0.02, -0.01), 'worse'),
    ((-0.03, 0.02, 0.01, -0.02, 0.03), 'no clear difference'),
    ((0.020, 0.021, 0.022), 'better'),  # Three close differences are enough,
    ((0.01, 0.02, 0.03), 'no clear difference'),  # p = 0.074.
    ((0.05,), 'no clear difference'),
  )
  def test_verdict_follows_the_interval(self, differences, verdict):
    gain = paired.compute_gain(_by_seed(*differences), _zeros(len(differences)))
    self.assertEqual(gain.verdict, verdict)

  @parameterized.parameters(0.0, 0.01, -0.2)
  def test_equal_differences_prove_nothing(self, difference):
    # As floats they are not exactly equal.
    baseline = _by_seed(0.71, 0.83, float(np.float32(0.9)), 0.3)
    values = {seed: value + difference for seed, value in baseline.items()}
    gain = paired.compute_gain(values, baseline)
    self.assertAlmostEqual(gain.mean, difference)
    self.assertEqual((gain.low, gain.high, gain.p), (None, None, None))
    self.assertEqual(gain.verdict, 'no clear difference')

  def test_single_pair_has_no_interval(self):
    gain = paired.compute_gain({3: 0.9}, {3: 0.5})
    self.assertEqual((gain.low, gain.high, gain.p), (None, None, None))

  @parameterized.parameters(3, 5, 10, 20)
  def test_interval_covers_95_percent(self, seeds):
    rng = np.random.default_rng(seeds)
    covered, runs, true = 0, 2000, 0.013
    for _ in range(runs):
      baseline = rng.normal(0.8, 0.02, size=seeds)
      gain = paired.compute_gain(
        _by_seed(*(baseline + rng.normal(true, 0.01, seeds))),
        _by_seed(*baseline),
      )
      covered += gain.low <= true <= gain.high
    # Three standard errors of a share of 0.95 of 2,000. The bootstrap's 0.83 at
    # 5 seeds and 0.89 at 10 are far outside.
    self.assertAlmostEqual(covered / runs, 0.95, delta=0.0146)


class GainsTest(parameterized.TestCase):
  def _comparison(self, rng, seeds, methods, true=()):
    """Returns gains of methods with one baseline; `true` has the first ones."""
    baseline = _by_seed(*rng.normal(0.8, 0.02, seeds))
    pairs = {}
    for method in range(methods):
      mean = 0.8 + (true[method] if method < len(true) else 0)
      pairs[str(method)] = (_by_seed(*rng.normal(mean, 0.02, seeds)), baseline)
    return paired.compute_gains(pairs)

  @parameterized.parameters((3, ()), (5, ()), (10, (0.1, -0.1, 0.03)))
  def test_five_percent_of_comparisons_have_a_wrong_verdict(self, seeds, true):
    rng = np.random.default_rng(seeds)
    wrong, runs = 0, 700
    for _ in range(runs):
      gains = self._comparison(rng, seeds, 10, true)
      unchanged = list(gains.values())[len(true) :]
      wrong += any(g.verdict != 'no clear difference' for g in unchanged)
    # Three standard errors of a share of 0.05. Without the correction more than
    # a fifth of the comparisons have a wrong verdict.
    self.assertLessEqual(wrong / runs, 0.05 + 0.0247)

  def test_verdict_never_contradicts_the_interval(self):
    rng = np.random.default_rng(0)
    verdicts = set()
    for _ in range(300):
      true = rng.choice([0, 0.03, -0.03], 6)
      for gain in self._comparison(
        rng, int(rng.integers(2, 9)), 6, true
      ).values():
        side = (gain.low > 0) - (gain.high < 0)
        verdicts.add(gain.verdict)
        self.assertEqual(
          gain.verdict,
          {1: 'better', -1: 'worse', 0: 'no clear difference'}[side],
        )
        self.assertEqual(gain.p <= 0.05, side != 0)
    self.assertLen(verdicts, 3)

  def test_steps_have_the_levels_of_holm(self):
    rng = np.random.default_rng(3)
    differences = {
      'clear': rng.normal(0.05, 0.01, 6),
      'doubtful': rng.normal(0.005, 0.01, 6),
      'none': rng.normal(0, 0.02, 6),
      'bad': rng.normal(-0.2, 0.05, 6),
    }
    gains = paired.compute_gains(
      {m: (_by_seed(*values), _zeros(6)) for m, values in differences.items()}
    )
    raw = {m: stats.ttest_1samp(v, 0).pvalue for m, v in differences.items()}
    self.assertEqual(sorted(raw, key=raw.get)[:2], ['bad', 'clear'])
    self.assertEqual(gains['clear'].verdict, 'better')
    self.assertEqual(gains['bad'].verdict, 'worse')
    self.assertAlmostEqual(gains['clear'].p, 3 * raw['clear'])
    self.assertAlmostEqual(gains['bad'].p, 4 * raw['bad'])
    # The third test fails, so that the fourth has the same level.
    for method, tests in (
      ('bad', 4),
      ('clear', 3),
      ('doubtful', 2),
      ('none', 2),
    ):
      expected = stats.ttest_1samp(differences[method], 0).confidence_interval(
        1 - 0.05 / tests
      )
      np.testing.assert_allclose(
        (gains[method].low, gains[method].high), expected
      )
      self.assertEqual(gains[method].methods, 4)

  def test_comparison_may_have_methods_without_an_interval(self):
    rng = np.random.default_rng(1)
    values = _by_seed(*rng.normal(0.05, 0.01, 5))
    gains = paired.compute_gains(
      {
        'single': ({2: 0.5}, _zeros(5)),
        'equal': (_zeros(5), _zeros(5)),
        'other seeds': ({9: 0.5}, _zeros(5)),
        'clear': (values, _zeros(5)),
      }
    )
    self.assertIsNone(gains['other seeds'])
    self.assertIsNone(gains['single'].p)
    self.assertIsNone(gains['equal'].p)
    # Equal differences count as a test, a single difference does not.
    single = paired.compute_gain(values, _zeros(5))
    self.assertAlmostEqual(gains['clear'].p, 2 * single.p)
    self.assertEqual(gains['clear'].methods, 2)

  def test_ties_of_small_test_splits_keep_the_error_level(self):
    # 40 images: accuracies are multiples of 0.025, and ties are frequent.
    rng = np.random.default_rng(4)
    wrong, runs = 0, 700
    for _ in range(runs):
      counts = rng.binomial(40, 0.8, size=(4, 3)) / 40
      baseline, *methods = (_by_seed(*row) for row in counts)
      gains = paired.compute_gains(
        {str(i): (values, baseline) for i, values in enumerate(methods)}
      )
      for gain in gains.values():
        self.assertNotIn('nan', str(dataclasses.astuple(gain)))
      wrong += any(g.verdict != 'no clear difference' for g in gains.values())
    self.assertLessEqual(wrong / runs, 0.05 + 0.0247)


class HolmTest(absltest.TestCase):
  def test_known_example(self):
    # R's p.adjust(c(0.01, 0.04, 0.03, 0.005), 'holm').
    adjusted, levels = paired.adjust_by_holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(levels, 0.05 / np.array([3, 2, 2, 4]))

  def test_adjusted_p_is_a_probability_and_keeps_the_order(self):
    adjusted, _ = paired.adjust_by_holm([0.9, 0.02, 0.6])
    np.testing.assert_allclose(adjusted, [1, 0.06, 1])


class DescribeTest(absltest.TestCase):
  def test_text_has_the_interval_and_the_verdict(self):
    self.assertEqual(
      paired.describe(paired.Gain(0.0123, 0.004, 0.0205, 6, 0.01, 1)),
      '+1.23 points over 6 paired seeds, 95 % interval +0.40 to +2.05: better',
    )

  def test_text_has_the_number_of_corrected_methods(self):
    self.assertEqual(
      paired.describe(paired.Gain(-0.0123, -0.0305, 0.004, 3, 0.2, 7)),
      '-1.23 points over 3 paired seeds, 95 % interval -3.05 to +0.40, '
      'corrected for 7 methods: no clear difference',
    )

  def test_missing_interval_has_its_reason(self):
    self.assertEqual(
      paired.describe(paired.compute_gain({1: 0.2}, {1: 0.21})),
      '-1.00 points over 1 paired seed: no clear difference (an interval needs '
      'at least 2 seeds)',
    )
    self.assertEqual(
      paired.describe(
        paired.compute_gain({1: 0.2, 4: 0.3}, {1: 0.21, 4: 0.31})
      ),
      '-1.00 points over 2 paired seeds: no clear difference (all differences '
      'are equal: they give no interval)',
    )


if __name__ == '__main__':
  absltest.main()
