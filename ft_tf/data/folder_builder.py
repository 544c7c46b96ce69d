"""A folder of images as a TFDS data set, every image looked at once."""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import os
import statistics
import sys
import time
import warnings
from collections.abc import Iterable, Mapping

import tensorflow_datasets as tfds

from ft_tf import errors, run_dir
from ft_tf.data import folder, image_files

NAME = 'folder'  # TFDS's of all folders
_CHECKED = 'images.json'
_VERSION = '2.0.0'  # of what is prepared: another makes all of it anew
# A file may change twice within one tick of the clock that stamps it.
_SETTLED_NS = 2_000_000_000
_LISTED = 100  # bad files

# Split to its images: path below the root, class, SHA-256 of the bytes.
_Kept = Mapping[str, tuple[tuple[str, str, str], ...]]


def builder(
  listing: folder.Listing,
  *,
  data_dir: str | None = None,
  max_bad_files: int = 0,
  channels: int = 0,
  labelled: tfds.core.DatasetBuilder | None = None,
) -> tfds.core.DatasetBuilder:
  """Returns the TFDS builder of a folder, whose images have been looked at.

  Each is decoded once, and again only if the folder has changed. The data set
  that the builder prepares has random access. Nothing is written yet.

  Args:
    listing: As of `scan` or `scan_unlabelled`.
    data_dir: The TFDS folder for what is prepared; TFDS's default if None.
    max_bad_files: How many images may be left out because they do not decode.
    channels: What all are converted to, 1 or 3; 0: 1 if all are grey.
    labelled: The builder of a folder whose images are left out here, by their
      bytes, and as whose values of 16 bits are read.

  Raises:
    UsageError: more images are bad, or too few are left.
  """
  for note in listing.notes:
    _say(note)
  data_dir = data_dir or str(tfds.core.constants.DATA_DIR)
  home = run_dir.RunDir(
    os.path.join(data_dir, NAME, f'{_VERSION}-{listing.digest[:32]}')
  )
  known, started = home.read(_CHECKED), time.time_ns()
  if known is None:
    looks = _check(listing)
  else:
    looks = {p: image_files.Look(*its) for p, its in known['images'].items()}
  bad = {path: its.reason for path, its in looks.items() if its.reason}
  _refuse_bad(listing.root, bad, max_bad_files)
  labelled = labelled and labelled.builder_config
  elsewhere = labelled.digests() if labelled else frozenset()
  kept = {
    part: tuple(
      (path, label, looks[path].sha256)
      for path, label in files
      if path not in bad and looks[path].sha256 not in elsewhere
    )
    for part, files in listing.splits.items()
  }
  _check_kept(listing, kept, len(looks) - len(bad))
  for line in _duplicates(listing, kept):
    _say(line)
  used = [looks[path] for files in kept.values() for path, _, _ in files]
  several = sum(its.frames > 1 for its in used)
  if several:
    _say(
      f'{folder.shown(listing.root)}: the first image is used of '
      f'{folder.counted(several, "file")} with several (animations, pages)'
    )
  config = _Config(
    name='',
    classes=listing.classes,
    root=listing.root,
    files=kept,
    channels=channels or (1 if all(its.grey for its in used) else 3),
    bits=_bits(listing.root, used, labelled),
  )
  if known is None and listing.changed_ns < started - _SETTLED_NS:
    config.home = home
    config.looks = looks
  config.name = config.fingerprint[:32] + config.fingerprint[64:]
  return Pictures(data_dir=data_dir, config=config, file_format='array_record')


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)


def _check(listing: folder.Listing) -> dict[str, image_files.Look]:
  """Returns what is known of each image, decoded."""
  files = [path for of in listing.splits.values() for path, _ in of]
  _say(
    f'{folder.shown(listing.root)}: looking at '
    f'{folder.counted(len(files), "image")}'
  )
  with (
    warnings.catch_warnings(action='ignore'),  # sizes and damage are told here
    concurrent.futures.ThreadPoolExecutor() as pool,
  ):
    looks = pool.map(
      lambda path: image_files.look(os.path.join(listing.root, path)), files
    )
    return dict(zip(files, looks, strict=True))


