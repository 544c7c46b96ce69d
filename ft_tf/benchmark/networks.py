"""The section `networks`: one pair of networks, here and in PyTorch."""

import math
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ft_tf import errors
from ft_tf.benchmark import figures, jobs, measurements

if TYPE_CHECKING:
  import keras

PARTS = ('alone', 'kd', 'ft')
# Parts measured in turn, whose processes hold memory at the same time.
_IN_TURN = (('alone',), ('kd', 'ft'))
_OURS, _TORCH = 'ours', 'PyTorch'
_FRAMEWORKS: dict[str, dict[str, Any]] = {
  _OURS: {},
  _TORCH: {'framework': 'pytorch'},
  f'{_TORCH}, compiled': {'framework': 'pytorch', 'compiled': True},
}


def measure(setting: measurements.Setting) -> dict[str, Any]:
  """Measures the student's step alone, with kd and with ft.

  Returns:
    `networks`, with `teacher`, `student`, `image_size` and `batch_size`; the
    facts of `compare`; and by precision `steps`, the figures of each job;
    `speed`, per part the spread of the ratio of our speed to that of PyTorch's
    fastest job of this precision; `cpu_time`, per part the spread of the ratio
    of our CPU time to that job's; `memory`, per part the ratio of our peak to
    that job's; `own_memory`, the same without pages of files; and `ft_over_kd`,
    for us and PyTorch the spread of the ratio of the CPU times of their steps.

  Raises:
    TrainingError: one of our jobs failed, or all of PyTorch's.
    UsageError: the networks of both sides differ.
  """
  job = setting.job
  results: dict[str, Any] = {
    'teacher': job.teacher,
    'student': job.student,
    'image_size': job.image_size,
    'batch_size': job.batch_size,
    **compare(job),
  }
  for precision, short in measurements.PRECISIONS.items():
    steps: dict[str, dict[str, Any]] = {}
    for parts in _IN_TURN:
      steps |= setting.measure(
        {
          f'{part}, {name}': {
            'part': part,
            'precision': precision,
            **framework,
          }
          for part in parts
          for name, framework in _FRAMEWORKS.items()
        }
      )
    results[short] = {'steps': steps, **_ratios(steps)}
  return {'networks': results}


