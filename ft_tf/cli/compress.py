r"""Compresses a teacher into a student, exported and measured.

  ft-tf compress --recipe=digits --workdir=runs/digits
  ft-tf compress --recipe=cifar10_resnet56_resnet20 --data_dir=DIR \
      --teacher=teacher.keras --workdir=runs/cifar10

Leaves teacher/, paraphraser/, student/, export/ and report.html in the workdir.
With --qat_epochs also qat/: the student trained further as its int8 file
computes, which is then exported. With --baseline the baseline of the first seed
is trained further for as many steps, since its int8 file is compared. With
--linear_head and a pretrained student also its last layer alone is trained, in
about a minute for some thousand photos.
The same command again continues the run, or reports that it is complete.
--teacher is a network to train, also from --teacher_weights, or a trained
.keras file; with --new_head one of other classes, which is fine-tuned first.
Before training it runs the checks of `ft-tf doctor`, except those of time and
memory.
"""

import sys

from absl import flags

from ft_tf import compression, doctor, teacher_check
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.report import closing


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(values, 'output directory')
  define_all_but_workdir(values)


def define_all_but_workdir(values: flags.FlagValues, *, seeds: int = 1) -> None:
  """Defines the flags of a compression, with a default number of seeds."""
  flag_sets.define_recipe(values, (*flag_sets.ALL_STAGES, 'qat'))
  flag_sets.define_data_dir(values)
  flag_sets.define_students(values, seeds=seeds)
  flag_sets.define_signals(values)
  flag_sets.define_devices(values)
  flag_sets.define_checks(values)
  flag_sets.define_formats(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  # Refused at once if wrong: to read images may take minutes.
  signals = settings.read_signals(values)
  export = settings.read_export(values)
  setting = settings.read_setting(values)
  expected = values.expect_teacher_accuracy
  teacher_check.check_expectation(expected, setting.given)
  recipe, choice = settings.choose_student(values, setting)
  if not setting.run.settled():
    for finding in doctor.examine(
      recipe, setting.dataset, given=setting.given, expected=expected
    ):
      print(finding, file=sys.stderr, flush=True)
  result = compression.compress(
    recipe,
    setting.dataset,
    given=setting.given,
    choice=choice,
    seeds=values.seeds,
    baseline=values.baseline,
    linear_head=values.linear_head,
    signals=signals,
    export=export,
    **setting.work,
  )
  text = closing.describe_compression(setting.run, data_dir=values.data_dir)
  return outcome.Outcome(result, text)
