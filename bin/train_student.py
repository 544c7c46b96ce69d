#!/usr/bin/env python3
"""Trains a student by factor transfer, or alone with --method=scratch.

  bin/train_student.py --recipe=digits --teacher=runs/teacher/model.keras \
      --paraphraser=runs/paraphraser/model.keras --workdir=runs/student

Leaves model.keras (the student alone) and result.json in the workdir. The same
command again continues the run, or says that it is complete.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import run_dir
from ft_tf.data import datasets
from ft_tf.training import strategy, student

program.define_recipe(['data', 'student'])
flags.DEFINE_string(
  'teacher', None, 'trained .keras file (required unless --method=scratch)'
)
flags.DEFINE_string(
  'paraphraser', None, 'its .keras file (required unless --method=scratch)'
)
program.define_workdir('the run')
program.define_data_dir()
program.define_devices()


def main():
  recipe = program.recipe()
  run = run_dir.RunDir(program.required('workdir'))
  run_dir.check_writable(run.path)
  options = program.options()
  devices = strategy.make(flags.FLAGS.num_replicas)
  return student.train_student(
    recipe,
    datasets.Dataset.from_recipe(recipe.data, flags.FLAGS.data_dir),
    teacher=flags.FLAGS.teacher,
    paraphraser=flags.FLAGS.paraphraser,
    run=run,
    strategy=devices,
    options=options,
  )


if __name__ == '__main__':
  program.run(main)
