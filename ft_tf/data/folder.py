"""The layout of a folder of images: its splits, classes and files."""

import hashlib
import os
from collections.abc import Iterable, Mapping

from ft_tf import errors, paths
from ft_tf.data import folder_names, folder_tree, messages

PREFIX = 'folder:'
UNLABELLED = 'unlabeled:'
TRAIN = folder_names.TRAIN
VALIDATION = folder_names.VALIDATION
TEST = folder_names.TEST
# Without a test folder, one in five images of each class is a test image.
_TEST_EVERY = 5
_LAYOUT = 'arrange them as train/<class>/<image> and test/<class>/<image>'


def scan(root: str) -> folder_tree.Listing:
  """Returns the images in a folder of labelled images, by split and class.

  Hidden and system files and folders are skipped, at any depth.

  Args:
    root: A folder with `train/<class>/<image>` and `test/<class>/<image>`, and
      optionally `val/<class>/<image>`; the usual names of splits are accepted,
      in upper and lower case. Without a test folder, or with the class folders
      directly in the root, every fifth image of each class becomes a test
      image. Which images these are depends only on their names.

  Raises:
    UsageError: there is no such folder, or its layout is ambiguous.
  """
  root = _absolute(root, f'--dataset={PREFIX}PATH')
  tree = folder_tree.Tree(root)
  split_folders = _find_split_folders(tree)
  images = {
    split: _class_images(tree, name)
    for split, name in (split_folders or {TRAIN: ''}).items()
  }
  train, root = images[TRAIN], messages.printable(root)
  folder_names.check_class_names(root, train)
  if len(train) < 2:
    (name,) = train
    raise errors.UsageError(
      f'{root} has one class, {messages.printable(name)}: a classifier needs '
      'two or more folders of images'
      + (
        '; if this folder contains the classes, give '
        f'{PREFIX}{root}/{messages.printable(name)}'
        if not split_folders and len(tree.entries(name)[0]) > 1
        else ''
      )
    )
  for split, name in split_folders.items():
    unknown = sorted(images[split].keys() - train.keys())
    if unknown:
      raise errors.UsageError(
        f'{root}/{messages.printable(name)} has classes that '
        f'{messages.printable(split_folders[TRAIN])} does not have: '
        f'{messages.abbreviate(unknown)}; use the same names in both'
      )
  if TEST not in images:
    images |= _split_off_test(train)
  if not any(images[TEST].values()):
    raise errors.UsageError(
      f'{root} has no test images: add test/<class>/<image>, or put at least '
      f'{_TEST_EVERY} images into each class'
    )
  notes = [
    _note_layout(root, split_folders),
    *folder_names.note_similar_names(root, train),
  ]
  if not split_folders:
    notes += _note_equal_subfolders(tree, train)
  untested = [name for name in train if not images[TEST].get(name)]
  if untested:
    notes.append(f'{root}: no test images of {messages.abbreviate(untested)}')
  return tree.make_listing(tuple(sorted(train)), images, notes)


def scan_unlabelled(root: str) -> folder_tree.Listing:
  """Returns all images in a folder, at any depth, as one class.

  Raises:
    UsageError: there is no such folder, or no image in it.
  """
  root = _absolute(root, '--unlabeled=PATH')
  tree = folder_tree.Tree(root)
  images = tree.images('')
  if not images:
    raise errors.UsageError(
      f'{root} has no readable image: --unlabeled takes a folder with images, '
      f'at any depth{tree.describe_other_files("")}'
    )
  return tree.make_listing(
    ('unlabelled',), {TRAIN: {'unlabelled': images}}, [], labelled=False
  )


def _absolute(root: str, flag: str) -> str:
  """Returns the absolute path of a folder.

  Raises:
    UsageError: there is no such folder.
  """
  if not root.strip():
    raise errors.UsageError(f'give {flag}, with the path of a folder of images')
  root = os.path.abspath(paths.expand(root))
  if not os.path.isdir(root):
    raise errors.UsageError(
      f'{messages.printable(root)} is a file: {flag} takes a folder of images'
      if os.path.exists(root)
      else f'there is no folder {messages.printable(root)}: {flag} takes one '
      'with images'
    )
  return root


def _note_equal_subfolders(
  tree: folder_tree.Tree, classes: Iterable[str]
) -> Iterable[str]:
  """Yields a note if all class folders contain the same folders."""
  first, *rest = ([*tree.entries(name)[0]] for name in classes)
  if len(first) > 1 and all(subfolders == first for subfolders in rest):
    yield (
      f'{messages.printable(tree.root)}: warning: all class folders contain '
      f'the same folders ({messages.abbreviate(first)}): if these are the '
      'classes and the outer folders are splits, rename the outer folders to '
      'train and test'
    )


