"""Paired gains: their mean, their interval and the verdict it allows."""

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
  def test_interval_and_p_are_students_own(self):
    gain = paired.gain(_by_seed(*_DRUG_1), _by_seed(*_DRUG_2))
    self.assertEqual(gain.seeds, 10)
    self.assertAlmostEqual(gain.mean, -1.58)
    self.assertAlmostEqual(gain.low, -2.4598858, places=6)
    self.assertAlmostEqual(gain.high, -0.7001142, places=6)
    self.assertAlmostEqual(gain.p, 0.002833, places=6)
    self.assertEqual(gain.verdict, 'worse')

  @parameterized.parameters(2, 3, 7)
  def test_interval_and_p_are_those_of_scipy(self, seeds):
    ours, base = np.random.default_rng(seeds).uniform(size=(2, seeds))
    gain = paired.gain(_by_seed(*ours), _by_seed(*base))
    expected = stats.ttest_rel(ours, base)
    np.testing.assert_allclose(
      (gain.low, gain.high), expected.confidence_interval(0.95)
    )
    np.testing.assert_allclose(gain.p, expected.pvalue)

  def test_mean_is_over_the_seeds_that_both_have(self):
    gain = paired.gain({0: 0.9, 1: 0.8, 7: 0.1}, {1: 0.7, 0: 0.6, 3: 0.0})
    self.assertEqual(gain.seeds, 2)
    self.assertAlmostEqual(gain.mean, 0.2)
    # Student's t of one degree of freedom at 97.5 % is tan(0.475 pi) = 12.7062;
    # the standard error of 0.3 and 0.1 is 0.1.
    self.assertAlmostEqual(gain.low, 0.2 - 1.27062, places=5)
    self.assertAlmostEqual(gain.high, 0.2 + 1.27062, places=5)

  def test_no_common_seed_gives_no_gain(self):
    self.assertIsNone(paired.gain({0: 0.9}, {1: 0.9}))

  def test_what_is_common_to_a_seed_cancels(self):
    noise = np.random.default_rng(0).normal(size=6)
    differences = (0.01, 0.02, 0.015, 0.01, 0.02, 0.03)
    gain = paired.gain(_by_seed(*(noise + differences)), _by_seed(*noise))
    expected = paired.gain(_by_seed(*differences), _zeros(6))
    self.assertAlmostEqual(gain.low, expected.low)
    self.assertAlmostEqual(gain.high, expected.high)

  @parameterized.parameters(
    ((0.01, 0.02, 0.03, 0.02, 0.01), 'better'),
    ((-0.01, -0.02, -0.03, -0.02, -0.01), 'worse'),
    ((-0.03, 0.02, 0.01, -0.02, 0.03), 'no clear difference'),
    ((0.020, 0.021, 0.022), 'better'),  # Three seeds that agree are enough,
    ((0.01, 0.02, 0.03), 'no clear difference'),  # p = 0.074.
    ((0.05,), 'no clear difference'),
  )
  def test_verdict_follows_the_interval(self, differences, verdict):
    gain = paired.gain(_by_seed(*differences), _zeros(len(differences)))
    self.assertEqual(gain.verdict, verdict)

  @parameterized.parameters(0.0, 0.01, -0.2)
  def test_equal_differences_prove_nothing(self, difference):
    # As floats they are not exactly equal.
    base = _by_seed(0.71, 0.83, float(np.float32(0.9)), 0.3)
    ours = {seed: value + difference for seed, value in base.items()}
    gain = paired.gain(ours, base)
    self.assertAlmostEqual(gain.mean, difference)
    self.assertEqual((gain.low, gain.high, gain.p), (None, None, None))
    self.assertEqual(gain.verdict, 'no clear difference')

  def test_single_pair_has_no_interval(self):
    gain = paired.gain({3: 0.9}, {3: 0.5})
    self.assertEqual((gain.low, gain.high, gain.p), (None, None, None))

  @parameterized.parameters(3, 5, 10, 20)
  def test_interval_covers_95_percent(self, seeds):
    rng = np.random.default_rng(seeds)
    covered, runs, true = 0, 2000, 0.013
    for _ in range(runs):
      base = rng.normal(0.8, 0.02, size=seeds)
      gain = paired.gain(
        _by_seed(*(base + rng.normal(true, 0.01, seeds))), _by_seed(*base)
      )
      covered += gain.low <= true <= gain.high
    # Three standard errors of a share of 0.95 of 2,000. The bootstrap's 0.83 at
    # 5 seeds and 0.89 at 10 are far outside.
    self.assertAlmostEqual(covered / runs, 0.95, delta=0.0146)


