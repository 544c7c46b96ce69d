r"""Trains the paraphraser of a teacher, without labels.

  ft-tf train-paraphraser --recipe=digits --teacher=runs/teacher/model.keras \
      --workdir=runs/paraphraser

Leaves model.keras and result.json in the workdir. The same command again
continues the run, or reports that it is complete.
"""

from absl import flags

from ft_tf import teachers
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.training import paraphraser


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(values, 'output directory of the run')
  flag_sets.define(
    values,
    flag_sets.REQUIRED,
    'teacher',
    None,
    'trained .keras file of the teacher',
  )
  flag_sets.define_recipe(values, ['data', 'paraphraser'])
  flag_sets.define_data_dir(values)
  flag_sets.define_devices(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  path = settings.required(values, 'teacher')
  setting = settings.read_setting(values)
  return outcome.stage_outcome(
    setting.run,
    paraphraser.train_paraphraser(
      setting.recipe,
      setting.dataset,
      teacher=teachers.load(path, setting.dataset),
      **setting.work,
    ),
  )
