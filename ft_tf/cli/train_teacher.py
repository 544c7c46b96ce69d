"""Trains a teacher by cross entropy, or takes a trained one.

  ft-tf train-teacher --recipe=digits --workdir=runs/teacher

Leaves model.keras and result.json in the workdir. The same command again
continues the run, or reports that it is complete.
"""

from absl import flags

from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.training import teacher


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(values, 'output directory of the run')
  flag_sets.define_recipe(values, ['data', 'teacher'])
  flag_sets.define_data_dir(values)
  flag_sets.define_devices(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  setting = settings.read_setting(values)
  teacher.obtain_teacher(
    setting.recipe, setting.dataset, given=setting.given, **setting.work
  )
  return outcome.stage_outcome(setting.run, setting.run.read('result.json'))
