"""The images of a folder as a data set; they are read where they are."""

import functools
import hashlib
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors
from ft_tf.data import (
  folder_checks,
  folder_index,
  folder_names,
  folder_tree,
  image_files,
  messages,
  progress,
  stores,
)

_LABEL_BYTES = 4  # in front of the image in a record


def open_folder(
  listing: folder_tree.Listing,
  *,
  data_dir: str | None = None,
  max_bad_files: int = 0,
  channels: int = 0,
  labelled: 'FolderImages | None' = None,
) -> 'FolderImages':
  """Inspects the images of a folder, and returns them.

  Each image is decoded once, and again only if it has changed. The index is
  written by `FolderImages.prepare`, or earlier if the inspection takes long.

  Args:
    listing: The result of `folder.scan` or `folder.scan_unlabelled`.
    data_dir: The folder for the index; TFDS's default if None.
    max_bad_files: Maximum number of images that are left out because they
      cannot be decoded.
    channels: Channels to which all images are converted, 1 or 3; 0: 1 if all
      images are grey, otherwise 3.
    labelled: The labelled folder that unlabelled images add to. Images with
      the same bytes as one of its files are left out, and 16-bit values are
      read in the same range.

  Raises:
    UsageError: more images are bad, or too few are left.
  """
  for note in listing.notes:
    progress.log(note)
  index = folder_index.Index(
    listing, data_dir or str(tfds.core.constants.DATA_DIR)
  )
  entries = index.update()
  kept = _select(listing, entries, max_bad_files, labelled)
  used = [
    entries[path].inspection for files in kept.values() for path, _, _ in files
  ]
  folder_checks.log_frames(listing.root, used)
  return FolderImages(
    listing,
    index,
    kept,
    channels=channels or (1 if all(image.grey for image in used) else 3),
    bits=folder_checks.find_bits(
      listing.root,
      used,
      labelled.root if labelled else '',
      labelled.bits if labelled else 0,
    ),
  )


def _select(
  listing: folder_tree.Listing,
  entries: Mapping[str, folder_index.Entry],
  max_bad_files: int,
  labelled: 'FolderImages | None',
) -> folder_checks.Kept:
  """Returns the images to use: neither bad, nor in the labelled folder."""
  bad = {
    path: entries[path].inspection.reason
    for files in listing.splits.values()
    for path, _ in files
    if entries[path].inspection.reason
  }
  folder_checks.report_bad_images(listing.root, bad, max_bad_files)
  digests = labelled.digests if labelled else frozenset()
  kept = {
    split: tuple(
      (path, label, entries[path].inspection.sha256)
      for path, label in files
      if path not in bad and entries[path].inspection.sha256 not in digests
    )
    for split, files in listing.splits.items()
  }
  folder_checks.check_kept(listing, kept, len(listing.statuses) - len(bad))
  for warning in folder_checks.find_duplicates(listing, kept):
    progress.log(warning)
  return kept


