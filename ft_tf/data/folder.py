"""A folder of pictures as a TFDS data set, every picture looked at once."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import io
import os
import sys
import warnings

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from ft_tf import errors, run_dir

PREFIX = 'folder:'
UNLABELLED = 'unlabeled:'
NAME = 'folder'  # TFDS's of all of them
SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')
# Of pictures without a test folder: one in five of each class is tested on.
_TEST_EVERY = 5
_MOST_PIXELS = 100_000_000
_CHECKED = 'pictures.json'
# What TensorFlow decodes as it stands; the rest is kept as PNG.
_PLAIN = {('JPEG', 'L'), ('JPEG', 'RGB'), ('PNG', 'L'), ('PNG', 'RGB')}
_ORIENTATION = 0x0112  # in EXIF
_GREY = ('1', 'L', 'LA', 'I;16', 'I;16B', 'I;16L', 'I;16N')
_NOT_BYTES = ('I', 'F')  # whose range is not known


@dataclasses.dataclass(frozen=True)
class Listing:
  """What lies in a folder, by its names alone.

  Attributes:
    root: The folder.
    classes: Names of the class folders, sorted.
    splits: Split to its files, paths below the root, sorted, each with its
      class.
    digest: Of names, sizes and times of all files: another if any changed.
  """

  root: str
  classes: tuple[str, ...]
  splits: dict[str, tuple[tuple[str, str], ...]]
  digest: str


def scan(root: str) -> Listing:
  """Returns what lies in a folder of pictures.

  Args:
    root: With `train/<class>/<picture>` and `test/<class>/<picture>`; without
      `test/`, or with the class folders in the root itself, every fifth picture
      of each class, in an order that depends on its name alone, is for testing.

  Raises:
    UsageError: there is no such folder, or it is not laid out so.
  """
  root = os.path.abspath(root)
  if not os.path.isdir(root):
    raise errors.UsageError(
      f'there is no folder {root}: --dataset={PREFIX}PATH takes one with '
      'train/<class>/<picture>'
    )
  train = 'train' if os.path.isdir(os.path.join(root, 'train')) else ''
  files = _pictures(root, train)
  if not files:
    raise errors.UsageError(
      f'{root} has no picture: lay them as train/<class>/<picture>, with names '
      f'that end in {", ".join(SUFFIXES)}'
    )
  classes = tuple(sorted(files))
  if len(classes) < 2:
    raise errors.UsageError(
      f'{root} has one class, {classes[0]}: a classifier needs two or more '
      'folders of pictures'
    )
  if train and os.path.isdir(os.path.join(root, 'test')):
    tested = _pictures(root, 'test')
    strange = sorted(tested.keys() - files.keys())
    if strange:
      raise errors.UsageError(
        f'{root}/test has classes that train has not: {", ".join(strange)}; '
        'name the folders alike'
      )
    parts = {'train': files, 'test': tested}
  else:
    parts = _split(files)
  splits = {
    name: tuple(sorted((path, label) for label in of for path in of[label]))
    for name, of in parts.items()
  }
  if not splits['test']:
    raise errors.UsageError(
      f'{root} leaves no picture to test on: give test/<class>/<picture>, or '
      f'{_TEST_EVERY} pictures a class and more'
    )
  return Listing(root, classes, splits, _digest(root, splits))


def scan_unlabelled(root: str) -> Listing:
  """Returns all pictures in a folder and those within it, as one class.

  Raises:
    UsageError: there is no such folder, or no picture in it.
  """
  root = os.path.abspath(root)
  if not os.path.isdir(root):
    raise errors.UsageError(
      f'there is no folder {root}: --unlabeled takes one with pictures'
    )
  paths = _below(root, '')
  if not paths:
    raise errors.UsageError(
      f'{root} has no picture: --unlabeled takes a folder with names that end '
      f'in {", ".join(SUFFIXES)}'
    )
  splits = {'train': tuple((path, 'unlabelled') for path in paths)}
  return Listing(root, ('unlabelled',), splits, _digest(root, splits))


def _digest(root, splits) -> str:
  """Returns another value if any file changed."""
  found = hashlib.sha256()
  for name, paths in splits.items():
    for path, _ in paths:
      status = os.stat(os.path.join(root, path))
      line = f'{name} {path} {status.st_size} {status.st_mtime_ns}\n'
      found.update(line.encode())
  return found.hexdigest()[:16]


def _pictures(root: str, part: str) -> dict[str, list[str]]:
  """Returns the pictures of each class folder of a part."""
  found = {}
  with os.scandir(os.path.join(root, part)) as entries:
    folders = sorted(entry.name for entry in entries if entry.is_dir())
  for name in folders:
    paths = _below(root, os.path.join(part, name))
    if paths:
      found[name] = paths
  return found


def _below(root: str, part: str) -> list[str]:
  """Returns all pictures below a part of the root, as paths below the root."""
  return sorted(
    os.path.relpath(os.path.join(where, file), root)
    for where, _, files in os.walk(os.path.join(root, part))
    for file in files
    if file.lower().endswith(SUFFIXES) and not file.startswith('.')
  )


def _split(files):
  """Returns train and test of pictures that are not apart yet."""
  parts = {'train': {}, 'test': {}}
  for name, paths in files.items():
    order = sorted(paths, key=lambda p: hashlib.sha256(p.encode()).digest())
    parts['test'][name] = order[_TEST_EVERY - 1 :: _TEST_EVERY]
    parts['train'][name] = sorted({*paths} - {*parts['test'][name]})
  return parts


def builder(
  listing: Listing,
  *,
  data_dir: str | None = None,
  max_bad_files: int = 0,
  channels: int = 0,
) -> tfds.core.DatasetBuilder:
  """Returns the TFDS builder of a folder, whose pictures have been looked at.

  Each is decoded once, and again only if the folder has changed. The data set
  that the builder prepares has random access.

  Args:
    listing: As of `scan` or `scan_unlabelled`.
    data_dir: The TFDS folder for what is prepared; TFDS's default if None.
    max_bad_files: How many pictures may be left out because they do not decode.
    channels: What all are converted to, 1 or 3; 0: 1 if all are grey.

  Raises:
    UsageError: more pictures are bad.
  """
  data_dir = data_dir or str(tfds.core.constants.DATA_DIR)
  home = run_dir.RunDir(os.path.join(data_dir, Pictures.name, listing.digest))
  known = home.read(_CHECKED)
  checked = known or _check(listing)
  bad = checked['bad']
  if bad:
    print(
      f'{len(bad)} bad pictures in {listing.root}:\n  '
      + '\n  '.join(f'{name}: {reason}' for name, reason in bad.items()),
      file=sys.stderr,
      flush=True,
    )
  if len(bad) > max_bad_files:
    first, reason = next(iter(bad.items()))
    raise errors.UsageError(
      f'{listing.root} has {len(bad)} bad pictures, the first {first} '
      f'({reason}): mend or remove them, or leave them out with '
      f'--max_bad_files={len(bad)}'
    )
  if known is None:
    try:
      os.makedirs(home.path, exist_ok=True)
      home.write(_CHECKED, checked)
    except OSError as error:
      raise errors.UsageError(
        f'cannot write {home.path} ({error.strerror}): give another --data_dir'
      ) from error
  if len(listing.classes) > 1:
    _check_classes(listing, bad)
    _say_balance(listing, bad)
  channels = channels or checked['channels']
  return Pictures(
    data_dir=data_dir,
    config=_Config(
      name=f'{listing.digest}-{channels}',
      listing=listing,
      channels=channels,
      bad=frozenset(bad),
      content=checked['content'],
    ),
    file_format='array_record',
  )


def _check(listing: Listing) -> dict:
  """Returns the bad pictures with the reason, and what the others are.

  They have one channel if all are grey, otherwise three; `content` is a SHA-256
  of names and bytes, which stays if a file is only touched or copied.
  """
  paths = [path for of in listing.splits.values() for path, _ in of]
  print(
    f'{listing.root}: looking at {len(paths)} pictures',
    file=sys.stderr,
    flush=True,
  )
  bad, modes, content = {}, set(), hashlib.sha256()
  with concurrent.futures.ThreadPoolExecutor() as pool:
    looks = pool.map(lambda p: _look(os.path.join(listing.root, p)), paths)
    for path, (mode, reason, digest) in zip(paths, looks, strict=True):
      if reason:
        bad[path] = reason
      else:
        modes.add(mode)
        content.update(f'{path} {digest}\n'.encode())
  return {
    'root': listing.root,
    'bad': bad,
    'channels': 1 if modes <= {*_GREY} else 3,
    'content': content.hexdigest(),
    'files': listing.splits,
  }


def _look(path: str) -> tuple[str, str, str]:
  """Returns a picture's mode, what is wrong with it or '', and its SHA-256."""
  if not os.path.getsize(path):
    return '', 'empty', ''
  try:
    with open(path, 'rb') as file, warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Size is looked at here.
      with Image.open(file) as image:
        if image.width * image.height > _MOST_PIXELS:
          return '', f'{image.width}x{image.height} pixels are too many', ''
        image.load()
        mode = image.mode
        if mode in _NOT_BYTES:
          return '', f'pixels of 32 bits (mode {mode})', ''
    with open(path, 'rb') as file:
      return mode, '', hashlib.file_digest(file, 'sha256').hexdigest()
  except Image.DecompressionBombError:
    return '', 'too many pixels', ''
  except Exception as error:  # Pillow raises many kinds over a broken file.
    return '', str(error).splitlines()[0] if str(error) else repr(error), ''


