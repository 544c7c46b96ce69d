"""Factor Transfer (Kim, Park and Kwak, NeurIPS 2018) for Keras."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# TensorFlow uses oneDNN's kernels by itself only on processors with VNNI,
# bfloat16 or AMX; on AVX2 alone they train 2 to 3 times faster, too. It reads
# this once, when it is imported, so every entry to this project imports ft_tf
# before TensorFlow. A value that the user has set stays.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')

# ONNX Runtime would send figures of its use, and writes a number of the machine
# and a data base of what is to be sent into the user's cache when it is
# imported. A value that the user has set stays.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')

if TYPE_CHECKING:
  from ft_tf import losses
  from ft_tf.api import distill
  from ft_tf.distiller import Distiller
  from ft_tf.factors import Paraphraser, Translator

# The only place of the version; a literal, so that setuptools can read it
# without importing anything.
__version__ = '0.1.0'

__all__ = [
  'Distiller',
  'Paraphraser',
  'Translator',
  '__version__',
  'distill',
  'losses',
]

# The module of each name. All of them import TensorFlow, which takes seconds;
# `import ft_tf` alone does not.
_MODULES = {
  'Distiller': 'distiller',
  'Paraphraser': 'factors',
  'Translator': 'factors',
  'distill': 'api',
}


def __getattr__(name: str) -> Any:
  """Imports a public name when it is first used (PEP 562)."""
  if name == 'losses':
    return importlib.import_module('ft_tf.losses')
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'ft_tf.{_MODULES[name]}')
  value = globals()[name] = getattr(module, name)
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