def _ratios(steps: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Returns `speed`, `cpu_time`, `memory` and `ft_over_kd` of `measure`."""
  ours = {part: steps[f'{part}, {_OURS}'] for part in PARTS}
  best = {}
  for part in PARTS:
    names = [f'{part}, {name}' for name in _FRAMEWORKS if name != _OURS]
    if all('error' in steps[name] for name in names):
      raise errors.TrainingError(steps[names[0]]['error'])
    best[part] = steps[figures.fastest(steps, names)]
  return {
    'speed': {part: figures.ratio(ours[part], best[part]) for part in PARTS},
    'cpu_time': {part: _cpu_ratio(ours[part], best[part]) for part in PARTS},
    'memory': {
      part: ours[part]['peak_bytes'] / best[part]['peak_bytes']
      for part in PARTS
    },
    'own_memory': {
      part: _own_bytes(ours[part]) / _own_bytes(best[part]) for part in PARTS
    },
    'ft_over_kd': {
      name: _cpu_ratio(side['ft'], side['kd'])
      for name, side in ((_OURS, ours), (_TORCH, best))
    },
  }


def _own_bytes(figure):
  """Returns a job's peak memory without pages of files."""
  return figure['peak_bytes'] - figure['file_bytes']


def _cpu_ratio(numerator, denominator):
  """Returns the spread of the ratio of two jobs' CPU times, round by round.

  Other programs on the machine change it less than the ratio of speeds.
  """
  return figures.spread(
    [
      a / b
      for a, b in zip(
        numerator['cpu_seconds'], denominator['cpu_seconds'], strict=True
      )
    ]
  )


def compare(job: jobs.Job) -> dict[str, Any]:
  """Returns what is distilled, and checks that both sides have the same.

  Returns:
    `layers` and `maps` (`[H, W, C]`) of teacher and student; `forms` of encoder
    and translator; and `parameters`, those that gradients train, of teacher,
    student, encoder and translator.

  Raises:
    UsageError: PyTorch's networks have other maps or parameters.
  """
  # Nothing is computed: two frameworks do not compete for threads here.
  import torch  # noqa: PLC0415

  from ft_tf.benchmark import pytorch, workload  # noqa: PLC0415

  work = workload.Workload(job)
  translator = work.translator(work.methods())
  ours = {
    'teacher': _count(work.teacher.layers),
    'student': _count(work.student.layers),
    'encoder': _count(work.paraphraser.encoder),
    'translator': _count(translator.layers),
  }
  with torch.device('meta'):
    networks = pytorch.Networks(job)
    theirs = {
      name: sum(
        weight.numel() for weight in getattr(networks, name).parameters()
      )
      for name in ours
    }
  maps = dict(zip(('teacher', 'student'), work.map_shapes, strict=True))
  their_maps = {
    name: (*size, channels)
    for name, (channels, *size) in networks.map_shapes.items()
  }
  if ours != theirs or maps != their_maps:
    raise errors.UsageError(
      f'--teacher={job.teacher} --student={job.student} differ: parameters '
      f'{ours} here and {theirs} in PyTorch, maps {maps} and {their_maps}; '
      'install the releases of requirements-benchmark.txt'
    )
  return {
    'layers': dict(zip(maps, work.layers, strict=True)),
    'maps': {name: list(shape) for name, shape in maps.items()},
    'forms': {
      'encoder': work.paraphraser.form,
      'translator': translator.form,
    },
    'parameters': ours,
  }


def _count(layers: Iterable['keras.layers.Layer']) -> int:
  """Returns the elements of the layers' weights without batch statistics."""
  return sum(
    math.prod(weight.shape)
    for layer in layers
    for weight in layer.weights
    if not weight.name.startswith('moving_')
  )


def to_markdown(results: dict[str, Any]) -> str:
  """Returns the figures of `measure` as Markdown."""
  counts = results['parameters']
  size = results['image_size']
  text = [
    f'{results["teacher"]} teaches {results["student"]}, {size}x{size}, '
    f'batches of {results["batch_size"]}; '
    + '; '.join(
      f"the {name}'s {results['layers'][name]}, "
      f'{"x".join(map(str, results["maps"][name]))}'
      for name in ('teacher', 'student')
    )
    + '; parameters: '
    + ', '.join(f'{name} {count:,}' for name, count in counts.items())
    + f' (forms: {results["forms"]["encoder"]}, '
    f'{results["forms"]["translator"]})'
  ]
  for short in measurements.PRECISIONS.values():
    measured = results[short]
    text += [
      _steps_table(short, measured['steps'], results['batch_size']),
      _ratios_table(short, measured),
    ]
  return '\n\n'.join(text)


def _steps_table(short, steps, batch_size):
  lines = [
    f'| {short} | ms per step | least | most | CPU ms | peak MB '
    '| of it files | first step s |',
    '|---|---:|---:|---:|---:|---:|---:|---:|',
  ]
  for name, figure in steps.items():
    if 'error' in figure:
      lines.append(f'| {name} | failed | | | | | | |')
      continue
    times = figures.spread(
      [1000 * batch_size / speed for speed in figure['images_per_second']]
    )
    numbers = ' | '.join(
      f'{times[key]:,.0f}' for key in ('median', 'least', 'most')
    )
    cpu_time = 1000 * statistics.median(figure['cpu_seconds'])
    lines.append(
      f'| {name} | {numbers} | {cpu_time:,.0f} '
      f'| {figure["peak_bytes"] / 1e6:,.0f} '
      f'| {figure["file_bytes"] / 1e6:,.0f} | {figure["start_seconds"]:.1f} |'
    )
  return '\n'.join(lines)


def _ratios_table(short, measured):
  lines = [
    f'| {short} | median | least | most |',
    '|---|---:|---:|---:|',
  ]
  rows = {
    **{
      f'{part}: speed over that of the fastest PyTorch': spread
      for part, spread in measured['speed'].items()
    },
    **{
      f'{part}: CPU time over that of this PyTorch': spread
      for part, spread in measured['cpu_time'].items()
    },
    **{
      f'ft over kd, CPU time, {name}': spread
      for name, spread in measured['ft_over_kd'].items()
    },
  }
  for name, spread in rows.items():
    numbers = ' | '.join(
      f'{spread[key]:.2f}' for key in ('median', 'least', 'most')
    )
    lines.append(f'| {name} | {numbers} |')
  lines += [
    f'| {part}: {what} | {share:.2f} | | |'
    for name, what in (
      ('memory', 'peak memory over that of this PyTorch'),
      ('own_memory', 'the same without pages of files'),
    )
    for part, share in measured[name].items()
  ]
  return '\n'.join(lines)
