"""What the sections of the benchmark measure: their jobs, and their ratios."""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from ft_tf import errors
from ft_tf.benchmark import figures, jobs

_HALF = 'mixed_bfloat16'
PRECISIONS = {'float32': 'float32', _HALF: 'bfloat16'}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """The settings of all sections.

  Attributes:
    job: Networks, image size and batch size of every job.
    rounds: Number of measurements of each job.
    steps: Steps per measurement.
    memory_steps: Steps of the section `memory`.
    students: Number of students of the section `students`.
    epochs: Epochs of each of these students, over 2,560 images.
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
    """Measures jobs and returns their figures.

    A PyTorch job may fail, because PyTorch's compiler needs a C++ compiler on
    the machine.

    Args:
      named: For each job's name, the fields in which it differs from `job`.

    Raises:
      TrainingError: a job of ft_tf failed.
    """
    measured = jobs.measure(
      [
        dataclasses.replace(self.job, name=name, **changes)
        for name, changes in named.items()
      ],
      rounds=self.rounds,
      steps=self.steps,
    )
    for name, changes in named.items():
      if 'framework' not in changes and 'error' in measured[name]:
        raise errors.TrainingError(measured[name]['error'])
    return measured


def _ours(part, text):
  """Returns the jobs of one part of ft_tf in both precisions, by name."""
  return {
    f'ours, {text}{short}': {'part': part, 'precision': precision}
    for precision, short in PRECISIONS.items()
  }


def steps(setting: Setting) -> dict[str, Any]:
  """Measures the student step of ft_tf and PyTorch, then the other steps."""
  torch: dict[str, Any] = {'framework': 'pytorch'}
  pytorch = {
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
  pytorch_cached = {
    'PyTorch, compiled, bfloat16, signal given': {
      **torch,
      'compiled': True,
      'precision': _HALF,
      'part': 'cached',
    }
  }
  whole, cached = _ours('ft', ''), _ours('cached', 'signal cached, ')
  student = setting.measure({**whole, **cached, **pytorch, **pytorch_cached})
  best_pytorch = figures.fastest(student, pytorch)
  best_whole = figures.fastest(student, whole)
  best_cached = figures.fastest(student, cached)
  ratios = {
    'student_step_vs_pytorch_best': figures.ratio(
      student[best_whole], student[best_pytorch]
    ),
    'student_step_vs_pytorch_plain': figures.ratio(
      student[best_whole], student['PyTorch, as published']
    ),
    'cached_step_vs_pytorch_best': figures.ratio(
      student[best_cached], student[best_pytorch]
    ),
  }
  other_steps = setting.measure(
    {
      **_ours('teacher', 'teacher, '),
      **_ours('paraphraser', 'paraphraser, '),
      **_ours('alone', 'baseline (no teacher), '),
      **_ours('evaluation', 'evaluation of the student, '),
      'ours, XLA, float32': {'jit': True},
    }
  )
  return {
    **{name: ratio and ratio['median'] for name, ratio in ratios.items()},
    'ratios': ratios,
    'best': {
      'ours': best_whole,
      'cached': best_cached,
      'pytorch': best_pytorch,
    },
    'student_steps': student,
    'other_steps': other_steps,
  }


def parts(setting: Setting) -> dict[str, Any]:
  """Measures the parts of a step, and their share of the machine's limit."""
  # Imports TensorFlow, which the other sections leave to their workers.
  from ft_tf.benchmark import flops, parts  # noqa: PLC0415

  times, limits = {}, {}
  for precision, short in PRECISIONS.items():
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
    times[short] = {
      part: {
        'milliseconds': 1000 * setting.job.batch_size / speed['median'],
        **speed,
      }
      for part, figure in measured.items()
      for speed in [figures.spread(figure['images_per_second'])]
      if part != 'matmul'
    }
    # A step of the job `matmul` is one matrix product, which the figures count
    # as a whole batch of images.
    products = figures.spread(measured['matmul']['images_per_second'])
    limit = 2 * parts.MATMUL**3 * products['median'] / setting.job.batch_size
    operations = flops.count_step(
      dataclasses.replace(setting.job, precision=precision)
    )
    limits[short] = {
      'matmul_gflops': limit / 1e9,
      'gflop_per_step': operations['ft'] * setting.job.batch_size / 1e9,
      **{
        f'{part}_share_of_limit': operations[kind]
        * times[short][part]['median']
        / limit
        for part, kind in (
          ('ft', 'ft'),
          ('cached', 'student'),
          ('signal', 'signal'),
        )
      },
    }
  return {'parts': times, 'limit': limits}


def scaling(setting: Setting) -> dict[str, Any]:
  """Measures the step by batch size, depth and replicas, in bfloat16."""
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


def memory(setting: Setting) -> dict[str, Any]:
  """Measures the memory of a process after 200 steps and at the end."""
  if setting.memory_steps <= 200:
    raise errors.UsageError(
      f'--memory_steps={setting.memory_steps}: give 201 or more'
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


def students(setting: Setting) -> dict[str, Any]:
  """Measures students that share one teacher pass, and students that do not.

  From the start of their process to the exported files of all: one student in
  a process of its own, and students of as many seeds in one process, with the
  teacher in every step and with its signal cached. Times are of all threads
  together, which other programs disturb less than the clock.
  """
  count, seconds = setting.students, {}
  for name, part, trained in (
    ('alone', 'students', 1),
    ('uncached', 'students', count),
    ('cached', 'students_cached', count),
  ):
    job = dataclasses.replace(
      setting.job,
      name=f'students {name}',
      part=part,
      precision='auto',  # as students train on this machine
      epochs=setting.epochs,
    )
    worker = jobs.Worker(job)
    try:
      seconds[name] = worker.run(trained)['cpu_seconds']
    finally:
      worker.close()
  return {
    'students': {
      'students': count,
      'steps_each': setting.epochs
      * jobs.STUDENT_IMAGES
      // setting.job.batch_size,
      **{f'{name}_cpu_seconds': value for name, value in seconds.items()},
      'cached_over_uncached': seconds['cached'] / seconds['uncached'],
      'cached_over_processes': seconds['cached'] / (count * seconds['alone']),
    }
  }


def quickstart(setting: Setting) -> dict[str, Any]:
  """Measures the compression of digits, as bin/quickstart runs it."""
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


def device(setting: Setting) -> dict[str, Any]:
  """Measures the student in LiteRT and other runtimes, on one image."""
  # Imports TensorFlow, which the other sections leave to their workers.
  from ft_tf.benchmark import device  # noqa: PLC0415

  return {'device': device.measure(setting.job, setting.rounds)}
