#!/usr/bin/env python3
"""Checks a run before training, with the flags of compress.py.

  bin/doctor.py --teacher=teacher.keras --student=resnet20 \
      --dataset=folder:images --workdir=runs/mine

Prints one line per finding, with the flag that changes it in brackets: images
and pixel values, classes and their order, the teacher's accuracy on this
pipeline, the layers and how they are matched, the student's int8 file, and from
a few real steps the time of each stage and the memory. Nothing is written to
the workdir; decoded images of a folder are cached in --data_dir. Exit code 2 if
something does not fit: bin/compress.py would not begin either.
"""

import dataclasses
import functools
import itertools
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import compression, doctor, workshop
from ft_tf.data import datasets

program.define_recipe(['data', 'teacher', 'paraphraser', 'student'])
program.define_workdir(
  'output directory of the planned run; nothing is written'
)
program.define_data_dir()
program.define_devices()
program.define_signals()
program.define_check()
program.define_students()


def main():
  setting = program.setting()
  recipe, dataset, given = setting.recipe, setting.dataset, setting.given
  program.signals()  # refused if they are wrong; rehearsed without
  seeds = program.seeds()
  recipe, choice = compression.within(
    program.limits(), recipe, dataset, setting.run
  )
  if choice is not None:
    print(program.candidates(choice))
  findings = []
  looks = itertools.chain(
    doctor.examine(
      recipe,
      dataset,
      given=given,
      expected=flags.FLAGS.expect_teacher_accuracy,
    ),
    doctor.rehearse(
      recipe,
      seeds=seeds,
      baseline=flags.FLAGS.baseline,
      devices=setting.strategy,
      given=given,
      workshop=workshop.Workshop(
        open_dataset=functools.partial(
          datasets.Dataset.from_recipe, recipe.data, flags.FLAGS.data_dir
        ),
        options=setting.options,
        num_replicas=flags.FLAGS.num_replicas,
      ),
    ),
  )
  for finding in looks:
    print(finding, flush=True)
    findings.append(dataclasses.asdict(finding))
  return {'findings': findings, 'choice': choice}


if __name__ == '__main__':
  program.run(main)
