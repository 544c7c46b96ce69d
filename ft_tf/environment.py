"""What `environment.json` says of a command: machine and versions."""

import datetime
import importlib.metadata
import os
import platform
import sys
from typing import Any

_PACKAGES = (
  'tensorflow',
  'keras',
  'tensorflow-datasets',
  'ai-edge-litert',
  'numpy',
)


def describe_command() -> dict[str, Any]:
  """Returns the command, its start time, the machine and the versions."""
  return {
    'command': [os.path.basename(sys.executable), *sys.argv],
    'started': datetime.datetime.now(datetime.UTC).isoformat('T', 'seconds'),
    'python': platform.python_version(),
    'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    'packages': {name: _version(name) for name in _PACKAGES},
  }


def _version(package: str) -> str | None:
  """Returns a package's version; None if no package of that name is installed.

  TensorFlow, for one, is also distributed under other names.
  """
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
