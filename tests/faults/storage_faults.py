"""What can happen to a file of a run, drawn by a seed.

`FT_TF_FAULTS_SEED=3` draws other cases than the default, 0; so does every other
number.
"""

import os
import random
import shutil

SEED = int(os.environ.get('FT_TF_FAULTS_SEED', '0'))
KINDS = ('cut', 'empty', 'flip', 'delete', 'folder')


def chance(*names: object) -> random.Random:
  """Returns numbers that the seed and some names decide."""
  return random.Random(f'{SEED} {names}')


def files(folder: str) -> list[str]:
  """Returns the files in a folder and below it, relative to it, but locks."""
  return sorted(
    os.path.relpath(os.path.join(root, name), folder)
    for root, _, names in os.walk(folder)
    for name in names
    if not name.endswith('.lock')
  )


def damage(path: str, kind: str, rng: random.Random) -> None:
  """Damages a file as storage or a user may.

  Args:
    path: The file.
    kind: Of `KINDS`: cut short; emptied; with up to 8 bytes changed; deleted;
      a folder with a file in its place.
    rng: Decides where.
  """
  with open(path, 'rb') as file:
    content = bytearray(file.read())
  if kind == 'delete':
    os.remove(path)
    return
  if kind == 'folder':
    os.remove(path)
    os.mkdir(path)
    with open(os.path.join(path, 'notes.txt'), 'w') as file:
      file.write('mine')
    return
  if kind == 'cut':
    content = content[: rng.randrange(len(content))] if content else content
  elif kind == 'empty':
    content = bytearray()
  elif content:
    for _ in range(rng.randint(1, 8)):
      content[rng.randrange(len(content))] ^= rng.randint(1, 255)
  with open(path, 'wb') as file:
    file.write(content)


def copy(source: str, target: str) -> str:
  """Copies a folder; returns the copy's path."""
  shutil.rmtree(target, ignore_errors=True)
  return shutil.copytree(source, target)