class FolderImages:
  """The images of a folder that can be used.

  Attributes:
    label_names: Names of the classes, in the order of the labels.
    root: The folder.
    shape: Height, width and channels of all images; None where they differ.
    dtype: Of the decoded images.
    bits: How many of 16 bits the values use; 0 if no image has 16 bits.
    split_names: The splits.
  """

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    listing: folder_tree.Listing,
    index: folder_index.Index,
    files: folder_checks.Kept,
    *,
    channels: int,
    bits: int,
  ):
    """Reads no image.

    Args:
      listing: All files of the folder.
      index: What is known of them.
      files: Those that are used.
      channels: Channels of the images, 1 or 3.
      bits: As of the attribute.
    """
    self.label_names = list(listing.classes)
    self.root = listing.root
    self.shape: tuple[None, None, int] = (None, None, channels)
    self.bits = bits
    self.split_names = tuple(files)
    self._index = index
    self._files = files

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest of the names and bytes of the images, but not of the root."""
    content = hashlib.sha256()
    for split, files in self._files.items():
      for path, label, digest in files:
        line = f'{split}\0{label}\0{path}\0{digest}\n'
        content.update(os.fsencode(line))
    return f'{content.hexdigest()}-{self.shape[-1]}-{self.bits}'

  @property
  def digests(self) -> frozenset[str]:
    """The SHA-256 of each image's bytes."""
    return frozenset(
      digest for files in self._files.values() for _, _, digest in files
    )

  @property
  def has_validation(self) -> bool:
    """Whether there is a validation split."""
    return folder_names.VALIDATION in self._files

  def prepare(self) -> str:
    """Writes the index if it is not up to date; returns its path.

    Raises:
      UsageError: it cannot be written.
    """
    self._index.save()
    return self._index.path

  def count(self, split: str) -> int:
    """Returns the number of images in a split or part, in TFDS's syntax.

    Raises:
      ValueError: there is no such split.
    """
    return len(self._select(split))

  def open(self, split: str) -> 'FolderStore':
    """Returns the images of a split or part, in TFDS's syntax.

    Raises:
      ValueError: there is no such split.
    """
    return FolderStore(
      self.root,
      self._index,
      self._select(split),
      self.label_names,
      channels=self.shape[-1],
      bits=self.bits,
    )

  def _select(self, split):
    splits = {
      name: tfds.core.SplitInfo(
        name=name, shard_lengths=[len(files)], num_bytes=0
      )
      for name, files in self._files.items()
    }
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits)
    return [
      file
      for part in parts
      for file in self._files[part.splitname][part.from_ : part.to]
    ]


class FolderStore(stores.Store):
  """Images in the files of a folder; their labels are known without reading.

  A record is the label, and what `image_files.for_tensorflow` makes of the
  file's bytes.
  """

  def __init__(
    self,
    root: str,
    index: folder_index.Index,
    files: list[tuple[str, str, str]],
    label_names: list[str],
    *,
    channels: int,
    bits: int,
  ):
    """Reads no image yet.

    Args:
      root: The folder.
      index: What is known of its files.
      files: Path below the root, class and SHA-256 of each image, in order.
      label_names: Names of the classes, in the order of the labels.
      channels: Channels of the images, 1 or 3.
      bits: How many of 16 bits the values use.
    """
    numbers = {name: number for number, name in enumerate(label_names)}
    self._root = root
    self._index = index
    self._paths = [path for path, _, _ in files]
    self._labels = np.array([numbers[name] for _, name, _ in files], np.int64)
    self._channels = channels
    self._bits = bits

  def __len__(self) -> int:
    return len(self._paths)

  def read(self, positions: list[int]) -> list[bytes]:
    return [self._read(position) for position in positions]

  def _read(self, position):
    path = os.path.join(self._root, self._paths[position])
    entry = self._index.entries[self._paths[position]]
    try:
      content, status = image_files.read(path)
    except OSError as error:
      raise _changed_error(path, error.strerror or str(error)) from error
    if status != entry.status and (
      image_files.sha256(content) != entry.inspection.sha256
    ):
      raise _changed_error(path, 'it has other bytes')
    label = int(self._labels[position]).to_bytes(_LABEL_BYTES, 'little')
    return label + image_files.for_tensorflow(
      content, entry.inspection, channels=self._channels, bits=self._bits
    )

  def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    label = tf.strings.substr(record, 0, _LABEL_BYTES)
    (label,) = tf.unstack(
      tf.ensure_shape(tf.io.decode_raw(label, tf.int32), [1])
    )
    image = tf.strings.substr(record, _LABEL_BYTES, -1)
    return image, tf.cast(label, tf.int64)

  def labels(self, positions: np.ndarray) -> np.ndarray:
    return self._labels[positions]

  def digest(self, positions: np.ndarray) -> str:
    """Returns a SHA-256 of images and labels; reads no image."""
    content = hashlib.sha256(f'{self._channels} {self._bits}\n'.encode())
    for position in positions:
      entry = self._index.entries[self._paths[position]]
      line = f'{self._labels[position]} {entry.inspection.sha256}\n'
      content.update(line.encode())
    return content.hexdigest()


def _changed_error(path, reason):
  return errors.TrainingError(
    f'{messages.printable(path)} has changed since the folder was looked at '
    f'({reason}): restore it and give the same command again, or begin with '
    'the changed folder in another --workdir'
  )
