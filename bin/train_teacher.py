#!/usr/bin/env python3
"""Trains a teacher by cross entropy, or takes one that is trained.

  bin/train_teacher.py --recipe=digits --workdir=runs/teacher

Leaves model.keras and result.json in the workdir. The same command again
continues the run, or says that it is complete.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from bin import program
from ft_tf.training import teacher

program.define_recipe(['data', 'teacher'])
program.define_workdir('output directory of the run')
program.define_data_dir()
program.define_devices()


def main():
  setting = program.setting()
  teacher.obtain_teacher(
    setting.recipe, setting.dataset, given=setting.given, **setting.work
  )
  return setting.run.read('result.json')


if __name__ == '__main__':
  program.run(main)
