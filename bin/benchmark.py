#!/usr/bin/env python3
"""Times training steps, compared with PyTorch and the machine's limit.

  .venv/bin/python -m pip install -r requirements-benchmark.txt
  bin/benchmark.py --workdir=runs/benchmark

Every configuration runs in a separate process, in turn, round by round; ratios
compare measurements of the same round. Writes benchmark.json and benchmark.md
to the workdir. It takes about 40 minutes on 2 cores; --sections selects.
"""

import dataclasses
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import run_dir
from ft_tf.benchmark import markdown, sections

_DEFAULT = sections.Setting()
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
for names, defaults in ((_JOB, _DEFAULT.job), (_SETTING, _DEFAULT)):
  for name, text in names.items():
    value = getattr(defaults, name)
    define = (
      flags.DEFINE_string if isinstance(value, str) else flags.DEFINE_integer
    )
    define(name, value, f'{text} (default: {value})')
flags.DEFINE_list(
  'sections',
  list(sections.SECTIONS),
  f'sections to measure (default: {",".join(sections.SECTIONS)})',
)
program.define_workdir('output directory for benchmark.json and benchmark.md')


def main():
  workdir = os.path.abspath(program.required('workdir'))
  run_dir.check_writable(workdir)
  setting = sections.Setting(
    job=dataclasses.replace(
      _DEFAULT.job, **{name: flags.FLAGS[name].value for name in _JOB}
    ),
    **{name: flags.FLAGS[name].value for name in _SETTING},
  )

  def write(results):
    os.makedirs(workdir, exist_ok=True)
    for name, content in (
      ('benchmark.json', run_dir.to_json(results, indent=2)),
      ('benchmark.md', markdown.to_markdown(results)),
    ):
      with (
        run_dir.replacing(os.path.join(workdir, name)) as path,
        open(path, 'w', encoding='utf-8') as file,
      ):
        file.write(content + '\n')

  results = sections.run(setting, flags.FLAGS.sections, write)
  print(markdown.to_markdown(results))
  return results


if __name__ == '__main__':
  program.run(main)
