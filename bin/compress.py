#!/usr/bin/env python3
"""Compresses a teacher into a student: trains, exports, measures, reports.

  bin/compress.py --recipe=digits --workdir=runs/digits
  bin/compress.py --recipe=cifar10_resnet56_resnet20 --data_dir=DIR \
      --teacher=teacher.keras --workdir=runs/cifar10

Leaves teacher/, paraphraser/, student/, export/ and report.html in the workdir.
The same command again continues the run, or says that it is complete. --teacher
is a network to train, also from --teacher_weights, or a trained .keras file.
Before it begins it looks at everything as bin/doctor.py does, which also
measures the time.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import compression, doctor, teacher_check
from ft_tf.report import summary

program.define_recipe(['data', 'teacher', 'paraphraser', 'student'])
program.define_workdir('output directory')
program.define_data_dir()
program.define_devices()
program.define_signals()
program.define_check()
program.define_students()


def main():
  setting = program.setting()
  recipe, dataset = setting.recipe, setting.dataset
  signals = program.signals()
  seeds = program.seeds()
  limits = program.limits()
  expected = flags.FLAGS.expect_teacher_accuracy
  teacher_check.check_expectation(expected, setting.given)
  recipe, choice = compression.within(limits, recipe, dataset, setting.run)
  if choice is not None:
    print(program.candidates(choice))
  if not setting.run.begun():
    for finding in doctor.examine(
      recipe, dataset, given=setting.given, expected=expected
    ):
      print(finding, file=sys.stderr, flush=True)
  result = compression.compress(
    recipe,
    dataset,
    given=setting.given,
    choice=choice,
    seeds=seeds,
    baseline=flags.FLAGS.baseline,
    signals=signals,
    **setting.work,
  )
  print(summary.to_markdown(summary.make_rows(summary.read_runs(setting.run))))
  print(f'\nReport:  {result["report"]}\nExport:  {result["export"]}\n')
  return result


if __name__ == '__main__':
  program.run(main)
