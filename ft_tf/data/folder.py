"""What lies in a folder of images: classes, splits, and what is left out."""

import collections
import dataclasses
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from ft_tf import errors, paths
from ft_tf.data import image_files

PREFIX = 'folder:'
UNLABELLED = 'unlabeled:'
_ORDER = TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'
# Of images without a test folder: one in five of each class is tested on.
_TEST_EVERY = 5
NAMED = 3  # of the files that a line is about
_LAYOUT = 'arrange them as train/<class>/<image> and test/<class>/<image>'

# What the first word of a folder's name says that it holds.
_UNCLEAR = 'unclear'
_PARTS = {
  **dict.fromkeys(('train', 'training', 'trn'), TRAIN),
  **dict.fromkeys(
    ('val', 'valid', 'validate', 'validation', 'dev'), VALIDATION
  ),
  **dict.fromkeys(('test', 'testing', 'tst'), TEST),
  **dict.fromkeys(('eval', 'evaluation', 'holdout'), _UNCLEAR),
  **dict.fromkeys(('unlabeled', 'unlabelled'), 'unlabeled'),
}
_FILLERS = 'set|data|dataset|split|images?|imgs?|pictures|photos'
# Of file servers, operating systems and tools; names with a dot in front are
# hidden ones anyway. In lower case.
_SYSTEM = {
  '#recycle',
  '#snapshot',
  '$recycle.bin',
  '@eadir',
  '@recently-snapshot',
  '@recycle',
  '@sharebin',
  '@tmp',
  '__macosx',
  '__pycache__',
  'desktop.ini',
  'ehthumbs.db',
  'ehthumbs_vista.db',
  'icon\r',
  'lost+found',
  'network trash folder',
  'recycler',
  'system volume information',
  'temporary items',
  'thevolumesettingsfolder',
  'thumbs.db',
}
_BROKEN_NAMES = {'Cc', 'Cs', 'Zl', 'Zp'}  # categories of Unicode


@dataclasses.dataclass(frozen=True)
class Listing:
  """What lies in a folder, by its names alone.

  Attributes:
    root: The folder.
    classes: Names of the class folders, sorted.
    splits: Split to its files, paths below the root, sorted, each with its
      class: 'train' and 'test', 'validation' where there is such a folder.
    digest: Of where the files are, their names, sizes, times and numbers on
      their disk: another if any changed.
    changed_ns: When the last of the files changed.
    notes: What a user is told, a line each.
  """

  root: str
  classes: tuple[str, ...]
  splits: dict[str, tuple[tuple[str, str], ...]]
  digest: str
  changed_ns: int
  notes: tuple[str, ...]


def scan(root: str) -> Listing:
  """Returns what lies in a folder of labelled images.

  Hidden and system files and folders are left out, at any depth.

  Args:
    root: With `train/<class>/<image>` and `test/<class>/<image>`, perhaps
      `val/<class>/<image>`, under the usual names in any case; without a test
      folder, or with the class folders in the root itself, every fifth image of
      each class, in an order that depends on its name alone, is for testing.

  Raises:
    UsageError: there is no such folder, or its layout has more than one
      meaning.
  """
  root = _absolute(root, f'--dataset={PREFIX}PATH')
  tree = _Tree(root)
  parts = _part_folders(tree)
  found = {
    part: _class_images(tree, name)
    for part, name in (parts or {TRAIN: ''}).items()
  }
  train, root = found[TRAIN], shown(root)
  _check_names(root, train)
  if len(train) < 2:
    (name,) = train
    raise errors.UsageError(
      f'{root} has one class, {shown(name)}: a classifier needs two or more '
      'folders of images'
      + (
        f'; if the classes are in it, give {PREFIX}{root}/{shown(name)}'
        if not parts and len(tree.entries(name)[0]) > 1
        else ''
      )
    )
  for part, name in parts.items():
    strange = sorted(found[part].keys() - train.keys())
    if strange:
      raise errors.UsageError(
        f'{root}/{shown(name)} has classes that {shown(parts[TRAIN])} has not: '
        f'{some(strange)}; name the folders alike'
      )
  if TEST not in found:
    found |= _cut(train)
  if not any(found[TEST].values()):
    raise errors.UsageError(
      f'{root} has no image to test on: add test/<class>/<image>, or give each '
      f'class {_TEST_EVERY} images or more'
    )
  notes = [_layout_note(root, parts), *_similar(root, train)]
  if not parts:
    notes += _same_inside(tree, train)
  untested = [name for name in train if not found[TEST].get(name)]
  if untested:
    notes.append(f'{root}: no image to test on of {some(untested)}')
  return tree.listing(tuple(sorted(train)), found, notes)