def _refuse_bad(root: str, bad: Mapping[str, str], most: int) -> None:
  """Names the bad images; raises `UsageError` if there are more than `most`."""
  if not bad:
    return
  _say(f'{folder.counted(len(bad), "bad image")} in {folder.shown(root)}:')
  for path in [*bad][:_LISTED]:
    _say(f'  {folder.shown(path)}: {folder.shown(bad[path])}')
  if len(bad) > _LISTED:
    _say(f'  and {len(bad) - _LISTED} more')
  if len(bad) > most:
    first = next(iter(bad))
    raise errors.UsageError(
      f'{folder.shown(root)} has {folder.counted(len(bad), "bad image")}, the '
      'first '
      f'{folder.shown(first)} ({folder.shown(bad[first])}): fix or remove '
      f'them, or leave them out with --max_bad_files={len(bad)}'
    )


def _check_kept(listing: folder.Listing, kept: _Kept, good: int) -> None:
  """Raises `UsageError` if too few images are left; tells how many there are.

  Args:
    listing: All images.
    kept: Those of each split that are left.
    good: How many of all can be decoded.
  """
  root = folder.shown(listing.root)
  left_out = good - sum(map(len, kept.values()))
  if left_out:
    _say(
      f'{root}: left out {left_out} of {good} images without labels, which are '
      'in the data set too (training must not see its test images)'
    )
  counts: dict[str, collections.Counter[str]] = {
    part: collections.Counter() for part in kept
  }
  for part, files in kept.items():
    counts[part].update(label for _, label, _ in files)
    if not files:
      raise errors.UsageError(
        f'{root} has no image that the data set has not: give --unlabeled '
        'others, or leave it out'
        if left_out
        else f'{root} has no good image in its {part} split: add some'
      )
  without = [name for name in listing.classes if not counts[folder.TRAIN][name]]
  if without:
    raise errors.UsageError(
      f'{root} has no good image to train on of {folder.some(without)}: add '
      'some, or remove the folder'
    )
  if len(listing.classes) > 1:
    _say_balance(listing, counts[folder.TRAIN])


def _say_balance(
  listing: folder.Listing, counts: collections.Counter[str]
) -> None:
  """Says how many images to train on the classes have."""
  least, most = min(counts.values()), max(counts.values())
  each = ', '.join(
    f'{folder.shown(name)} {counts[name]}' for name in listing.classes[:10]
  )
  more = ', ...' if len(listing.classes) > 10 else ''
  _say(
    f'{folder.shown(listing.root)}: {len(listing.classes)} classes, '
    f'{sum(counts.values())} images to train on ({each}{more})'
    + (
      f': the largest class has {most / least:.1f} times the smallest'
      if most > 1.5 * least
      else ''
    )
  )


def _duplicates(listing: folder.Listing, kept: _Kept) -> Iterable[str]:
  """Yields a line if an image is in several splits, or in several classes."""
  same = collections.defaultdict(list)
  for part, files in kept.items():
    for path, label, digest in files:
      same[digest].append((part, label, path))
  for place, what, effect in (
    (0, 'split', 'results on them are too good'),
    (1, 'class', 'one of the labels is wrong'),
  ):
    groups = [
      copies
      for copies in same.values()
      if len({each[place] for each in copies}) > 1
    ]
    pairs = []
    for first, *others in groups[: folder.NAMED]:
      other = next(each for each in others if each[place] != first[place])
      pairs.append(f'{folder.shown(first[2])} = {folder.shown(other[2])}')
    if groups:
      yield (
        f'{folder.shown(listing.root)}: warning: '
        f'{folder.counted(len(groups), "image")} in more than one {what}, as '
        'files with the same bytes '
        f'({"; ".join(pairs)}'
        + ('; ...' if len(groups) > folder.NAMED else '')
        + f'): {effect}; remove all but one of each'
      )


