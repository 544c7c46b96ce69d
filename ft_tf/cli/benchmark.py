"""Times training steps and the student beside other software.

  pip install -r requirements-benchmark.txt
  ft-tf benchmark --workdir=runs/benchmark
  ft-tf benchmark --workdir=runs/device --sections=device --student=resnet20

The section device measures --student in LiteRT, ONNX Runtime and OpenVINO; the
others measure training, in TensorFlow and PyTorch, every configuration in a
separate process. All are measured in turn, round by round; ratios compare
measurements of the same round. The section networks measures the student alone,
with kd and with ft, time and peak memory, beside the same networks in PyTorch:
resnet<6n+2>, resnet50, mobilenetv2, efficientnetb0 or mobilenetv3small. Writes
benchmark.json and benchmark.md to the workdir. It takes about an hour on 2
cores; --sections selects.
"""

import dataclasses
import os
from typing import Any

from absl import flags

from ft_tf import json_files, run_dir, sizes, storage
from ft_tf.benchmark import markdown, measurements, sections
from ft_tf.cli import flag_sets, outcome, settings

_JOB = {
  'batch_size': 'images per step',
  'image_size': 'height and width of the images in pixels',
  'teacher': 'network name of the teacher',
  'student': 'network name of the student',
}
_SETTING = {
  'rounds': 'number of times that each configuration is measured',
  'steps': 'steps per measurement',
  'memory_steps': 'steps after which the memory is compared',
  'students': 'number of students that share one pass of the teacher',
  'epochs': 'epochs that each of these students is trained',
}
_MOST = {
  'batch_size': 2**16,
  'image_size': sizes.LARGEST,
  'rounds': 10_000,
  'steps': 10**6,
  'memory_steps': 10**6,
  'students': 1000,
  'epochs': 100_000,
}


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_workdir(
    values, 'output directory for benchmark.json and benchmark.md'
  )
  default = measurements.Setting()
  for names, defaults in ((_JOB, default.job), (_SETTING, default)):
    for name, text in names.items():
      value = getattr(defaults, name)
      bounds: dict[str, Any] = {}
      if isinstance(value, int):
        bounds = {'upper_bound': _MOST[name]}
      flag_sets.define(values, flag_sets.OTHER, name, value, text, **bounds)
  flag_sets.define(
    values,
    flag_sets.OTHER,
    'sections',
    list(sections.SECTIONS),
    'sections to measure',
  )


def run(values: flags.FlagValues) -> outcome.Outcome:
  workdir = os.path.abspath(settings.required(values, 'workdir'))
  run_dir.check_writable(workdir)
  default = measurements.Setting()
  setting = measurements.Setting(
    job=dataclasses.replace(
      default.job, **{name: values[name].value for name in _JOB}
    ),
    **{name: values[name].value for name in _SETTING},
  )

  def write(results: dict[str, Any]) -> None:
    os.makedirs(workdir, exist_ok=True)
    for name, content in (
      ('benchmark.json', json_files.to_json(results, indent=2)),
      ('benchmark.md', markdown.to_markdown(results)),
    ):
      with (
        storage.replacing(os.path.join(workdir, name)) as path,
        open(path, 'w', encoding='utf-8') as file,
      ):
        file.write(content + '\n')

  results = sections.run(setting, values.sections, write)
  return outcome.Outcome(results, markdown.to_markdown(results))
