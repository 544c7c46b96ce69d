"""Reads the file names in a folder of images; decodes no image."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping

from ft_tf import errors
from ft_tf.data import folder_names, image_files, messages, progress


@dataclasses.dataclass(frozen=True)
class Listing:
  """The images in a folder, by file names and file status only.

  Attributes:
    root: The folder.
    classes: Names of the class folders, sorted.
    splits: For each split, (path below the root, class) of its files, sorted by
      path. The splits are 'train' and 'test', and 'validation' if there is such
      a folder.
    labelled: Whether the classes are labels.
    statuses: The status of each file by its path; None of a broken link.
    notes: Messages for the user, one line each.
  """

  root: str
  classes: tuple[str, ...]
  splits: dict[str, tuple[tuple[str, str], ...]]
  labelled: bool
  statuses: Mapping[str, image_files.Status | None]
  notes: tuple[str, ...]


class Tree:
  """Reads the names in a folder, and records the names that it skips."""

  def __init__(self, root: str):
    self.root = root
    self._ignored: list[str] = []  # hidden or system names
    self._not_images: list[str] = []  # files without a known image format
    self._outside: list[str] = []  # names outside the splits
    # Broken links, and links to a folder that contains them.
    self._links: list[str] = []
    self._statuses: dict[str, image_files.Status | None] = {}  # of images
    self._entries: dict[str, tuple[list[str], list[str]]] = {}
    self._progress = progress.Progress(f'{messages.printable(root)}: listed')

  def entries(self, parent: str) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and images directly in a folder, sorted.

    Each folder is read once, so that skipped names are recorded once.

    Args:
      parent: A path below the root; '' is the root.

    Raises:
      UsageError: the folder cannot be read.
    """
    if parent not in self._entries:
      self._entries[parent] = self._read_entries(parent)
    return self._entries[parent]

  def _read_entries(self, parent: str) -> tuple[list[str], list[str]]:
    try:
      with os.scandir(os.path.join(self.root, parent)) as entries:
        in_order = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
      raise errors.UsageError(
        'cannot read the folder '
        f'{messages.printable(os.path.join(self.root, parent))} '
        f'({error.strerror}): make it readable, or remove it'
      ) from error
    folders, images = [], []
    for entry in in_order:
      path = os.path.join(parent, entry.name)
      try:
        status, is_folder = entry.stat(), entry.is_dir()
      except OSError:  # a broken link
        status, is_folder = None, False
      if folder_names.is_ignored(entry.name):
        self._ignored.append(path)
      elif is_folder and status and self._contains(status, parent):
        self._links.append(path)
      elif is_folder:
        folders.append(entry.name)
      elif image_files.is_image(entry.path):
        images.append(entry.name)
        self._statuses[path] = status and image_files.status_of(status)
        self._progress.step()
      elif status is None:
        self._links.append(path)
      else:
        self._not_images.append(path)
    return folders, images

  def _contains(self, status: os.stat_result, path: str) -> bool:
    """Returns whether a folder, by its status, is or contains a path.

    A link to such a folder would be followed for ever.
    """
    while True:
      if os.path.samestat(status, os.stat(os.path.join(self.root, path))):
        return True
      if not path:
        return False
      path = os.path.dirname(path)

  def images(self, parent: str) -> list[str]:
    """Returns all images below a folder, as sorted paths below the root."""
    paths, unread = [], [parent]
    while unread:
      folder = unread.pop()
      subfolders, images = self.entries(folder)
      paths += [os.path.join(folder, name) for name in images]
      unread += [os.path.join(folder, name) for name in subfolders]
    return sorted(paths)

  def leave_out(self, path: str) -> None:
    """Records a folder or file that belongs to no split."""
    self._outside.append(path)

  def bad_links(self, parent: str) -> list[str]:
    """Returns the broken and looping links directly in a folder."""
    return [path for path in self._links if os.path.dirname(path) == parent]

  def describe_other_files(self, parent: str) -> str:
    """Returns ' (it has 3 .txt)', the files below a folder that are no images.

    Returns '' if there are none.
    """
    prefix = os.path.join(parent, '')
    names = [path for path in self._not_images if path.startswith(prefix)]
    return f' (it has {_count_by_suffix(names)})' if names else ''

  def make_listing(
    self,
    classes: tuple[str, ...],
    images: Mapping[str, Mapping[str, Iterable[str]]],
    notes: list[str],
    *,
    labelled: bool = True,
  ) -> Listing:
    """Returns the listing of images.

    Args:
      classes: Names of the class folders.
      images: Paths below the root, by split and class.
      notes: Messages for the user; notes on skipped names are added to them.
      labelled: Whether the classes are labels.
    """
    splits = {
      split: tuple(
        sorted(
          (path, label) for label, paths in by_class.items() for path in paths
        )
      )
      for split, by_class in images.items()
    }
    return Listing(
      self.root,
      classes,
      splits,
      labelled,
      {
        path: self._statuses[path]
        for part in splits.values()
        for path, _ in part
      },
      (*notes, *self._note_skipped()),
    )

  def _note_skipped(self) -> Iterable[str]:
    """Yields a note for each kind of skipped name."""
    if self._not_images:
      yield (
        f'{messages.printable(self.root)}: skipped '
        f'{messages.count(len(self._not_images), "file")} without a known '
        'image format: '
        f'{_count_by_suffix(self._not_images)}; the first: '
        f'{messages.abbreviate(self._not_images)}'
      )
    for kind, names in (
      ('hidden or system names', self._ignored),
      ('names outside the splits', self._outside),
      ('broken or looping links', self._links),
    ):
      if names:
        yield (
          f'{messages.printable(self.root)}: skipped {kind} ({len(names)}): '
          f'{messages.abbreviate(names)}'
        )


def _count_by_suffix(names: Iterable[str]) -> str:
  """Returns '3 .txt, 2 .heic (convert .heic to JPEG)', most frequent first."""
  counts = collections.Counter(
    os.path.splitext(name)[1].lower() or 'without a suffix' for name in names
  )
  heif = [suffix for suffix in image_files.HEIF_SUFFIXES if suffix in counts]
  return ', '.join(
    f'{count} {messages.printable(suffix)}'
    for suffix, count in counts.most_common()
  ) + (f' (convert {", ".join(heif)} to JPEG)' if heif else '')