def _check_classes(listing, bad) -> None:
  """Raises `UsageError` if a class has no picture left to train on."""
  left = {label for path, label in listing.splits['train'] if path not in bad}
  without = [name for name in listing.classes if name not in left]
  if without:
    raise errors.UsageError(
      f'{listing.root} has no good picture to train on of '
      f'{", ".join(without)}: add some, or remove the folder'
    )


def _say_balance(listing, bad) -> None:
  """Says how many pictures to train on the classes have."""
  counts = collections.Counter(
    label for path, label in listing.splits['train'] if path not in bad
  )
  least, most = min(counts.values()), max(counts.values())
  each = ', '.join(f'{name} {counts[name]}' for name in listing.classes[:10])
  more = ', ...' if len(listing.classes) > 10 else ''
  print(
    f'{listing.root}: {len(listing.classes)} classes, {sum(counts.values())} '
    f'pictures to train on ({each}{more})'
    + (
      f': the largest class has {most / least:.1f} times the smallest'
      if most > 1.5 * least
      else ''
    ),
    file=sys.stderr,
    flush=True,
  )


@dataclasses.dataclass(repr=False)  # It would name every file.
class _Config(tfds.core.BuilderConfig):
  """A folder as it was found.

  Attributes:
    listing: Its files.
    channels: 1 or 3.
    bad: Those of its files that are left out.
    content: Of the others, a SHA-256.
  """

  listing: Listing | None = None
  channels: int = 3
  bad: frozenset[str] = frozenset()
  content: str = ''


