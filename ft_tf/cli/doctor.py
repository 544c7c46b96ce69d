r"""Checks a run before training, with the flags of compress.

  ft-tf doctor --teacher=teacher.keras --student=resnet20 \
      --dataset=folder:images --workdir=runs/mine

Prints one line per finding, with the flag that changes it in brackets: images
and pixel values, classes and their order, the teacher's accuracy on this
pipeline, the layers and how they are matched, the student's int8 file, and from
a few real steps the time of each part and the memory. Nothing is written to
the workdir; decoded images of a folder are cached in --data_dir. Exit code 2 if
something does not fit: compress would not begin either.
"""

import dataclasses
import sys
import time

from absl import flags

from ft_tf import doctor, durations, findings, workshop
from ft_tf.cli import compress, flag_sets, outcome, settings
from ft_tf.export import formats
from ft_tf.training import tf_config


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(
    values, 'output directory of the planned run; nothing is written'
  )
  compress.define_all_but_workdir(values)


def run(values: flags.FlagValues) -> outcome.Outcome:
  tf_config.ignore()  # It looks at this machine.
  # Refused at once if wrong: to read images may take minutes.
  export = settings.read_export(values)
  settings.read_signals(values)  # The rehearsal has no cache.
  setting = settings.read_setting(values)
  recipe, choice = settings.choose_student(values, setting)
  start = time.monotonic()
  examined = doctor.examine(
    recipe,
    setting.dataset,
    given=setting.given,
    expected=values.expect_teacher_accuracy,
    has_linear_head=values.linear_head,
    export=export,
  )
  found = [_tell(finding) for finding in examined]
  estimated = durations.estimate(
    recipe,
    seeds=values.seeds,
    baseline=values.baseline,
    has_linear_head=values.linear_head,
    files=len(formats.choose(export.formats)),
    checks=time.monotonic() - start,
    devices=setting.strategy,
    given=setting.given,
    workshop=workshop.Workshop(
      # Opened once more, a folder would say once more what it is.
      open_dataset=lambda: setting.dataset,
      options=setting.options,
      num_replicas=values.num_replicas,
    ),
  )
  found += [_tell(finding) for finding in estimated]
  return outcome.Outcome({'findings': found, 'choice': choice})


def _tell(finding: findings.Finding) -> dict[str, str]:
  """Prints a finding, and returns it."""
  # At once: some checks take a minute.
  print(finding, file=sys.stderr, flush=True)
  return dataclasses.asdict(finding)
