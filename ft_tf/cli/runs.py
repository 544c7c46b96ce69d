"""Lists runs: method, seed, state, accuracy, time.

  ft-tf runs runs/

Finds run folders at any depth. A run is complete, or stands at a step: the same
command that began it continues it. Nothing is written.
"""

from absl import flags

from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.report import run_list, tables

POSITIONAL = 'workdir'


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define(
    values,
    flag_sets.REQUIRED,
    'workdir',
    None,
    'folder to look in; it may also be given without the name of the flag',
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  rows = run_list.find(settings.required(values, 'workdir'))
  table = tables.to_markdown(
    run_list.HEADER,
    [run_list.format_cells(row) for row in rows],
  )
  return outcome.Outcome(
    {'runs': rows}, table if rows else f'no runs in {values.workdir}'
  )
