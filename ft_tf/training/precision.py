"""In which precision this machine trains fastest."""

import dataclasses
import os

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port as port

from ft_tf import recipes

# Flags by which Linux names native bfloat16 products: x86, then ARM.
_BFLOAT16 = ('amx_bf16', 'avx512_bf16', 'bf16')


def settle(recipe: recipes.Recipe) -> recipes.Recipe:
  """Returns the recipe with 'auto' precision settled for this machine."""
  if recipe.precision != 'auto':
    return recipe
  return dataclasses.replace(recipe, precision=automatic()[0])


def describe(recipe: recipes.Recipe) -> str:
  """Returns the lines about the precision in which a recipe is trained."""
  best, reason = automatic()
  why = f' ({reason})' if recipe.precision == best else ''
  lines = [f'precision: {recipe.precision}{why}']
  if _lacks_onednn():
    lines.append(
      'TensorFlow was imported before ft_tf, without oneDNN: training on this '
      'CPU is 2 to 3 times slower; import ft_tf first, or set '
      'TF_ENABLE_ONEDNN_OPTS=1'
    )
  return '\n'.join(lines)


def _lacks_onednn() -> bool:
  """Tells whether a CPU trains without oneDNN though nobody chose that."""
  return (
    not tf.config.list_physical_devices('GPU')
    and os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '1'
    and not port.IsMklEnabled()
  )


def automatic() -> tuple[str, str]:
  """Returns the Keras policy for the devices here, and why."""
  gpus = tf.config.list_physical_devices('GPU')
  if gpus:
    return _of_gpus(
      [
        tf.config.experimental.get_device_details(gpu).get(
          'compute_capability', (0, 0)
        )
        for gpu in gpus
      ]
    )
  return _of_cpu(_cpu_flags())


def _of_gpus(capabilities: list[tuple[int, int]]) -> tuple[str, str]:
  least = min(capabilities)
  named = f'GPU of compute capability {least[0]}.{least[1]}'
  if least >= (8, 0):
    return 'mixed_bfloat16', f'{named} computes in bfloat16'
  if least >= (7, 0):
    return 'mixed_float16', f'{named} computes in float16, not in bfloat16'
  return 'float32', f'{named} is not faster in 16 bits'


def _of_cpu(flags: set[str]) -> tuple[str, str]:
  native = [flag for flag in _BFLOAT16 if flag in flags]
  if native:
    return 'mixed_bfloat16', f'this CPU has {native[0]}'
  return 'float32', 'this CPU has no native bfloat16'


def _cpu_flags() -> set[str]:
  """Returns the first CPU's features as Linux names them."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      for line in file:
        name, _, value = line.partition(':')
        if name.strip() in ('flags', 'Features'):
          return set(value.split())
  except OSError:
    pass  # Not Linux: nothing is known.
  return set()
