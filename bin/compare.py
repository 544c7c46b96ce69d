#!/usr/bin/env python3
"""Compares methods: one teacher, each method's students over seeds, tables.

  bin/compare.py --recipe=digits --methods=scratch,kd,at,ft,ft+kd --seeds=5 \
      --workdir=runs/methods
  bin/compare.py --recipe=digits --methods=scratch,ft --seeds=5 \
      --sweep=paraphraser.rate=0.5,1,2 --workdir=runs/rates

Leaves comparison.json, .md, .csv, .tex and .html in the workdir, beside the
runs. The same command again continues what was cut off; more methods, seeds and
sweeps may be asked for then. A run that fails is reported, the others go on.
"""

import functools
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import arms, catalogue, comparison, errors, rehearsal, workshop
from ft_tf.data import datasets
from ft_tf.report import comparison_table, tables

program.define_recipe(['data', 'teacher', 'paraphraser', 'student'])
flags.DEFINE_list(
  'methods',
  ['scratch', 'ft'],
  'methods to compare, separated by commas: values of --method, or factor '
  'transfer as other code bases have it: '
  f'{", ".join(catalogue.VARIANTS)} (default: scratch,ft)',
)
flags.DEFINE_integer(
  'seeds',
  1,
  'number of seeds to train each method with, starting at --seed (default: 1)',
)
flags.DEFINE_multi_string(
  'sweep',
  [],
  'field of the recipe and the values to try, such as '
  'paraphraser.rate=0.5,1,2; if repeated, all combinations are run (default: '
  'none)',
)
flags.DEFINE_integer(
  'jobs',
  1,
  'number of students trained in parallel, one process each (default: 1)',
)
flags.DEFINE_bool(
  'dry_run',
  False,
  'print the plan and its time, estimated from a few real steps of each part; '
  'nothing is kept (default: False)',
)
program.define_workdir('output directory')
program.define_data_dir()
program.define_devices()
program.define_signals()


def main():
  setting = program.setting()
  recipe = setting.recipe
  for name in ('seeds', 'jobs'):
    if flags.FLAGS[name].value < 1:
      raise errors.UsageError(
        f'--{name}={flags.FLAGS[name].value}: give 1 or more'
      )
  program.signals()  # checks the flags
  arguments = {
    'devices': setting.strategy,
    'workshop': workshop.Workshop(
      open_dataset=functools.partial(
        datasets.Dataset.from_recipe, recipe.data, flags.FLAGS.data_dir
      ),
      options=setting.options,
      num_replicas=flags.FLAGS.num_replicas,
      signal_cache=flags.FLAGS.signal_cache,
      signal_cache_gib=flags.FLAGS.signal_cache_gib,
      allow_unsafe_model=flags.FLAGS.allow_unsafe_model,
    ),
    'chosen': arms.make(flags.FLAGS.methods, program.sweep()),
    'seeds': flags.FLAGS.seeds,
    'given': setting.given,
  }
  if flags.FLAGS.dry_run:
    parts = rehearsal.rehearse(recipe, **arguments)
    total = sum(part['seconds'] for part in parts)
    header = ['', 'runs', 'images/s', 'minutes']
    lines = [
      [
        part['part'],
        str(part['runs']),
        f'{part["images_per_second"]:,.0f}',
        f'{part["seconds"] / 60:.1f}',
      ]
      for part in parts
    ]
    lines.append(['all', '', '', f'{total / 60:.1f}'])
    print(tables.to_markdown(header, lines))
    return {'parts': parts, 'seconds': total}
  compared = comparison.compare(
    recipe, run=setting.run, jobs=flags.FLAGS.jobs, **arguments
  )
  runs = comparison_table.read_runs(setting.run)
  rows = comparison_table.make_rows(runs)
  print(comparison_table.to_markdown(rows))
  print('\n' + '\n'.join(compared['verdicts']))
  print(f'\nReport:  {os.path.join(setting.run.path, "comparison.html")}\n')
  if compared['failures']:
    raise errors.TrainingError(
      f'{", ".join(compared["failures"])} failed, see above; the same command '
      'tries again, and the others are complete'
    )
  return compared


if __name__ == '__main__':
  program.run(main)
