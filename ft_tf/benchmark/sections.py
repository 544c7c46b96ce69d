"""The sections of the benchmark by name, run one after the other."""

import importlib.util
from collections.abc import Callable
from typing import Any

from ft_tf import errors
from ft_tf.benchmark import figures, measurements

# What sections import beyond the library's own dependencies.
COMPARED_WITH = {
  'steps': ('torch',),
  'device': ('tf2onnx', 'onnx', 'onnxruntime', 'openvino', 'nncf'),
}
SECTIONS: dict[str, Callable[[measurements.Setting], dict[str, Any]]] = {
  'steps': measurements.steps,
  'parts': measurements.parts,
  'scaling': measurements.scaling,
  'memory': measurements.memory,
  'students': measurements.students,
  'quickstart': measurements.quickstart,
  'device': measurements.device,
}


def run(
  setting: measurements.Setting,
  names: list[str],
  done: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
  """Measures sections and returns their figures and the machine's data.

  Args:
    setting: Settings of all sections.
    names: Names of `SECTIONS`.
    done: Called with all figures so far after each section, so that they are
      not lost if a later section fails.

  Raises:
    UsageError: there is no such section, or what the sections compare with is
      not installed.
  """
  unknown = [name for name in names if name not in SECTIONS]
  if unknown:
    raise errors.UsageError(
      f'--sections={",".join(unknown)}: give some of {",".join(SECTIONS)}'
    )
  for name, packages in COMPARED_WITH.items():
    missing = [
      package
      for package in packages
      if importlib.util.find_spec(package) is None
    ]
    if name in names and missing:
      raise errors.UsageError(
        f'{", ".join(missing)}, which {name} is compared with, is not '
        f'installed: run `pip install {" ".join(missing)}`, or leave {name} '
        'out of --sections'
      )
  results = {'machine': figures.machine()}
  for name in names:
    results |= SECTIONS[name](setting)
    done(results)
  return results
