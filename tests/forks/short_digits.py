"""Has the recipe of the digits train for 2 epochs where it trains for 8 to 80.

A server of forks imports it for the pages and notebooks, whose code is run to
see that it runs: more than half of the time of a page would be spent on the
other epochs.
"""

import functools

from ft_tf import catalogue, recipe_flags

_whole = catalogue.RECIPES['digits']


@functools.wraps(_whole)
def _short():
  short = {'paraphraser_epochs': 2}
  for network in ('teacher', 'student'):
    short |= {f'{network}_epochs': 2, f'{network}_drop_epochs': (1,)}
  return recipe_flags.override(_whole(), short)


catalogue.RECIPES['digits'] = _short
