#!/usr/bin/env python3
"""Compares methods: one teacher, each method's students over seeds, tables.

  bin/compare.py --recipe=digits --methods=scratch,kd,at,ft --seeds=5 \
      --workdir=runs/comparison

Leaves comparison.json, .md, .csv, .tex and .html in the workdir, beside the
runs. The same command again continues; more methods or seeds may be given then.
"""

import functools
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import comparison
from ft_tf.data import datasets

program.define_recipe(['data', 'teacher', 'paraphraser', 'student'])
flags.DEFINE_list(
  'methods', ['scratch', 'ft'], 'what to compare (default: scratch,ft)'
)
flags.DEFINE_integer(
  'seeds', 1, 'students of each method, of the seeds from --seed (default: 1)'
)
program.define_workdir('everything that is made')
program.define_data_dir()
program.define_devices()
program.define_signals()
flags.DEFINE_integer('jobs', 1, 'students trained at once (default: 1)')


def main():
  recipe, _, work = program.setting()
  chosen = comparison.arms(flags.FLAGS.methods, {})
  return comparison.compare(
    recipe,
    run=work['run'],
    devices=work['strategy'],
    workshop=comparison.Workshop(
      functools.partial(
        datasets.Dataset.from_recipe, recipe.data, flags.FLAGS.data_dir
      ),
      work['options'],
      flags.FLAGS.num_replicas,
      flags.FLAGS.signal_cache,
      flags.FLAGS.signal_cache_gib,
    ),
    chosen=chosen,
    seeds=flags.FLAGS.seeds,
    jobs=flags.FLAGS.jobs,
  )


if __name__ == '__main__':
  program.run(main)