def scan_unlabelled(root: str) -> Listing:
  """Returns all images in a folder and those within it, as one class.

  Raises:
    UsageError: there is no such folder, or no image in it.
  """
  root = _absolute(root, '--unlabeled=PATH')
  tree = _Tree(root)
  images = tree.images('')
  if not images:
    raise errors.UsageError(
      f'{root} has no image that can be read: --unlabeled takes a folder with '
      f'images, at any depth{tree.others("")}'
    )
  return tree.listing(('unlabelled',), {TRAIN: {'unlabelled': images}}, [])


def shown(name: str) -> str:
  """Returns a name for a line of text: unprintable characters as escapes."""
  return ''.join(
    c
    if c.isprintable()
    else os.fsencode(c).decode('ascii', 'backslashreplace')
    if '\udc80' <= c <= '\udcff'  # a byte that is not UTF-8
    else c.encode('unicode_escape').decode()
    for c in name
  )


def counted(number: int, noun: str) -> str:
  """Returns '1 image' or '2 images'."""
  return f'{number} {noun}' + 's' * (number != 1)


def some(names: Sequence[str]) -> str:
  """Returns the first of some names, and how many more there are."""
  more = len(names) - NAMED
  return ', '.join(map(shown, names[:NAMED])) + (
    f' and {more} more' if more > 0 else ''
  )


def _absolute(root: str, flag: str) -> str:
  """Returns the path of a folder that is there."""
  if not root.strip():
    raise errors.UsageError(f'give {flag}, with the path of a folder of images')
  root = os.path.abspath(paths.expand(root))
  if not os.path.isdir(root):
    raise errors.UsageError(
      f'{shown(root)} is a file: {flag} takes a folder of images'
      if os.path.exists(root)
      else f'there is no folder {shown(root)}: {flag} takes one with images'
    )
  return root


