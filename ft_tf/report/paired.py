"""Whether a method helped: differences of students of the same seed."""

import dataclasses

import numpy as np

LEAST_SEEDS = 5  # with fewer, chance alone gives all of them one sign too often
_RESAMPLES = 10_000
_INTERVAL = (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Gain:
  """The mean difference of two methods over the seeds that both have.

  Attributes:
    mean: In the unit of the figures, such as accuracy 0..1.
    low: Lower end of the 95 % interval of the mean.
    high: Upper end.
    seeds: Number of pairs.
  """

  mean: float
  low: float
  high: float
  seeds: int

  @property
  def verdict(self) -> str:
    """Returns 'helped', 'did not help' or 'inconclusive'.

    It helped if the whole interval is above 0, and did not if it is below. Of
    less than `LEAST_SEEDS` pairs nothing is concluded.
    """
    if self.seeds < LEAST_SEEDS or self.low <= 0 <= self.high:
      return 'inconclusive'
    return 'helped' if self.low > 0 else 'did not help'


def gain(ours: dict[int, float], theirs: dict[int, float]) -> Gain | None:
  """Returns the gain of `ours` over `theirs`, or None if no seed is in both.

  The interval is the percentile bootstrap of the mean of paired differences,
  10,000 resamples (Efron and Tibshirani 1993, section 13.3). Pairs have the
  same first weights and the same order of images.

  Args:
    ours: Seed to figure.
    theirs: Likewise.
  """
  seeds = sorted(ours.keys() & theirs.keys())
  if not seeds:
    return None
  differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
  drawn = np.random.default_rng(0).integers(
    len(seeds), size=(_RESAMPLES, len(seeds))
  )
  low, high = np.percentile(differences[drawn].mean(axis=1), _INTERVAL)
  return Gain(float(differences.mean()), float(low), float(high), len(seeds))


def words(found: Gain) -> str:
  """Returns a gain of accuracy in words, in points of percent."""
  said = (
    f'{100 * found.mean:+.2f} points over {found.seeds} paired '
    f'seed{"s" if found.seeds > 1 else ""}'
  )
  if found.seeds < LEAST_SEEDS:
    return f'{said}: inconclusive, {LEAST_SEEDS} seeds are the least to tell'
  return (
    f'{said}, 95 % interval {100 * found.low:+.2f} to {100 * found.high:+.2f}: '
    f'{found.verdict}'
  )
