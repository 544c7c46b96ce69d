"""How many seeds Keras draws while a model is loaded or built.

Keras gives every initializer a seed of its own, drawn from Python's generator.
What is built after a model is loaded therefore has other first weights than
without that. A teacher is loaded once for many students; each skips as many
draws as if it had loaded the teacher itself, so that the first weights of a
translator are the same for a seed, whichever process loaded what, and the
figures that were published before stay those of their commands.
"""

import contextlib
import random
from collections.abc import Iterator

# As Keras draws them: keras/src/random/seed_generator.py, `make_default_seed`.
_RANGE = (1, int(1e9))
_MOST = 100_000  # draws; the largest networks of Keras take some thousands


class Draws:
  """A number of draws, once the block of `counted_draws` has ended.

  Attributes:
    count: The number.
  """

  count: int = 0


@contextlib.contextmanager
def counted_draws() -> Iterator[Draws]:
  """Counts the seeds that a block draws; blocks may be nested.

  Python's generator ends where it would have ended without the count.
  """
  before = random.getstate()
  random.seed(0)
  draws = Draws()
  try:
    yield draws
  finally:
    draws.count = _replayed(random.getstate())
    random.setstate(before)
    skip_draws(draws.count)


def skip_draws(count: int) -> None:
  """Draws a number of seeds that nobody takes."""
  for _ in range(count):
    random.randint(*_RANGE)


def _replayed(state: object) -> int:
  """Returns how many draws lead from the seed 0 to a state of the generator."""
  replay = random.Random(0)
  for count in range(_MOST):
    if replay.getstate() == state:
      return count
    replay.randint(*_RANGE)
  return 0  # A user's own layer drew in another way: nothing can be repeated.