class _Tree:
  """Reads the names in a folder, and remembers what it leaves out."""

  def __init__(self, root: str):
    self.root = root
    self._ignored: list[str] = []  # hidden or of the system
    self._others: list[str] = []  # files that are not images
    self._beside: list[str] = []  # of no split, as `leave_out` was told
    self._links: list[str] = []  # to nothing, or to a folder around them
    self._stamps: dict[str, str] = {}  # of images: size, times and the like
    self._changed_ns = 0
    self._read: dict[str, tuple[list[str], list[str]]] = {}

  def entries(self, part: str) -> tuple[list[str], list[str]]:
    """Returns the folders and the images directly in a part, sorted.

    Args:
      part: A path below the root; '' is the root.
    """
    if part not in self._read:
      self._read[part] = self._entries(part)
    return self._read[part]

  def _entries(self, part: str) -> tuple[list[str], list[str]]:
    try:
      with os.scandir(os.path.join(self.root, part)) as entries:
        in_order = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
      raise errors.UsageError(
        f'cannot read the folder {shown(os.path.join(self.root, part))} '
        f'({error.strerror}): make it readable, or remove it'
      ) from error
    folders, images = [], []
    for entry in in_order:
      path = os.path.join(part, entry.name)
      try:
        status, folder = entry.stat(), entry.is_dir()
      except OSError:
        status, folder = None, False
      if _is_ignored(entry.name):
        self._ignored.append(path)
      elif folder and status and self._surrounds(status, part):
        self._links.append(path)
      elif folder:
        folders.append(entry.name)
      elif image_files.is_image(entry.path):
        images.append(entry.name)
        self._stamp(path, status)
      elif status is None:
        self._links.append(path)
      else:
        self._others.append(path)
    return folders, images

  def _stamp(self, path: str, status: os.stat_result | None) -> None:
    self._stamps[path] = 'broken link'
    if status is not None:
      self._stamps[path] = (
        f'{status.st_dev} {status.st_ino} {status.st_size} '
        f'{status.st_mtime_ns} {status.st_ctime_ns}'
      )
      self._changed_ns = max(self._changed_ns, status.st_ctime_ns)

  def _surrounds(self, status: os.stat_result, part: str) -> bool:
    """Tells whether a folder is the part, or one that the part is in."""
    while True:
      if os.path.samestat(status, os.stat(os.path.join(self.root, part))):
        return True
      if not part:
        return False
      part = os.path.dirname(part)

  def images(self, part: str) -> list[str]:
    """Returns all images below a part, as sorted paths below the root."""
    found, parts = [], [part]
    while parts:
      part = parts.pop()
      folders, images = self.entries(part)
      found += [os.path.join(part, name) for name in images]
      parts += [os.path.join(part, name) for name in folders]
    return sorted(found)

  def leave_out(self, path: str) -> None:
    """Notes a folder or file that is in no split."""
    self._beside.append(path)

  def links(self, part: str) -> list[str]:
    """Returns the links directly in a part that lead to no folder of theirs."""
    return [path for path in self._links if os.path.dirname(path) == part]

  def others(self, part: str) -> str:
    """Returns ' (it has 3 .txt)', the files below a part that are no images."""
    above = os.path.join(part, '')
    names = [path for path in self._others if path.startswith(above)]
    return f' (it has {_by_suffix(names)})' if names else ''

  def listing(
    self,
    classes: tuple[str, ...],
    images: Mapping[str, Mapping[str, Iterable[str]]],
    notes: list[str],
  ) -> Listing:
    """Returns the listing of split to class to its images."""
    splits = {
      part: tuple(sorted((p, label) for label in of for p in of[label]))
      for part, of in images.items()
    }
    lines = [os.path.realpath(self.root)]
    for part, files in splits.items():
      for path, label in files:
        lines.append(f'{part}\0{label}\0{path}\0{self._stamps[path]}')
    return Listing(
      self.root,
      classes,
      splits,
      hashlib.sha256(os.fsencode('\n'.join(lines))).hexdigest(),
      self._changed_ns,
      (*notes, *self._left_out()),
    )

  def _left_out(self) -> Iterable[str]:
    """Yields a line for each kind of what is left out."""
    if self._others:
      yield (
        f'{shown(self.root)}: skipped '
        f'{counted(len(self._others), "file")} without a known image format: '
        f'{_by_suffix(self._others)}; the first: {some(self._others)}'
      )
    for what, names in (
      ('hidden or system names', self._ignored),
      ('names outside the splits', self._beside),
      ('broken or looping links', self._links),
    ):
      if names:
        yield (
          f'{shown(self.root)}: skipped {what} ({len(names)}): {some(names)}'
        )


def _is_ignored(name: str) -> bool:
  lower = name.lower()
  return lower.startswith('.') or '@syno' in lower or lower in _SYSTEM


def _by_suffix(names: Iterable[str]) -> str:
  """Returns '3 .txt, 2 .heic (convert these to JPEG)', the most first."""
  counts = collections.Counter(
    os.path.splitext(name)[1].lower() or 'without a suffix' for name in names
  )
  heif = [each for each in image_files.HEIF_SUFFIXES if each in counts]
  return ', '.join(
    f'{count} {shown(suffix)}' for suffix, count in counts.most_common()
  ) + (f' (convert {", ".join(heif)} to JPEG)' if heif else '')


