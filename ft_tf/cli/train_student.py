r"""Trains a student, by factor transfer or another method.

  ft-tf train-student --recipe=digits --teacher=runs/teacher/model.keras \
      --paraphraser=runs/paraphraser/model.keras --workdir=runs/student

Leaves model.keras (the student only) and result.json in the workdir.
--method=scratch trains the baseline, without a teacher. --qat_epochs continues
its training as its int8 file computes, in the folder qat/ of the workdir. The
same command again continues the run, or reports that it is complete.
"""

from absl import flags

from ft_tf import recipes, run_dir, specs, teachers
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.training import paraphraser, quantisation_aware, student


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(values, 'output directory of the run')
  flag_sets.define(
    values,
    flag_sets.MODELS,
    'teacher',
    None,
    'trained .keras file of the teacher (required unless --method=scratch)',
  )
  flag_sets.define(
    values,
    flag_sets.MODELS,
    'paraphraser',
    [],
    'trained .keras file of the paraphraser; several separated by commas, one '
    'per layer in --teacher_layer (required if the method uses a paraphraser)',
  )
  flag_sets.define_recipe(values, ['data', 'student', 'qat'])
  flag_sets.define_data_dir(values)
  flag_sets.define_signals(values)
  flag_sets.define_devices(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  signals = settings.read_signals(values)
  setting = settings.read_setting(values)
  teacher = None
  if values.teacher:
    teacher = teachers.load(values.teacher, setting.dataset)
  paraphrasers = []
  if recipes.needs_paraphraser(setting.recipe.student.method):
    paraphrasers = [paraphraser.load(path) for path in values.paraphraser]
  recipe, dataset = setting.recipe, setting.dataset
  if recipe.qat.epochs:
    quantisation_aware.check(recipe, specs.build_student(recipe, dataset))
  work = {
    **setting.work,
    'teacher': teacher,
    'paraphrasers': paraphrasers,
    'signals': signals,
  }
  result = student.train_student(recipe, dataset, **work)
  run = setting.run
  if recipe.qat.epochs:
    trained, run = run, run.child(run_dir.QAT)
    result = quantisation_aware.train_quantised(
      recipe, dataset, **{**work, 'trained': trained, 'run': run}
    )
  return outcome.stage_outcome(run, result)
