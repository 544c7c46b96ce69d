"""Paired gains: their mean, their interval and what it lets one say."""

from absl.testing import absltest, parameterized

from ft_tf.report import paired


def _by_seed(*values):
  return dict(enumerate(values))


class GainTest(parameterized.TestCase):
  def test_mean_is_over_the_seeds_that_both_have(self):
    gain = paired.gain({0: 0.9, 1: 0.8, 7: 0.1}, {1: 0.7, 0: 0.6, 3: 0.0})
    self.assertEqual(gain.seeds, 2)
    self.assertAlmostEqual(gain.mean, 0.2)
    # Means of two draws of 0.3 and 0.1.
    self.assertAlmostEqual(gain.low, 0.1)
    self.assertAlmostEqual(gain.high, 0.3)

  def test_no_common_seed_gives_no_gain(self):
    self.assertIsNone(paired.gain({0: 0.9}, {1: 0.9}))

  def test_interval_is_about_that_of_the_normal_mean(self):
    # 100 differences of deviation 1 about 0.5: 0.5 +- 1.96 / 10.
    values = [0.5 + (1 if i % 2 else -1) for i in range(100)]
    gain = paired.gain(_by_seed(*values), _by_seed(*[0.0] * 100))
    self.assertAlmostEqual(gain.low, 0.5 - 0.196, delta=0.02)
    self.assertAlmostEqual(gain.high, 0.5 + 0.196, delta=0.02)

  def test_what_is_common_to_a_seed_cancels(self):
    alone = _by_seed(0.1, 0.9, 0.5, 0.3, 0.7)
    ours = {seed: value + 0.01 for seed, value in alone.items()}
    gain = paired.gain(ours, alone)
    self.assertAlmostEqual(gain.low, 0.01)
    self.assertAlmostEqual(gain.high, 0.01)

  @parameterized.parameters(
    ((0.01, 0.02, 0.03, 0.02, 0.01), 'helped'),
    ((-0.01, -0.02, -0.03, -0.02, -0.01), 'did not help'),
    ((-0.03, 0.02, 0.01, -0.02, 0.03), 'inconclusive'),
    ((0.5, 0.5, 0.5, 0.5), 'inconclusive'),  # too few
    ((0.0,) * 5, 'inconclusive'),
  )
  def test_verdict_follows_the_interval(self, differences, verdict):
    gain = paired.gain(_by_seed(*differences), _by_seed(*[0.0] * 5))
    self.assertEqual(gain.verdict, verdict)


class WordsTest(absltest.TestCase):
  def test_words_hold_the_interval_and_the_verdict(self):
    gain = paired.Gain(0.0123, 0.004, 0.0205, 6)
    self.assertEqual(
      paired.words(gain),
      '+1.23 points over 6 paired seeds, 95 % interval +0.40 to +2.05: helped',
    )

  def test_few_seeds_are_said_to_be_few(self):
    self.assertEqual(
      paired.words(paired.Gain(-0.01, -0.01, -0.01, 1)),
      '-1.00 points over 1 paired seed: inconclusive, 5 seeds are the least to '
      'tell',
    )


if __name__ == '__main__':
  absltest.main()