def part_of(name: str) -> str:
  """Returns the split that a folder's name means; '' if it means none.

  'Train', 'training_set', 'train-images' and 'train2017' mean 'train'.
  """
  words = _words(name.lower())
  return _PARTS.get(words[0], '') if len(words) == 1 else ''


def _words(name: str) -> list[str]:
  """Returns the words of a name, without those that say no split."""
  words = re.findall('[^\\W\\d_]+', name)
  words = [re.sub(f'({_FILLERS})+$', '', word.lower()) for word in words]
  return [word for word in words if word]


def _check_no_splits(where: str, classes: Iterable[str]) -> None:
  """Raises `UsageError` if folders of classes look like splits in part.

  'flowers_train' beside 'flowers_test' does; 'train station' alone does not.
  """
  like: dict[str | None, str] = {}
  for name in classes:
    apart = re.sub('(?<=[a-z])(?=[A-Z])', ' ', name)  # TrainFlowers
    for word in _words(apart):
      like.setdefault(_PARTS.get(word), name)
  test = like.get(TEST) or like.get(VALIDATION) or like.get(_UNCLEAR)
  if TRAIN in like and test:
    raise errors.UsageError(
      f'{where} has {shown(like[TRAIN])}/ and {shown(test)}/, which look like '
      'splits: rename them to train and test (class folders: move them to '
      'train/)'
    )


def _same_inside(tree: _Tree, classes: Iterable[str]) -> Iterable[str]:
  """Yields a line if all class folders have the same folders in them."""
  first, *others = ([*tree.entries(name)[0]] for name in classes)
  if len(first) > 1 and all(inside == first for inside in others):
    yield (
      f'{shown(tree.root)}: warning: all class folders have the same folders '
      f'in them ({some(first)}): if these are the classes, and the folders '
      'around them splits, rename those to train and test'
    )


def _part_folders(tree: _Tree) -> dict[str, str]:
  """Returns split to folder; empty if the root has class folders instead."""
  root = shown(tree.root)
  folders, images = tree.entries('')
  found: dict[str, str] = {}
  for name in folders:
    part = part_of(name)
    if part == _UNCLEAR:
      raise errors.UsageError(
        f'{root}: {shown(name)}/ can be for validation or for testing: rename '
        'it to val or test (a class folder: move it to train/)'
      )
    if part in found:
      raise errors.UsageError(
        f'{root} has two folders of the {part} split, {shown(found[part])}/ '
        f'and {shown(name)}/: keep one (class folders: move them to train/)'
      )
    if part:
      found[part] = name
  _check_links(tree, [link for link in tree.links('') if part_of(link)])
  if not found:
    return {}
  unlabelled = found.pop('unlabeled', '')
  beside = [name for name in folders if name not in found.values()]
  for name in beside:
    if name != unlabelled and tree.images(name):
      first = next(iter(found.values()), unlabelled)
      raise errors.UsageError(
        f'{root} has {shown(first)}/, which is the name of a split, beside '
        f'{shown(name)}/, which is none: move class folders to train/, and '
        'other folders elsewhere'
      )
  if TRAIN not in found:
    raise errors.UsageError(
      f'{root} has {shown(next(iter(found.values()), unlabelled))}/ and no '
      f'train/: {_LAYOUT}'
    )
  for name in (*beside, *images):
    tree.leave_out(name)
  return {part: found[part] for part in _ORDER if part in found}


def _check_links(tree: _Tree, links: list[str]) -> None:
  """Raises `UsageError` if there are links where folders are looked for."""
  if links:
    raise errors.UsageError(
      f'{shown(os.path.join(tree.root, links[0]))} is a broken link, or '
      'leads to a folder around it: fix or remove it'
    )