def _bits(
  root: str, used: Iterable[image_files.Look], labelled: '_Config | None'
) -> int:
  """Returns how many of 16 bits the images use; 0 if none has 16.

  It is one number for a whole folder, so that equal values stay equal.
  """
  highest = [its.highest for its in used if its.highest]
  if not highest:
    return 0
  bits = max(8, max(highest).bit_length())
  bits += bits % 2  # cameras have 8, 10, 12, 14 or 16
  if labelled and labelled.bits:
    if bits > labelled.bits:
      raise errors.UsageError(
        f'{folder.shown(root)} has 16-bit images with values up to '
        f'{max(highest)}, and those of {folder.shown(labelled.root)} use '
        f'{labelled.bits} bits: give --unlabeled images of the same range'
      )
    bits = labelled.bits
  _say(
    f'{folder.shown(root)}: values of 16 bits in '
    f'{folder.counted(len(highest), "image")}, up to {max(highest)} (in half '
    f'of them up to {statistics.median_low(highest)}): taken as {bits} bits, '
    f'and divided by {2 ** (bits - 8)}'
  )
  return bits


@dataclasses.dataclass(repr=False)  # It would name every file.
class _Config(tfds.core.BuilderConfig):
  """A folder as it was found.

  Attributes:
    classes: Names of its classes.
    root: The folder.
    files: Split to its images.
    channels: 1 or 3.
    bits: Of values of 16 bits; 0 if there are none.
    looks: What is known of all images, if it is to be written to `home`.
    home: Where to.
  """

  classes: tuple[str, ...] = ()
  root: str = ''
  files: _Kept = dataclasses.field(default_factory=dict)
  channels: int = 3
  bits: int = 0
  looks: Mapping[str, image_files.Look] | None = None
  home: run_dir.RunDir | None = None

  @functools.cached_property
  def fingerprint(self) -> str:
    """What decides the images, names and bytes, and not where they lie."""
    content = hashlib.sha256()
    for part, files in self.files.items():
      for path, label, digest in files:
        line = f'{part}\0{label}\0{path}\0{digest}\n'
        content.update(os.fsencode(line))
    return f'{content.hexdigest()}-{self.channels}-{self.bits}'

  def digests(self) -> frozenset[str]:
    """Returns the SHA-256 of each image's bytes."""
    return frozenset(
      digest for files in self.files.values() for _, _, digest in files
    )


class Pictures(tfds.core.GeneratorBasedBuilder):
  """The images of a folder, in files of random access."""

  VERSION = tfds.core.Version(_VERSION)
  name = NAME

  def remember(self) -> None:
    """Writes what is known of the images, unless it is written already.

    Raises:
      OSError: it cannot be written.
    """
    its = self.builder_config
    if its.home is not None:
      os.makedirs(its.home.path, exist_ok=True)
      images = {p: dataclasses.astuple(look) for p, look in its.looks.items()}
      its.home.write(_CHECKED, {'root': its.root, 'images': images})
      its.home = its.looks = None

  def _info(self):
    its = self.builder_config
    return tfds.core.DatasetInfo(
      builder=self,
      description='Images of a folder.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, its.channels)),
          'label': tfds.features.ClassLabel(names=list(its.classes)),
          'file': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      part: self._generate_examples(files)
      for part, files in self.builder_config.files.items()
    }

  def _generate_examples(self, files):
    its = self.builder_config
    for number, (path, label, digest) in enumerate(files):
      content = image_files.read(os.path.join(its.root, path))
      if image_files.sha256(content) != digest:
        raise errors.UsageError(
          f'{folder.shown(os.path.join(its.root, path))} was changed while the '
          'folder was read: give the same command again when nothing writes '
          'there'
        )
      with warnings.catch_warnings(action='ignore'):
        image = image_files.encode(
          content, channels=its.channels, bits=its.bits
        )
      # The name in bytes: it may not be UTF-8.
      yield number, {'image': image, 'label': label, 'file': os.fsencode(path)}
