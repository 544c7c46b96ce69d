"""A folder of images as a TFDS data set; each image is inspected once."""

import dataclasses
import functools
import hashlib
import os
import time
import warnings
from collections.abc import Mapping

import tensorflow_datasets as tfds

from ft_tf import errors, run_dir
from ft_tf.data import folder_checks, folder_tree, image_files, messages

NAME = 'folder'  # the TFDS name of all folders
_INSPECTIONS = 'images.json'
# The version of prepared data sets: a new one prepares all folders again.
_VERSION = '2.0.0'
# A file may change twice within one tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


def make_builder(
  listing: folder_tree.Listing,
  *,
  data_dir: str | None = None,
  max_bad_files: int = 0,
  channels: int = 0,
  labelled: tfds.core.DatasetBuilder | None = None,
) -> tfds.core.DatasetBuilder:
  """Inspects the images of a folder; returns its TFDS builder.

  Each image is decoded once, and again only if the folder has changed. The
  builder prepares a data set with random access. This function writes nothing.

  Args:
    listing: The result of `folder.scan` or `folder.scan_unlabelled`.
    data_dir: The TFDS folder for the prepared data set; TFDS's default if None.
    max_bad_files: Maximum number of images that are left out because they
      cannot be decoded.
    channels: Channels to which all images are converted, 1 or 3; 0: 1 if all
      images are grey, otherwise 3.
    labelled: The builder of the labelled folder that unlabelled images add to.
      Images with the same bytes as one of its files are left out, and 16-bit
      values are read in the same range.

  Raises:
    UsageError: more images are bad, or too few are left.
  """
  for note in listing.notes:
    folder_checks.log(note)
  data_dir = data_dir or str(tfds.core.constants.DATA_DIR)
  # The cache of inspections: images.json in a folder that is named after the
  # listing's digest. A changed file changes the digest, and so the folder.
  cache = run_dir.RunDir(
    os.path.join(data_dir, NAME, f'{_VERSION}-{listing.digest[:32]}')
  )
  cached, started = cache.read(_INSPECTIONS), time.time_ns()
  if cached is None:
    inspections = folder_checks.inspect_all(listing)
  else:
    inspections = {
      path: image_files.Inspection(*values)
      for path, values in cached['images'].items()
    }
  labelled_config: _Config | None = (
    labelled.builder_config if labelled else None
  )
  kept = _select(listing, inspections, max_bad_files, labelled_config)
  used = [inspections[path] for files in kept.values() for path, _, _ in files]
  folder_checks.log_frames(listing.root, used)
  config = _Config(
    name='',
    classes=listing.classes,
    root=listing.root,
    files=kept,
    channels=channels or (1 if all(image.grey for image in used) else 3),
    bits=folder_checks.find_bits(
      listing.root,
      used,
      labelled_config.root if labelled_config else '',
      labelled_config.bits if labelled_config else 0,
    ),
  )
  # A file that changed just before the inspection may change again without a
  # new time stamp, and so without a new digest: such a folder is not cached.
  if cached is None and listing.changed_ns < started - _SETTLED_NS:
    config.cache = cache
    config.inspections = inspections
  config.name = config.fingerprint[:32] + config.fingerprint[64:]
  return FolderImages(
    data_dir=data_dir, config=config, file_format='array_record'
  )


def _select(
  listing: folder_tree.Listing,
  inspections: Mapping[str, image_files.Inspection],
  max_bad_files: int,
  labelled: '_Config | None',
) -> folder_checks.Kept:
  """Returns the images to use: neither bad, nor in the labelled folder."""
  bad = {
    path: image.reason for path, image in inspections.items() if image.reason
  }
  folder_checks.report_bad_images(listing.root, bad, max_bad_files)
  digests = labelled.digests() if labelled else frozenset()
  kept = {
    split: tuple(
      (path, label, inspections[path].sha256)
      for path, label in files
      if path not in bad and inspections[path].sha256 not in digests
    )
    for split, files in listing.splits.items()
  }
  folder_checks.check_kept(listing, kept, len(inspections) - len(bad))
  for warning in folder_checks.find_duplicates(listing, kept):
    folder_checks.log(warning)
  return kept


@dataclasses.dataclass(repr=False)  # The repr would list every file.
class _Config(tfds.core.BuilderConfig):
  """The images of a folder.

  Attributes:
    classes: Names of the classes.
    root: The folder.
    files: The images of each split.
    channels: Channels of the prepared images, 1 or 3.
    bits: How many of 16 bits the values use; 0 if no image has 16 bits.
    inspections: The inspections of all images, if they are not cached yet.
    cache: The folder for these inspections; None if they are not to be cached.
  """

  classes: tuple[str, ...] = ()
  root: str = ''
  files: folder_checks.Kept = dataclasses.field(default_factory=dict)
  channels: int = 3
  bits: int = 0
  inspections: Mapping[str, image_files.Inspection] | None = None
  cache: run_dir.RunDir | None = None

  @functools.cached_property
  def fingerprint(self) -> str:
    """A digest of the names and bytes of the images, but not of the root."""
    content = hashlib.sha256()
    for split, files in self.files.items():
      for path, label, digest in files:
        line = f'{split}\0{label}\0{path}\0{digest}\n'
        content.update(os.fsencode(line))
    return f'{content.hexdigest()}-{self.channels}-{self.bits}'

  def digests(self) -> frozenset[str]:
    """Returns the SHA-256 of each image's bytes."""
    return frozenset(
      digest for files in self.files.values() for _, _, digest in files
    )


class FolderImages(tfds.core.GeneratorBasedBuilder):
  """The TFDS builder of a folder of images, with random access."""

  VERSION = tfds.core.Version(_VERSION)
  name = NAME

  def cache_inspections(self) -> None:
    """Writes the inspections to the cache, unless they are there already.

    Raises:
      OSError: the cache cannot be written.
    """
    config = self.builder_config
    if config.cache is not None:
      os.makedirs(config.cache.path, exist_ok=True)
      images = {
        path: dataclasses.astuple(image)
        for path, image in config.inspections.items()
      }
      config.cache.write(_INSPECTIONS, {'root': config.root, 'images': images})
      config.cache = config.inspections = None

  def _info(self):
    config = self.builder_config
    return tfds.core.DatasetInfo(
      builder=self,
      description='Images of a folder.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, config.channels)),
          'label': tfds.features.ClassLabel(names=list(config.classes)),
          'file': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(files)
      for split, files in self.builder_config.files.items()
    }

  def _generate_examples(self, files):
    config = self.builder_config
    for number, (path, label, digest) in enumerate(files):
      content = image_files.read(os.path.join(config.root, path))
      if image_files.sha256(content) != digest:
        raise errors.UsageError(
          f'{messages.printable(os.path.join(config.root, path))} has changed '
          'while the folder was read: run the same command again when no other '
          'program writes to the folder'
        )
      with warnings.catch_warnings(action='ignore'):
        image = image_files.encode(
          content, channels=config.channels, bits=config.bits
        )
      # The name as bytes, because it may not be UTF-8.
      yield number, {'image': image, 'label': label, 'file': os.fsencode(path)}