def _find_split_folders(tree: folder_tree.Tree) -> dict[str, str]:
  """Returns the folder of each split; {} if the root has class folders.

  Raises:
    UsageError: it is not clear which folders are splits.
  """
  root = messages.printable(tree.root)
  folders, images = tree.entries('')
  by_split: dict[str, str] = {}
  for name in folders:
    split = folder_names.split_of(name)
    if split == folder_names.UNCLEAR:
      raise errors.UsageError(
        f'{root}: {messages.printable(name)}/ can be for validation or for '
        'testing: rename it to val or test (a class folder: move it to train/)'
      )
    if split in by_split:
      raise errors.UsageError(
        f'{root} has two folders of the {split} split, '
        f'{messages.printable(by_split[split])}/ and '
        f'{messages.printable(name)}/: keep one (class folders: move them to '
        'train/)'
      )
    if split:
      by_split[split] = name
  _check_links(
    tree, [link for link in tree.bad_links('') if folder_names.split_of(link)]
  )
  if not by_split:
    return {}
  unlabelled = by_split.pop(folder_names.UNLABELLED, '')
  first = messages.printable(next(iter(by_split.values()), unlabelled))
  outside = [name for name in folders if name not in by_split.values()]
  for name in outside:
    if name != unlabelled and tree.images(name):
      raise errors.UsageError(
        f'{root} has {first}/, which is the name of a split, and '
        f'{messages.printable(name)}/, which is not: move class folders to '
        'train/, and other folders elsewhere'
      )
  if TRAIN not in by_split:
    raise errors.UsageError(f'{root} has {first}/ and no train/: {_LAYOUT}')
  for name in (*outside, *images):
    tree.leave_out(name)
  return {
    split: by_split[split] for split in folder_names.ORDER if split in by_split
  }


def _check_links(tree: folder_tree.Tree, links: list[str]) -> None:
  """Raises `UsageError` if there are bad links in place of folders."""
  if links:
    raise errors.UsageError(
      f'{messages.printable(os.path.join(tree.root, links[0]))} is a broken '
      'link, or a link to a folder that contains it: fix or remove it'
    )


def _class_images(tree: folder_tree.Tree, parent: str) -> dict[str, list[str]]:
  """Returns the images of each class folder in a folder.

  Args:
    tree: The tree of the data set.
    parent: The folder of a split, below the root; '' is the root.

  Raises:
    UsageError: there are no class folders, or other names among them.
  """
  where = messages.printable(os.path.join(tree.root, parent)).rstrip(os.sep)
  folders, images = tree.entries(parent)
  if images and folders:
    raise errors.UsageError(
      f'{where} has images ({messages.abbreviate(images)}) and class folders '
      f'({messages.abbreviate(folders)}): move the images into a class folder, '
      'or elsewhere'
    )
  if images:
    raise errors.UsageError(
      f'{where} has images without class folders, '
      f'{messages.abbreviate(images)}: {_LAYOUT}'
    )
  _check_links(tree, tree.bad_links(parent))
  folder_names.check_no_splits(where, folders)
  by_class = {name: tree.images(os.path.join(parent, name)) for name in folders}
  if not any(by_class.values()):
    raise errors.UsageError(
      f'{where} has no class folder with images: {_LAYOUT}'
      f'{tree.describe_other_files(parent)}'
    )
  for name, files in by_class.items():
    _check_class_folder(tree, os.path.join(parent, name), files)
  return by_class


def _check_class_folder(
  tree: folder_tree.Tree, path: str, files: list[str]
) -> None:
  """Raises `UsageError` if a class folder is empty or contains splits."""
  where = messages.printable(os.path.join(tree.root, path))
  if not files:
    raise errors.UsageError(
      f'{where} has no readable image{tree.describe_other_files(path)}: add '
      'images, or remove it'
    )
  depth = len(path.split(os.sep))
  subfolders = {name for file in files for name in file.split(os.sep)[depth:-1]}
  splits = sorted(
    name
    for name in subfolders
    if folder_names.split_of(name) in folder_names.ORDER
  )
  if splits:
    raise errors.UsageError(
      f'{where} is a class folder that contains '
      f'{messages.printable(splits[0])}/, the name of a split: {_LAYOUT}'
      + (
        f'; if it is the data set, give {PREFIX}{where}'
        if os.sep not in path
        else ''
      )
    )


def _note_layout(root: str, split_folders: Mapping[str, str]) -> str:
  """Returns a note that names the folder of each split."""
  lines = [
    f'{messages.printable(name)}/ is the {split} split'
    + ', instead of --validation_examples' * (split == VALIDATION)
    for split, name in split_folders.items()
  ]
  if TEST not in split_folders:
    train = messages.printable(split_folders.get(TRAIN, ''))
    validation = messages.printable(split_folders.get(VALIDATION, ''))
    lines.append(
      'there is no test folder: every fifth image of each class '
      + (f'in {train}/ ' if train else '')
      + 'is the test split (the accuracy of a teacher that was trained on '
      'these images is too high'
      + (
        f'; --test_split={VALIDATION} measures on {validation}/)'
        if validation
        else ')'
      )
    )
  return f'{root}: {"; ".join(lines)}'


def _split_off_test(
  by_class: Mapping[str, list[str]],
) -> dict[str, dict[str, list[str]]]:
  """Returns train and test images, by split and class.

  The order of the digests of the paths is random, but the same on every machine
  and after other images are added.
  """
  splits: dict[str, dict[str, list[str]]] = {TRAIN: {}, TEST: {}}
  for name, paths_of_class in by_class.items():
    order = sorted(
      paths_of_class,
      key=lambda path: hashlib.sha256(os.fsencode(path)).digest(),
    )
    splits[TEST][name] = order[_TEST_EVERY - 1 :: _TEST_EVERY]
    splits[TRAIN][name] = sorted({*paths_of_class} - {*splits[TEST][name]})
  return splits
