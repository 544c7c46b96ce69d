r"""Compares methods over seeds: tables, charts, verdicts.

  ft-tf compare --recipe=digits --methods=scratch,kd,at,ft,ft+kd --seeds=5 \
      --workdir=runs/methods
  ft-tf compare --recipe=digits --methods=scratch,ft --seeds=5 \
      --sweep=paraphraser.rate=0.5,1,2 --workdir=runs/rates

Leaves comparison.json, .md, .csv, .tex and .html in the workdir, next to the
runs. The same command again continues an interrupted comparison; methods, seeds
and sweeps can be added to it. If a run fails, it is reported and the remaining
runs continue.
"""

import functools
import sys

from absl import flags

from ft_tf import (
  arms,
  catalogue,
  comparison,
  errors,
  recipes,
  rehearsal,
  workshop,
)
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.data import datasets
from ft_tf.report import closing, tables
from ft_tf.training import tf_config

_MOST_JOBS = 256


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(values, 'output directory')
  flag_sets.define_recipe(values, flag_sets.ALL_STAGES)
  flag_sets.define_data_dir(values)
  flag_sets.define(
    values,
    flag_sets.TRAINING,
    'methods',
    ['scratch', 'ft'],
    'methods to compare, separated by commas: values of --method, or factor '
    'transfer as other code bases implement it: '
    f'{", ".join(catalogue.VARIANTS)}',
  )
  flag_sets.define(
    values,
    flag_sets.TRAINING,
    'seeds',
    1,
    'number of seeds to train each method with, starting at --seed',
    lower_bound=1,
    upper_bound=recipes.MOST_SEEDS,
  )
  flag_sets.define(
    values,
    flag_sets.TRAINING,
    'sweep',
    [],
    'field of the recipe and the values to try, such as '
    'paraphraser.rate=0.5,1,2; if repeated, all combinations are run',
    kind=flags.DEFINE_multi_string,
  )
  flag_sets.define(
    values,
    flag_sets.DEVICES,
    'jobs',
    1,
    'number of students trained in parallel, one process each',
    lower_bound=1,
    upper_bound=_MOST_JOBS,
  )
  flag_sets.define(
    values,
    flag_sets.CHECKS,
    'dry_run',
    False,
    'print the plan and its time, estimated from a few real steps of each '
    'part; nothing is kept',
  )
  flag_sets.define_signals(values)
  flag_sets.define_devices(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  if values.dry_run:
    tf_config.ignore()  # It plans for this machine.
  elif values.jobs > 1 and tf_config.read() is not None:
    raise errors.UsageError(
      f'--jobs={values.jobs}: TF_CONFIG is set, and each student is trained on '
      'all machines; leave out --jobs'
    )
  if values.jobs > 1 and values.strategy != 'auto':
    raise errors.UsageError(
      f'--jobs={values.jobs}: one process has the TPU; leave out --jobs'
    )
  # Refused at once if wrong: to read images may take minutes.
  settings.read_signals(values)
  chosen = arms.make(values.methods, settings.read_sweep(values))
  setting = settings.read_setting(values)
  recipe = setting.recipe
  arguments = {
    'devices': setting.strategy,
    'workshop': workshop.Workshop(
      open_dataset=functools.partial(
        datasets.Dataset.from_recipe, recipe.data, values.data_dir
      ),
      options=setting.options,
      num_replicas=values.num_replicas,
      signal_cache=values.signal_cache,
      signal_cache_gib=values.signal_cache_gib,
      allow_unsafe_model=values.allow_unsafe_model,
    ),
    'chosen': chosen,
    'seeds': values.seeds,
    'given': setting.given,
  }
  if values.dry_run:
    return _plan(rehearsal.rehearse(recipe, **arguments))
  compared = comparison.compare(
    recipe, run=setting.run, jobs=values.jobs, **arguments
  )
  text = closing.describe_comparison(setting.run, compared)
  if compared['failures']:
    print(text, file=sys.stderr)
    raise errors.TrainingError(
      f'{", ".join(compared["failures"])} failed (see above). Run the same '
      'command again to retry; all other runs are complete'
    )
  return outcome.Outcome(compared, text)


def _plan(parts: list[dict[str, float]]) -> outcome.Outcome:
  """Returns the parts of a comparison and their times."""
  total = sum(part['seconds'] for part in parts)
  lines = [
    [
      str(part['part']),
      str(part['runs']),
      f'{part["images_per_second"]:,.0f}',
      f'{part["seconds"] / 60:.1f}',
    ]
    for part in parts
  ]
  lines.append(['all', '', '', f'{total / 60:.1f}'])
  return outcome.Outcome(
    {'parts': parts, 'seconds': total},
    tables.to_markdown(['', 'runs', 'images/s', 'minutes'], lines),
  )