class Pictures(tfds.core.GeneratorBasedBuilder):
  """The pictures of a folder, in files of random access."""

  VERSION = tfds.core.Version('1.0.0')
  name = NAME

  def _info(self):
    listing = self.builder_config.listing
    return tfds.core.DatasetInfo(
      builder=self,
      description='Pictures of a folder.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(None, None, self.builder_config.channels)
          ),
          'label': tfds.features.ClassLabel(names=list(listing.classes)),
          'file': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(paths)
      for split, paths in self.builder_config.listing.splits.items()
    }

  def _generate_examples(self, paths):
    its = self.builder_config
    kept = [each for each in paths if each[0] not in its.bad]
    for number, (path, label) in enumerate(kept):
      yield (
        number,
        {
          'image': _encoded(os.path.join(its.listing.root, path), its.channels),
          'label': label,
          'file': path,
        },
      )


def _encoded(path: str, channels: int) -> bytes:
  """Returns a picture that TensorFlow decodes: upright, not transparent."""
  with Image.open(path) as image:
    turned = image.getexif().get(_ORIENTATION, 1) != 1
    if not turned and (image.format, image.mode) in _PLAIN:
      with open(path, 'rb') as file:
        return file.read()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I;16'):
      # Pillow would cut off what is above 255.
      image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    kept = io.BytesIO()
    image.convert('RGB' if channels == 3 else 'L').save(
      kept, 'png', compress_level=1
    )
    return kept.getvalue()
