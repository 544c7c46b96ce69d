"""A virtual environment with a wheel and what the wheel asks for.

What it asks for is linked from this interpreter's environment, which has what
requirements.txt pins. To copy TensorFlow and compile its modules would take
longer than most tests. Nothing else is there: a package that the wheel does not
ask for cannot be imported.
"""

import glob
import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable, Iterator

from packaging import requirements

_PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')


def build_wheel(sources: str, folder: str) -> str:
  """Builds the wheel of a checkout as pip does; returns its path."""
  subprocess.run(
    [*_PIP, 'wheel', '-q', '--no-deps', '-w', folder, sources], check=True
  )
  (wheel,) = glob.glob(os.path.join(folder, '*.whl'))
  return wheel


def make(folder: str, wheel: str) -> None:
  """Makes a virtual environment with a wheel.

  Args:
    folder: Where to.
    wheel: Its file. pip installs it without an index, and fails if anything is
      missing that its metadata asks for.
  """
  venv.create(folder)
  with zipfile.ZipFile(wheel) as archive:
    parts = zipfile.Path(archive).iterdir()
    (info,) = (each for each in parts if each.name.endswith('.dist-info'))
    asked = importlib.metadata.PathDistribution(info).requires
  site = sysconfig.get_path('purelib', 'venv', {'base': folder})
  for distribution in _closure(asked or (), set()):
    for name, path in _parts(distribution):
      link = os.path.normpath(os.path.join(site, name))
      if not os.path.lexists(link):
        os.makedirs(os.path.dirname(link), exist_ok=True)
        os.symlink(path, link)
  python = os.path.join(folder, 'bin', 'python')
  subprocess.run(
    [*_PIP, '--python', python, 'install', '-q', '--no-index', wheel],
    check=True,
  )


def _closure(
  asked: Iterable[str], seen: set[tuple[str, str]], extra: str = ''
) -> Iterator[importlib.metadata.Distribution]:
  """Yields the distributions that requirements ask for, and theirs."""
  for text in asked:
    requirement = requirements.Requirement(text)
    marker = requirement.marker
    if marker is not None and not marker.evaluate({'extra': extra}):
      continue
    found = importlib.metadata.distribution(requirement.name)
    for each in ('', *requirement.extras):
      if (requirement.name, each) not in seen:
        seen.add((requirement.name, each))
        yield found
        yield from _closure(found.requires or (), seen, each)


def _parts(
  distribution: importlib.metadata.Distribution,
) -> Iterator[tuple[str, str]]:
  """Yields what a distribution has: where it is below site-packages, and where.

  Packages are whole folders; programs, which lie elsewhere, are single files.
  """
  for file in distribution.files or ():
    name = str(file) if file.parts[0] == '..' else file.parts[0]
    if name != '__pycache__':
      yield name, os.path.abspath(str(distribution.locate_file(name)))
