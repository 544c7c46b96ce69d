"""Checks whether the images of a folder make a data set.

Warnings go to standard error; errors name the fix.
"""

import collections
import statistics
from collections.abc import Iterable, Mapping

from ft_tf import errors
from ft_tf.data import (
  folder_names,
  folder_tree,
  image_files,
  messages,
  progress,
)

_LISTED = 100  # bad files

# For each split its images: path below the root, class, SHA-256 of the bytes.
Kept = Mapping[str, tuple[tuple[str, str, str], ...]]


def report_bad_images(
  root: str, bad: Mapping[str, str], max_bad_files: int
) -> None:
  """Lists the bad images, and refuses more than `max_bad_files`.

  Args:
    root: The folder.
    bad: The reason why each bad image cannot be used, by path.
    max_bad_files: Maximum number of bad images.

  Raises:
    UsageError: there are more bad images.
  """
  if not bad:
    return
  progress.log(
    f'{messages.count(len(bad), "bad image")} in {messages.printable(root)}:'
  )
  for path in [*bad][:_LISTED]:
    progress.log(
      f'  {messages.printable(path)}: {messages.printable(bad[path])}'
    )
  if len(bad) > _LISTED:
    progress.log(f'  and {len(bad) - _LISTED} more')
  if len(bad) > max_bad_files:
    first = next(iter(bad))
    raise errors.UsageError(
      f'{messages.printable(root)} has '
      f'{messages.count(len(bad), "bad image")}, the first '
      f'{messages.printable(first)} ({messages.printable(bad[first])}): fix '
      f'or remove them, or leave them out with --max_bad_files={len(bad)}'
    )


def check_kept(listing: folder_tree.Listing, kept: Kept, good: int) -> None:
  """Checks that enough images are left; prints how many there are.

  Args:
    listing: All images.
    kept: The images of each split that are left.
    good: Number of images that can be decoded.

  Raises:
    UsageError: a split or a class has no image left.
  """
  root = messages.printable(listing.root)
  left_out = good - sum(map(len, kept.values()))
  if left_out:
    progress.log(
      f'{root}: left out {left_out} of {good} images without labels, because '
      'the data set has them too (training must not use test images)'
    )
  counts: dict[str, collections.Counter[str]] = {
    split: collections.Counter() for split in kept
  }
  for split, files in kept.items():
    counts[split].update(label for _, label, _ in files)
    if not files:
      raise errors.UsageError(
        f'{root} has only images that the data set has too: give --unlabeled '
        'other images, or leave it out'
        if left_out
        else f'{root} has no good image in its {split} split: add some'
      )
  train = counts[folder_names.TRAIN]
  without = [name for name in listing.classes if not train[name]]
  if without:
    raise errors.UsageError(
      f'{root} has no good training image of '
      f'{messages.abbreviate(without)}: add some, or remove the folder'
    )
  if len(listing.classes) > 1:
    _log_balance(listing, train)


def _log_balance(
  listing: folder_tree.Listing, counts: collections.Counter[str]
) -> None:
  """Prints the number of training images of each class."""
  least, most = min(counts.values()), max(counts.values())
  per_class = ', '.join(
    f'{messages.printable(name)} {counts[name]}'
    for name in listing.classes[:10]
  )
  more = ', ...' if len(listing.classes) > 10 else ''
  progress.log(
    f'{messages.printable(listing.root)}: {len(listing.classes)} classes, '
    f'{sum(counts.values())} training images ({per_class}{more})'
    + (
      f': the largest class has {most / least:.1f} times as many as the '
      'smallest'
      if most > 1.5 * least
      else ''
    )
  )


def log_frames(root: str, used: Iterable[image_files.Inspection]) -> None:
  """Prints how many files hold several images, of which one is used."""
  several = sum(image.frames > 1 for image in used)
  if several:
    progress.log(
      f'{messages.printable(root)}: only the first image is used of '
      f'{messages.count(several, "file")} with several (animations, pages)'
    )


def find_duplicates(listing: folder_tree.Listing, kept: Kept) -> Iterable[str]:
  """Yields warnings about equal files in several splits or several classes."""
  by_digest = collections.defaultdict(list)
  for split, files in kept.items():
    for path, label, digest in files:
      by_digest[digest].append((split, label, path))
  for field, kind, effect in (
    (0, 'split', 'the measured accuracy is too high'),
    (1, 'class', 'one of the labels is wrong'),
  ):
    groups = [
      copies
      for copies in by_digest.values()
      if len({copy[field] for copy in copies}) > 1
    ]
    pairs = []
    for first, *rest in groups[: messages.NAMED]:
      second = next(copy for copy in rest if copy[field] != first[field])
      pairs.append(
        f'{messages.printable(first[2])} = {messages.printable(second[2])}'
      )
    if groups:
      yield (
        f'{messages.printable(listing.root)}: warning: '
        f'{messages.count(len(groups), "image")} in more than one {kind}, as '
        'files with equal bytes '
        f'({"; ".join(pairs)}'
        + ('; ...' if len(groups) > messages.NAMED else '')
        + f'): {effect}; keep one file of each'
      )


def find_bits(
  root: str,
  used: Iterable[image_files.Inspection],
  labelled_root: str = '',
  labelled_bits: int = 0,
) -> int:
  """Returns how many of 16 bits the values use; 0 if no image has 16 bits.

  It is one number for a whole folder, so that equal values stay equal.

  Args:
    root: The folder.
    used: The images that are not left out.
    labelled_root: The folder of the labelled images, if `root` adds to one.
    labelled_bits: The bits of the labelled images, which `root` then takes.

  Raises:
    UsageError: the images have higher values than the labelled ones.
  """
  highest = [image.highest for image in used if image.highest]
  if not highest:
    return 0
  bits = max(8, max(highest).bit_length())
  bits += bits % 2  # Cameras have 8, 10, 12, 14 or 16 bits.
  if labelled_bits:
    if bits > labelled_bits:
      raise errors.UsageError(
        f'{messages.printable(root)} has 16-bit images with values up to '
        f'{max(highest)}, and those of {messages.printable(labelled_root)} use '
        f'{labelled_bits} bits: give --unlabeled images of the same range'
      )
    bits = labelled_bits
  progress.log(
    f'{messages.printable(root)}: 16-bit values in '
    f'{messages.count(len(highest), "image")}, up to {max(highest)} (the '
    f'median of their maxima is {statistics.median_low(highest)}): read as '
    f'{bits} bits and divided by {2 ** (bits - 8)}'
  )
  return bits
