"""Has the recipe of the digits train for 2 to 4 epochs, not for 8 to 80.

A server of forks imports it for the pages and notebooks, whose code is run to
see that it runs: more than half of the time of a page would be spent on the
other epochs. A student of 4 epochs is well above chance, which a notebook asks
of its file.
"""

import functools

from ft_tf import catalogue, recipe_flags

_whole = catalogue.RECIPES['digits']


@functools.wraps(_whole)
def _short():
  return recipe_flags.override(
    _whole(),
    {
      'teacher_epochs': 2,
      'teacher_drop_epochs': (1,),
      'paraphraser_epochs': 2,
      'student_epochs': 4,
      'student_drop_epochs': (3,),
    },
  )


catalogue.RECIPES['digits'] = _short
