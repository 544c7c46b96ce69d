"""The sections of the benchmark: what is measured, and what follows from it."""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ft_tf import errors
from ft_tf.benchmark import figures, jobs

_HALF = 'mixed_bfloat16'
_SHORT = {'float32': 'float32', _HALF: 'bfloat16'}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What all sections measure with.

  Attributes:
    job: Networks, image size and batch size of every job.
    rounds: Turns of each job.
    steps: Steps in a turn.
    memory_steps: Steps of the section on memory.
    students: Students of the section on students.
    epochs: Epochs of each of them, over 2,560 images.
  """

  job: jobs.Job = dataclasses.field(default_factory=lambda: jobs.Job(name=''))
  rounds: int = 7
  steps: int = 5
  memory_steps: int = 2000
  students: int = 5
  epochs: int = 10

  def __post_init__(self) -> None:
    for name in ('rounds', 'steps', 'students', 'epochs'):
      if getattr(self, name) < 1:
        raise errors.UsageError(
          f'--{name}={getattr(self, name)}: give 1 or more'
        )

  def measure(
    self, named: dict[str, dict[str, Any]]
  ) -> dict[str, dict[str, Any]]:
    """Returns the figures of jobs, given as changes to `job` by name.

    Raises:
      TrainingError: one of ours failed. PyTorch's may: its compiler needs
        another one, of C++, on the machine.
    """
    found = jobs.measure(
      [
        dataclasses.replace(self.job, name=name, **changes)
        for name, changes in named.items()
      ],
      rounds=self.rounds,
      steps=self.steps,
    )
    for name, changes in named.items():
      if 'framework' not in changes and 'error' in found[name]:
        raise errors.TrainingError(found[name]['error'])
    return found


def run(
  setting: Setting,
  names: list[str],
  done: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
  """Returns the figures of some sections, and the machine's.

  Args:
    setting: What to measure with.
    names: Of `SECTIONS`.
    done: Takes what has been found after each section, so that a later one
      that fails costs no other.

  Raises:
    UsageError: there is no such section, or PyTorch is not installed.
  """
  unknown = [name for name in names if name not in SECTIONS]
  if unknown:
    raise errors.UsageError(
      f'--sections={",".join(unknown)}: give some of {",".join(SECTIONS)}'
    )
  if 'steps' in names and importlib.util.find_spec('torch') is None:
    raise errors.UsageError(
      'PyTorch, which the steps are compared with, is not installed: run '
      '`.venv/bin/python -m pip install -r requirements-benchmark.txt`, or '
      'leave steps out of --sections'
    )
  found = {'machine': figures.machine()}
  for name in names:
    found |= SECTIONS[name](setting)
    done(found)
  return found


def _ours(part, text):
  """Returns one of our parts in both precisions, by name."""
  return {
    f'ours, {text}{short}': {'part': part, 'precision': precision}
    for precision, short in _SHORT.items()
  }


def _steps(setting):
  """The student's step beside PyTorch's, then the other stages' steps."""
  torch = {'framework': 'pytorch'}
  theirs = {
    'PyTorch, as published': {**torch, 'channels_last': False},
    'PyTorch, channels last, float32': torch,
    'PyTorch, channels last, bfloat16': {**torch, 'precision': _HALF},
    'PyTorch, compiled, float32': {**torch, 'compiled': True},
    'PyTorch, compiled, bfloat16': {
      **torch,
      'compiled': True,
      'precision': _HALF,
    },
  }
  given = {
    'PyTorch, compiled, bfloat16, signal given': {
      **torch,
      'compiled': True,
      'precision': _HALF,
      'part': 'cached',
    }
  }
  whole, cached = _ours('ft', ''), _ours('cached', 'signal cached, ')
  student = setting.measure({**whole, **cached, **theirs, **given})
  best = figures.fastest(student, theirs)
  ours = figures.fastest(student, whole)
  kept = figures.fastest(student, cached)
  ratios = {
    'student_step_vs_pytorch_best': figures.ratio(student[ours], student[best]),
    'student_step_vs_pytorch_plain': figures.ratio(
      student[ours], student['PyTorch, as published']
    ),
    'cached_step_vs_pytorch_best': figures.ratio(student[kept], student[best]),
  }
  others = setting.measure(
    {
      **_ours('teacher', 'teacher, '),
      **_ours('paraphraser', 'paraphraser, '),
      **_ours('alone', 'student alone, '),
      **_ours('evaluation', 'evaluation of the student, '),
      'ours, XLA, float32': {'jit': True},
    }
  )
  return {
    **{name: each and each['median'] for name, each in ratios.items()},
    'ratios': ratios,
    'best': {'ours': ours, 'cached': kept, 'pytorch': best},
    'student_steps': student,
    'other_steps': others,
  }


def _parts(setting):
  """Where a step's time goes, and how near it is to the machine's limit."""
  from ft_tf.benchmark import ours  # noqa: PLC0415  imports TensorFlow

  parts, shares = {}, {}
  for precision, short in _SHORT.items():
    measured = setting.measure(
      {
        part: {'part': part, 'precision': precision}
        for part in (
          'input',
          'signal',
          'forward',
          'gradients',
          'cached',
          'ft',
          'matmul',
        )
      }
    )
    parts[short] = {
      part: {
        'milliseconds': 1000 * setting.job.batch_size / speed['median'],
        **speed,
      }
      for part, figure in measured.items()
      for speed in [figures.spread(figure['images_per_second'])]
      if part != 'matmul'
    }
    # A "step" of the matmul job is one product, whatever the batch size.
    products = figures.spread(measured['matmul']['images_per_second'])
    rate = 2 * ours.MATMUL**3 * products['median'] / setting.job.batch_size
    flops = ours.convolution_flops(
      dataclasses.replace(setting.job, precision=precision)
    )
    shares[short] = {
      'matmul_gflops': rate / 1e9,
      'convolution_gflop_per_step': flops['ft'] * setting.job.batch_size / 1e9,
      **{
        f'{part}_share_of_limit': flops[kind]
        * parts[short][part]['median']
        / rate
        for part, kind in (
          ('ft', 'ft'),
          ('cached', 'student'),
          ('signal', 'signal'),
        )
      },
    }
  return {'parts': parts, 'limit': shares}


