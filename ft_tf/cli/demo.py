"""Tries it out on handwritten digits, in minutes.

  ft-tf demo
  ft-tf demo --workdir=runs/demo --student_epochs=16

A teacher, its paraphraser, and a student with and without factor transfer over
5 seeds, on 400 training digits that the installation holds (nothing is
downloaded). It is `ft-tf compress --recipe=digits --seeds=5 --baseline`; every
flag of that command may be given. The same command again continues, or reports
that it is complete.
"""

import os

from absl import flags

from ft_tf.cli import compress, flag_sets, outcome

_WORKDIR = os.path.join('runs', 'demo')


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define(
    values, flag_sets.OTHER, 'workdir', _WORKDIR, 'output directory'
  )
  compress.define_all_but_workdir(values, seeds=5)
  values.set_default('recipe', 'digits')
  values.set_default('baseline', True)


def run(values: flags.FlagValues) -> outcome.Outcome:
  if values.data_dir is None:
    values.data_dir = os.path.join(values.workdir, 'data')
  return compress.run(values)
