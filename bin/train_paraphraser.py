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
from ft_tf import teachers
from ft_tf.training import paraphraser

program.define_recipe(['data', 'paraphraser'])
flags.DEFINE_string(
  'teacher', None, 'trained .keras file of the teacher (required)'
)
program.define_workdir('output directory of the run')
program.define_data_dir()
program.define_devices()


def main():
  path = program.required('teacher')
  setting = program.setting()
  return paraphraser.train_paraphraser(
    setting.recipe,
    setting.dataset,
    teacher=teachers.load(path, setting.dataset),
    **setting.work,
  )


if __name__ == '__main__':
  program.run(main)
