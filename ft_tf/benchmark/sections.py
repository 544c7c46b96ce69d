"""The sections of the benchmark by name, run one after the other."""

import importlib.util
from collections.abc import Callable
from typing import Any

from ft_tf import errors
from ft_tf.benchmark import counterparts, figures, measurements, networks

# What sections import beyond the library's own dependencies; those in PyTorch
# import what `counterparts.packages` tells.
IN_PYTORCH = ('steps', 'networks')
COMPARED_WITH: dict[str, tuple[str, ...]] = {
  'device': ('tf2onnx', 'onnx', 'onnxruntime', 'openvino', 'nncf'),
}
SECTIONS: dict[str, Callable[[measurements.Setting], dict[str, Any]]] = {
  'steps': measurements.steps,
  'networks': networks.measure,
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
    UsageError: there is no such section, what the sections compare with is not
      installed, or the networks have no counterpart in PyTorch.
  """
  unknown = [name for name in names if name not in SECTIONS]
  if unknown:
    raise errors.UsageError(
      f'--sections={",".join(unknown)}: give some of {",".join(SECTIONS)}'
    )
  for name in names:
    packages = COMPARED_WITH.get(name, ())
    if name in IN_PYTORCH:
      counterparts.check(setting.job)
      packages = counterparts.packages(setting.job)
    missing = [
      package
      for package in packages
      if importlib.util.find_spec(package) is None
    ]
    if missing:
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