def _class_images(tree: _Tree, part: str) -> dict[str, list[str]]:
  """Returns the images of each class folder of a part.

  Raises:
    UsageError: there are none, or something beside them may be meant to be one.
  """
  where = shown(os.path.join(tree.root, part)).rstrip(os.sep)
  folders, images = tree.entries(part)
  if images and folders:
    raise errors.UsageError(
      f'{where} has images, {some(images)}, beside class folders, '
      f'{some(folders)}: move them into a class folder, or elsewhere'
    )
  if images:
    raise errors.UsageError(
      f'{where} has images without class folders, {some(images)}: {_LAYOUT}'
    )
  _check_links(tree, tree.links(part))
  _check_no_splits(where, folders)
  found = {name: tree.images(os.path.join(part, name)) for name in folders}
  if not any(found.values()):
    raise errors.UsageError(
      f'{where} has no class folder with images: {_LAYOUT}{tree.others(part)}'
    )
  for name, files in found.items():
    if not files:
      raise errors.UsageError(
        f'{where}/{shown(name)} has no image that can be read'
        f'{tree.others(os.path.join(part, name))}: add images, or remove it'
      )
    above = len(os.path.join(part, name).split(os.sep))
    inner = {p for each in files for p in each.split(os.sep)[above:-1]}
    splits = sorted(p for p in inner if part_of(p) in _ORDER)
    if splits:
      raise errors.UsageError(
        f'{where}/{shown(name)} is a class folder with {shown(splits[0])}/, '
        f'the name of a split, in it: {_LAYOUT}'
        + (
          f'; if it is the data set, give {PREFIX}{where}/{shown(name)}'
          if not part
          else ''
        )
      )
  return found


def _check_names(root: str, classes: Iterable[str]) -> None:
  """Raises `UsageError` if a class's name does not make a line of text."""
  for name in classes:
    if name != name.strip() or any(
      unicodedata.category(c) in _BROKEN_NAMES for c in name
    ):
      raise errors.UsageError(
        f"{root}: the class folder '{shown(name)}' has a line break, a "
        'control character, bytes that are not UTF-8 or a space at an end of '
        'its name, which labels.txt cannot hold: rename it'
      )


def _similar(root: str, classes: Iterable[str]) -> Iterable[str]:
  """Yields a line if names of classes differ by case or normalisation alone."""
  alike = collections.defaultdict(list)
  for name in classes:
    alike[unicodedata.normalize('NFC', name).casefold()].append(name)
  groups = [
    ' and '.join(f"'{shown(each)}'" for each in names)
    for names in alike.values()
    if len(names) > 1
  ]
  if groups:
    yield (
      f'{root}: classes whose names differ only in case or in Unicode '
      f'form: {"; ".join(groups[:NAMED])}; each is a class of its own'
    )


def _layout_note(root: str, parts: Mapping[str, str]) -> str:
  """Returns which folder was taken for what."""
  taken = [
    f'{shown(name)}/ is the {part} split'
    + ', instead of --validation_examples' * (part == VALIDATION)
    for part, name in parts.items()
  ]
  if TEST not in parts:
    taken.append(
      'there is no test folder: every fifth image of each class '
      + (f'in {shown(parts[TRAIN])}/ ' if parts else '')
      + 'is the test split (a teacher trained on these images measures too high'
      + (
        f'; --test_split={VALIDATION} measures on {shown(parts[VALIDATION])}/)'
        if VALIDATION in parts
        else ')'
      )
    )
  return f'{root}: {"; ".join(taken)}'


def _cut(files: Mapping[str, list[str]]) -> dict[str, dict[str, list[str]]]:
  """Returns train and test of images that are not apart yet."""
  parts: dict[str, dict[str, list[str]]] = {TRAIN: {}, TEST: {}}
  for name, its in files.items():
    order = sorted(its, key=lambda p: hashlib.sha256(os.fsencode(p)).digest())
    parts[TEST][name] = order[_TEST_EVERY - 1 :: _TEST_EVERY]
    parts[TRAIN][name] = sorted({*its} - {*parts[TEST][name]})
  return parts
