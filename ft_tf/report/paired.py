"""Whether a method is better than its baseline, by differences per seed."""

import dataclasses

import numpy as np
from scipy import special

# The largest probability of a wrong verdict in one comparison.
_ERROR = 0.05
# An accuracy changes by at least one image; differences that vary by less than
# one image in a million are equal but for rounding.
_RESOLUTION = 1e-6


@dataclasses.dataclass(frozen=True)
class Gain:
  """The mean difference between two methods over their common seeds.

  Attributes:
    mean: Mean difference, in the unit of the values (accuracy: 0..1).
    low: Lower end of the mean's confidence interval, at the 95 % level, or at a
      higher level by the correction for several methods. None if there is no
      interval, because there is only one pair or all differences are equal.
    high: Upper end of the interval; None if there is no interval.
    seeds: Number of pairs.
    p: The p value of the two-sided paired t test, adjusted by Holm; None if
      there is no interval.
    methods: Number of methods that interval and p value are corrected for.
  """

  mean: float
  low: float | None
  high: float | None
  seeds: int
  p: float | None
  methods: int

  @property
  def interval(self) -> tuple[float, float] | None:
    """The lower and upper end of the interval; None if there is none."""
    if self.low is None or self.high is None:
      return None
    return self.low, self.high

  @property
  def verdict(self) -> str:
    """Returns 'better', 'worse' or 'no clear difference'.

    A difference is clear if p is at most 0.05, which is exactly where the
    interval does not contain 0. Without an interval no difference is clear.
    """
    if self.p is None or self.p > _ERROR:
      return 'no clear difference'
    return 'better' if self.mean > 0 else 'worse'


def compute_gains(
  pairs: dict[str, tuple[dict[int, float], dict[int, float]]],
) -> dict[str, Gain | None]:
  """Returns the gains of the methods of one comparison.

  The t test of paired differences (Student 1908) tests each method. The test
  keeps its error level from two pairs on, so that no minimum number of seeds is
  required: few seeds give a wide interval. The two runs of a pair start with
  the same weights and read the images in the same order.

  If no method makes a difference, the probability that any verdict of the
  comparison is 'better' or 'worse' is at most 5 %. Holm's step-down procedure
  (1979, Scandinavian Journal of Statistics 6:65) ensures this, even though all
  methods depend on one baseline. The confidence level of a method's interval is
  the level at which Holm tests the method: 1 - 0.05 / k, where k methods are
  left to test; from the first test that fails on, k does not change. So an
  interval does not contain 0 exactly where the verdict is 'better' or 'worse'.
  Each interval contains the true gain of its method with a probability of at
  least 95 %; the probability that all intervals do is lower.

  Args:
    pairs: For each method, its accuracies and the baseline's, each by seed. The
      correction counts the methods that have two pairs or more.

  Returns:
    For each method its gain; None if method and baseline share no seed.
  """
  differences = {
    method: np.array(
      [values[s] - baseline[s] for s in sorted(values.keys() & baseline)]
    )
    for method, (values, baseline) in pairs.items()
  }
  tested = {m: values for m, values in differences.items() if len(values) > 1}
  means = np.array([values.mean() for values in tested.values()])
  errors = np.array([_standard_error(values) for values in tested.values()])
  freedom = np.array([len(values) - 1 for values in tested.values()])
  p, levels = adjust_by_holm(
    2 * special.stdtr(freedom, -np.abs(means) / errors)
  )
  halves = -special.stdtrit(freedom, levels / 2) * errors
  gains: dict[str, Gain | None] = {}
  positions = {method: position for position, method in enumerate(tested)}
  for method, values in differences.items():
    position = positions.get(method)
    low = high = adjusted = None
    if position is not None and np.isfinite(halves[position]):
      low = float(means[position] - halves[position])
      high = float(means[position] + halves[position])
      adjusted = float(p[position])
    gains[method] = (
      Gain(float(values.mean()), low, high, len(values), adjusted, len(means))
      if len(values)
      else None
    )
  return gains


def _standard_error(differences: np.ndarray) -> float:
  """Returns the standard error of the mean difference.

  It is infinite if all differences are equal: their spread is then unknown, not
  0, and p becomes 1.
  """
  if np.ptp(differences) < _RESOLUTION:
    return np.inf
  return differences.std(ddof=1) / np.sqrt(len(differences))


def compute_gain(
  values: dict[int, float], baseline: dict[int, float]
) -> Gain | None:
  """Returns the gain of a single method; see `compute_gains`.

  Args:
    values: The method's accuracies by seed.
    baseline: The baseline's accuracies by seed.
  """
  return compute_gains({'': (values, baseline)})['']


def adjust_by_holm(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns Holm's adjusted p values, and the level at which each was tested.

  Args:
    p: `[M]`, the p values of all tests of a comparison.

  Returns:
    The adjusted p values `[M]`, which are compared with 0.05; and the levels
    `[M]`, each 0.05 divided by the number of tests left in the step that
    decided: the step of the test, or the first step that failed.
  """
  p = np.asarray(p, float)
  order = np.argsort(p, kind='stable')
  left = np.arange(len(p), 0, -1)
  steps = np.minimum(np.maximum.accumulate(left * p[order]), 1)
  failed = np.flatnonzero(steps > _ERROR)
  if len(failed):
    left = np.maximum(left, left[failed[0]])
  adjusted, levels = np.empty(len(p)), np.empty(len(p))
  adjusted[order], levels[order] = steps, _ERROR / left
  return adjusted, levels


def describe(gain: Gain) -> str:
  """Returns a gain in accuracy as text, in percentage points."""
  pairs = f'{gain.seeds} paired seed{"s" if gain.seeds > 1 else ""}'
  mean = f'{100 * gain.mean:+.2f} points over {pairs}'
  if gain.seeds == 1:
    return f'{mean}: {gain.verdict} (an interval needs at least 2 seeds)'
  if gain.interval is None:
    return (
      f'{mean}: {gain.verdict} (all differences are equal: they give no '
      'interval)'
    )
  low, high = gain.interval
  several = f', corrected for {gain.methods} methods'
  return (
    f'{mean}, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}'
    f'{several if gain.methods > 1 else ""}: {gain.verdict}'
  )
