#!/usr/bin/env python3
"""Trains a student by factor transfer, or alone with --method=scratch.

  bin/train_student.py --recipe=digits --teacher=runs/teacher/model.keras \
      --paraphraser=runs/paraphraser/model.keras --workdir=runs/student

Leaves model.keras (the student only) and result.json in the workdir. The same
command again continues the run, or says that it is complete.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import recipes, teachers
from ft_tf.training import paraphraser, student

program.define_recipe(['data', 'student'])
flags.DEFINE_string(
  'teacher',
  None,
  'trained .keras file of the teacher (required unless --method=scratch)',
)
flags.DEFINE_list(
  'paraphraser',
  [],
  'trained .keras file of the paraphraser; several separated by commas, one '
  'per layer in --teacher_layer (required if the method uses a paraphraser)',
)
program.define_workdir('output directory of the run')
program.define_data_dir()
program.define_devices()
program.define_signals()


def main():
  setting = program.setting()
  teacher = None
  if flags.FLAGS.teacher:
    teacher = teachers.load(flags.FLAGS.teacher, setting.dataset)
  paraphrasers = []
  if recipes.needs_paraphraser(setting.recipe.student.method):
    paraphrasers = [paraphraser.load(path) for path in flags.FLAGS.paraphraser]
  return student.train_student(
    setting.recipe,
    setting.dataset,
    teacher=teacher,
    paraphrasers=paraphrasers,
    signals=program.signals(),
    **setting.work,
  )


if __name__ == '__main__':
  program.run(main)