class GainsTest(parameterized.TestCase):
  def _comparison(self, rng, seeds, methods, true=()):
    """Returns gains of methods that share a baseline; the first have `true`."""
    base = _by_seed(*rng.normal(0.8, 0.02, seeds))
    pairs = {}
    for method in range(methods):
      mean = 0.8 + (true[method] if method < len(true) else 0)
      pairs[str(method)] = (_by_seed(*rng.normal(mean, 0.02, seeds)), base)
    return paired.gains(pairs)

  @parameterized.parameters((3, ()), (5, ()), (10, (0.1, -0.1, 0.03)))
  def test_five_percent_of_comparisons_have_a_wrong_verdict(self, seeds, true):
    rng = np.random.default_rng(seeds)
    wrong, runs = 0, 700
    for _ in range(runs):
      gains = self._comparison(rng, seeds, 10, true)
      same = list(gains.values())[len(true) :]
      wrong += any(g.verdict != 'no clear difference' for g in same)
    # Three standard errors of a share of 0.05. Without the correction more than
    # a fifth of the comparisons have a wrong verdict.
    self.assertLessEqual(wrong / runs, 0.05 + 0.0247)

  def test_verdict_never_contradicts_the_interval(self):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
      true = rng.choice([0, 0.03, -0.03], 6)
      for gain in self._comparison(
        rng, int(rng.integers(2, 9)), 6, true
      ).values():
        side = (gain.low > 0) - (gain.high < 0)
        seen.add(gain.verdict)
        self.assertEqual(
          gain.verdict,
          {1: 'better', -1: 'worse', 0: 'no clear difference'}[side],
        )
        self.assertEqual(gain.p <= 0.05, side != 0)
    self.assertLen(seen, 3)

  def test_steps_have_the_levels_of_holm(self):
    rng = np.random.default_rng(3)
    differences = {
      'clear': rng.normal(0.05, 0.01, 6),
      'doubtful': rng.normal(0.005, 0.01, 6),
      'none': rng.normal(0, 0.02, 6),
      'bad': rng.normal(-0.2, 0.05, 6),
    }
    gains = paired.gains(
      {m: (_by_seed(*values), _zeros(6)) for m, values in differences.items()}
    )
    raw = {m: stats.ttest_1samp(v, 0).pvalue for m, v in differences.items()}
    self.assertEqual(sorted(raw, key=raw.get)[:2], ['bad', 'clear'])
    self.assertEqual(gains['clear'].verdict, 'better')
    self.assertEqual(gains['bad'].verdict, 'worse')
    self.assertAlmostEqual(gains['clear'].p, 3 * raw['clear'])
    self.assertAlmostEqual(gains['bad'].p, 4 * raw['bad'])
    # The third fails, so that the last is not looked at closer than it.
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

  def test_methods_without_an_interval_stand_among_the_others(self):
    rng = np.random.default_rng(1)
    values = _by_seed(*rng.normal(0.05, 0.01, 5))
    gains = paired.gains(
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
    # Equal differences are a test that was made, a single one is none.
    alone = paired.gain(values, _zeros(5))
    self.assertAlmostEqual(gains['clear'].p, 2 * alone.p)
    self.assertEqual(gains['clear'].methods, 2)

  def test_small_test_splits_do_not_add_errors(self):
    # 40 images: accuracies are multiples of 0.025, and ties are frequent.
    rng = np.random.default_rng(4)
    wrong, runs = 0, 700
    for _ in range(runs):
      counts = rng.binomial(40, 0.8, size=(4, 3)) / 40
      base, *others = (_by_seed(*row) for row in counts)
      gains = paired.gains({str(i): (o, base) for i, o in enumerate(others)})
      for gain in gains.values():
        self.assertNotIn('nan', str(dataclasses.astuple(gain)))
      wrong += any(g.verdict != 'no clear difference' for g in gains.values())
    self.assertLessEqual(wrong / runs, 0.05 + 0.0247)


class HolmTest(absltest.TestCase):
  def test_known_example(self):
    # R's p.adjust(c(0.01, 0.04, 0.03, 0.005), 'holm').
    adjusted, levels = paired.holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(adjusted, [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(levels, 0.05 / np.array([3, 2, 2, 4]))

  def test_adjusted_p_is_a_probability_and_keeps_the_order(self):
    adjusted, _ = paired.holm([0.9, 0.02, 0.6])
    np.testing.assert_allclose(adjusted, [1, 0.06, 1])


class WordsTest(absltest.TestCase):
  def test_words_hold_the_interval_and_the_verdict(self):
    self.assertEqual(
      paired.words(paired.Gain(0.0123, 0.004, 0.0205, 6, 0.01, 1)),
      '+1.23 points over 6 paired seeds, 95 % interval +0.40 to +2.05: better',
    )

  def test_correction_is_named(self):
    self.assertEqual(
      paired.words(paired.Gain(-0.0123, -0.0305, 0.004, 3, 0.2, 7)),
      '-1.23 points over 3 paired seeds, 95 % interval -3.05 to +0.40, '
      'corrected for 7 methods: no clear difference',
    )

  def test_missing_interval_has_its_reason(self):
    self.assertEqual(
      paired.words(paired.gain({1: 0.2}, {1: 0.21})),
      '-1.00 points over 1 paired seed: no clear difference (an interval needs '
      'at least 2 seeds)',
    )
    self.assertEqual(
      paired.words(paired.gain({1: 0.2, 4: 0.3}, {1: 0.21, 4: 0.31})),
      '-1.00 points over 2 paired seeds: no clear difference (all differences '
      'are equal: they give no interval)',
    )


if __name__ == '__main__':
  absltest.main()