def _scaling(setting):
  """The step against batch size, depth and replicas, in bfloat16."""
  sweeps = {
    'batch_size': (32, 64, 128, 256, 512),
    'teacher': ('resnet20', 'resnet56', 'resnet110'),
    'student': ('resnet8', 'resnet20', 'resnet56'),
    'replicas': (1, 2),
  }
  return {
    'scaling': {
      name: setting.measure(
        {
          f'{name} {value}': {'precision': _HALF, name: value}
          for value in values
        }
      )
      for name, values in sweeps.items()
    }
  }


def _memory(setting):
  """What a process holds after 200 steps and at the end."""
  if setting.memory_steps <= 200:
    raise errors.UsageError(
      f'--memory_steps={setting.memory_steps}: give more than 200'
    )
  worker = jobs.Worker(
    dataclasses.replace(setting.job, name='memory', precision=_HALF)
  )
  try:
    early = worker.run(200)['bytes']
    late = worker.run(setting.memory_steps - 200)['bytes']
  finally:
    worker.close()
  return {
    'memory': {
      'steps': setting.memory_steps,
      'megabytes_after_200': early / 1e6,
      'megabytes_at_the_end': late / 1e6,
    }
  }


def _students(setting):
  """Students that share one teacher pass, over as many that do not."""
  seconds = {}
  for part in ('students', 'students_cached'):
    job = dataclasses.replace(
      setting.job,
      name=part,
      part=part,
      precision='auto',  # as students train on this machine
      epochs=setting.epochs,
    )
    worker = jobs.Worker(job)
    try:
      worker.run(0)  # Makes teacher and paraphraser.
      seconds[part] = worker.run(setting.students)['seconds']
    finally:
      worker.close()
  return {
    'students': {
      'students': setting.students,
      'steps_each': setting.epochs
      * jobs.STUDENT_IMAGES
      // setting.job.batch_size,
      'uncached_seconds': seconds['students'],
      'cached_seconds': seconds['students_cached'],
      'cached_over_uncached': seconds['students_cached'] / seconds['students'],
    }
  }


def _quickstart(setting):
  """The main job on digits, as bin/quickstart runs it once installed."""
  del setting
  with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    subprocess.run(
      [
        sys.executable,
        os.path.join(_ROOT, 'bin', 'compress.py'),
        '--recipe=digits',
        '--seeds=3',
        '--baseline',
        f'--workdir={folder}/run',
        f'--data_dir={folder}/tfds',
      ],
      check=True,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    return {'quickstart_seconds': time.monotonic() - start}


SECTIONS: dict[str, Callable[[Setting], dict[str, Any]]] = {
  'steps': _steps,
  'parts': _parts,
  'scaling': _scaling,
  'memory': _memory,
  'students': _students,
  'quickstart': _quickstart,
}


def markdown(found: dict[str, Any]) -> str:
  """Returns the figures as Markdown."""
  machine = found['machine']
  text = [
    f'{machine["processor"]}, {machine["cores"]} cores, '
    f'{", ".join(machine["flags"])}; TensorFlow {machine["tensorflow"]}, '
    f'Keras {machine["keras"]}, PyTorch {machine["torch"]}'
  ]
  if 'ratios' in found:
    best = found['best']
    lines = [
      '| ratio of images/s | median | least | most |',
      '|---|---:|---:|---:|',
    ]
    for name, each in found['ratios'].items():
      numbers = (
        ' | '.join(f'{each[k]:.2f}' for k in ('median', 'least', 'most'))
        if each
        else 'failed | | '
      )
      lines.append(f'| {name} | {numbers} |')
    text += [
      '\n'.join(lines),
      f"Ours: {best['ours']}; {best['cached']}. Best of PyTorch's: "
      f'{best["pytorch"]}.',
      figures.table(found['student_steps']),
      figures.table(found['other_steps']),
    ]
  if 'parts' in found:
    text.append(_parts_table(found))
  for sweep in found.get('scaling', {}).values():
    text.append(figures.table(sweep))
  for name in ('memory', 'students'):
    if name in found:
      text.append(
        f'{name}: ' + ', '.join(f'{k} {v:.4g}' for k, v in found[name].items())
      )
  if 'quickstart_seconds' in found:
    text.append(f'quickstart: {found["quickstart_seconds"]:.0f} s')
  return '\n\n'.join(text)


def _parts_table(found):
  lines = ['| ms per step | float32 | bfloat16 |', '|---|---:|---:|']
  for part in found['parts']['float32']:
    numbers = [
      f'{found["parts"][short][part]["milliseconds"]:.1f}'
      for short in _SHORT.values()
    ]
    lines.append(f'| {part} | {" | ".join(numbers)} |')
  for name in found['limit']['float32']:
    numbers = [
      f'{found["limit"][short][name]:.3g}' for short in _SHORT.values()
    ]
    lines.append(f'| {name} | {" | ".join(numbers)} |')
  return '\n'.join(lines)
