"""Ratios, tables, and the machine on which they were measured."""

import importlib.metadata
import platform
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from ft_tf.export import processor

_PACKAGES = (
  'tensorflow',
  'keras',
  'numpy',
  'ai-edge-litert',
  'torch',
  'torchvision',
  'onnxruntime',
  'openvino',
)


def spread(values: Sequence[float]) -> dict[str, float]:
  """Returns the `median`, `least` and `most` of values."""
  return {
    'median': statistics.median(values),
    'least': min(values),
    'most': max(values),
  }


def ratio(
  numerator: dict[str, Any], denominator: dict[str, Any]
) -> dict[str, float] | None:
  """Returns the spread of the ratio of two jobs' speeds, round by round.

  Args:
    numerator: Figures of a job, with `images_per_second` per round.
    denominator: Figures of another job, measured in the same rounds.

  Returns:
    As `spread`; None if one of the jobs failed.
  """
  if 'error' in numerator or 'error' in denominator:
    return None
  return spread(
    [
      a / b
      for a, b in zip(
        numerator['images_per_second'],
        denominator['images_per_second'],
        strict=True,
      )
    ]
  )


def fastest(measured: dict[str, dict[str, Any]], names: Iterable[str]) -> str:
  """Returns the name of the job with the highest median speed.

  Failed jobs are ignored.

  Raises:
    ValueError: all jobs failed.
  """
  medians = {
    name: statistics.median(measured[name]['images_per_second'])
    for name in names
    if 'error' not in measured[name]
  }
  if not medians:
    raise ValueError('all configurations failed: see their errors')
  return max(medians, key=medians.__getitem__)


def table(measured: dict[str, dict[str, Any]]) -> str:
  """Returns a Markdown table of jobs: speed, its spread, and peak memory."""
  lines = [
    '| | images/s | least | most | peak MB |',
    '|---|---:|---:|---:|---:|',
  ]
  for name, figure in measured.items():
    if 'error' in figure:
      lines.append(f'| {name} | failed | | | |')
      continue
    speed = spread(figure['images_per_second'])
    numbers = ' | '.join(
      f'{speed[key]:,.0f}' for key in ('median', 'least', 'most')
    )
    lines.append(f'| {name} | {numbers} | {figure["peak_bytes"] / 1e6:,.0f} |')
  return '\n'.join(lines)


def machine() -> dict[str, Any]:
  """Returns processor, cores and versions, on which the speed depends."""
  chip = processor.describe()
  return {
    'processor': chip['name'],
    'cores': chip['cores'],
    'flags': chip['features'] or [],
    'python': platform.python_version(),
    **{package: _version(package) for package in _PACKAGES},
  }


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
