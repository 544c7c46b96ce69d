"""Whether a method is better than its baseline: differences by seed."""

import dataclasses

import numpy as np
from scipy import special

_ERROR = 0.05  # the most that the verdicts of one comparison may err
# Below one image in a million: differences that vary by less are equal, and
# what is left of them is rounding.
_RESOLUTION = 1e-6


@dataclasses.dataclass(frozen=True)
class Gain:
  """The mean difference of two methods over the seeds that both have.

  Attributes:
    mean: In the unit of the figures, accuracy 0..1.
    low: Lower end of the interval of the mean, at 95 % or, by the correction
      for several methods, more; None where there is none: of one pair, or of
      differences that are all equal.
    high: Upper end.
    seeds: Number of pairs.
    p: Of the two-sided paired t test, adjusted by Holm; None likewise.
    methods: Number of methods that interval and p are corrected for.
  """

  mean: float
  low: float | None
  high: float | None
  seeds: int
  p: float | None
  methods: int

  @property
  def interval(self) -> tuple[float, float] | None:
    """Lower and upper end of the interval, or None where there is none."""
    if self.low is None or self.high is None:
      return None
    return self.low, self.high

  @property
  def verdict(self) -> str:
    """Returns 'better', 'worse' or 'no clear difference'.

    The first two if p is at most 0.05, which is where the interval leaves out
    0. Without an interval no difference is clear.
    """
    if self.p is None or self.p > _ERROR:
      return 'no clear difference'
    return 'better' if self.mean > 0 else 'worse'


def gains(
  pairs: dict[str, tuple[dict[int, float], dict[int, float]]],
) -> dict[str, Gain | None]:
  """Returns the gains of the methods of one comparison.

  Each is tested by the t test of paired differences (Student 1908). It holds
  its level from two pairs on, so that no larger number of seeds is asked for:
  few seeds show as a wide interval. Pairs have the same first weights and the
  same order of images.

  The probability that any verdict of the comparison is wrong where there is no
  difference is at most 5 %, by Holm's step-down procedure (1979, Scandinavian
  Journal of Statistics 6:65), whatever the dependence of the methods on their
  common baseline. The interval of a method has the level that Holm tests the
  method at: 1 - 0.05 / k, with k methods left to test; from the first method
  that fails on, k stays. So an interval leaves out 0 exactly where the verdict
  is better or worse. Each interval covers the true gain of its own method with
  a probability of at least 95 %; that all of them do so at once is less likely.

  Args:
    pairs: By method, its figures and its baseline's, each by seed. The
      correction is for all methods of two pairs or more.

  Returns:
    By method, its gain, or None if no seed is in both.
  """
  differences = {
    method: np.array([ours[s] - base[s] for s in sorted(ours.keys() & base)])
    for method, (ours, base) in pairs.items()
  }
  tested = {m: values for m, values in differences.items() if len(values) > 1}
  means = np.array([values.mean() for values in tested.values()])
  errors = np.array([_standard_error(values) for values in tested.values()])
  freedom = np.array([len(values) - 1 for values in tested.values()])
  p, levels = holm(2 * special.stdtr(freedom, -np.abs(means) / errors))
  halves = -special.stdtrit(freedom, levels / 2) * errors
  found: dict[str, Gain | None] = {}
  places = {method: place for place, method in enumerate(tested)}
  for method, values in differences.items():
    place = places.get(method)
    low = high = adjusted = None
    if place is not None and np.isfinite(halves[place]):
      low = float(means[place] - halves[place])
      high = float(means[place] + halves[place])
      adjusted = float(p[place])
    found[method] = (
      Gain(float(values.mean()), low, high, len(values), adjusted, len(means))
      if len(values)
      else None
    )
  return found


def _standard_error(differences: np.ndarray) -> float:
  """Returns that of their mean, infinite if all are equal: it is not known."""
  if np.ptp(differences) < _RESOLUTION:
    return np.inf
  return differences.std(ddof=1) / np.sqrt(len(differences))


def gain(ours: dict[int, float], base: dict[int, float]) -> Gain | None:
  """Returns the gain of the only method of a comparison; see `gains`.

  Args:
    ours: Seed to figure.
    base: The baseline's, by seed.
  """
  return gains({'': (ours, base)})['']


def holm(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns Holm's adjusted p values, and the level that each was tested at.

  Args:
    p: `[M]`, of the tests of one family.

  Returns:
    `[M]`, to be held against 0.05; and `[M]`, 0.05 over the number of tests
    left in the step that decided: a test's own, or the first that failed.
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


def words(found: Gain) -> str:
  """Returns a gain of accuracy in words, in points of percent."""
  pairs = f'{found.seeds} paired seed{"s" if found.seeds > 1 else ""}'
  mean = f'{100 * found.mean:+.2f} points over {pairs}'
  if found.seeds == 1:
    return f'{mean}: {found.verdict} (an interval needs at least 2 seeds)'
  if found.interval is None:
    return (
      f'{mean}: {found.verdict} (all differences are equal: they give no '
      'interval)'
    )
  low, high = found.interval
  several = f', corrected for {found.methods} methods'
  return (
    f'{mean}, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}'
    f'{several if found.methods > 1 else ""}: {found.verdict}'
  )
