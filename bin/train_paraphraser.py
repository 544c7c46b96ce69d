#!/usr/bin/env python3
"""Trains the paraphraser of a trained teacher, without labels.

  bin/train_paraphraser.py --recipe=digits --teacher=runs/teacher/model.keras \
      --workdir=runs/paraphraser

Leaves model.keras and result.json in the workdir. The same command again
continues the run, or says that it is complete.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import run_dir
from ft_tf.data import datasets
from ft_tf.training import paraphraser, strategy

program.define_recipe(['data', 'paraphraser'])
flags.DEFINE_string('teacher', None, 'trained .keras file (required)')
program.define_workdir('the run')
program.define_data_dir()
program.define_devices()


def main():
  recipe = program.recipe()
  teacher = program.required('teacher')
  run = run_dir.RunDir(program.required('workdir'))
  run_dir.check_writable(run.path)
  options = program.options()
  devices = strategy.make(flags.FLAGS.num_replicas)
  return paraphraser.train_paraphraser(
    recipe,
    datasets.Dataset.from_recipe(recipe.data, flags.FLAGS.data_dir),
    teacher=teacher,
    run=run,
    strategy=devices,
    options=options,
  )


if __name__ == '__main__':
  program.run(main)
