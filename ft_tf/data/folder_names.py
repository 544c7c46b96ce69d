"""What the names of files and folders mean: splits, classes, system files."""

import collections
import re
import unicodedata
from collections.abc import Iterable

from ft_tf import errors
from ft_tf.data import messages

ORDER = TRAIN, VALIDATION, TEST = 'train', 'validation', 'test'
# The split that a word in a folder's name stands for.
UNCLEAR = 'unclear'
UNLABELLED = 'unlabeled'
_SPLITS = {
  **dict.fromkeys(('train', 'training', 'trn'), TRAIN),
  **dict.fromkeys(
    ('val', 'valid', 'validate', 'validation', 'dev'), VALIDATION
  ),
  **dict.fromkeys(('test', 'testing', 'tst'), TEST),
  **dict.fromkeys(('eval', 'evaluation', 'holdout'), UNCLEAR),
  **dict.fromkeys(('unlabeled', 'unlabelled'), UNLABELLED),
}
# Words that may stand next to a split's name and change nothing.
_FILLERS = 'set|data|dataset|split|images?|imgs?|pictures|photos'
# Files and folders of file servers, operating systems and tools, in lower case.
# Names that begin with a dot are hidden and need no entry.
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
# Unicode categories: control characters, surrogates (bytes that are not UTF-8),
# line and paragraph separators.
_NOT_IN_A_LINE = {'Cc', 'Cs', 'Zl', 'Zp'}


def split_of(name: str) -> str:
  """Returns the split that a folder's name stands for; '' if there is none.

  'Train', 'training_set', 'train-images' and 'train2017' mean 'train'.
  """
  words = _words(name.lower())
  return _SPLITS.get(words[0], '') if len(words) == 1 else ''


def _words(name: str) -> list[str]:
  """Returns the words of a name without fillers such as 'images'."""
  words = re.findall('[^\\W\\d_]+', name)
  words = [re.sub(f'({_FILLERS})+$', '', word.lower()) for word in words]
  return [word for word in words if word]


def check_no_splits(where: str, classes: Iterable[str]) -> None:
  """Raises `UsageError` if the names of class folders contain those of splits.

  'flowers_train' and 'flowers_test' together do; 'train station' alone does
  not.
  """
  name_by_split: dict[str | None, str] = {}
  for name in classes:
    separated = re.sub('(?<=[a-z])(?=[A-Z])', ' ', name)  # TrainFlowers
    for word in _words(separated):
      name_by_split.setdefault(_SPLITS.get(word), name)
  test = (
    name_by_split.get(TEST)
    or name_by_split.get(VALIDATION)
    or name_by_split.get(UNCLEAR)
  )
  if TRAIN in name_by_split and test:
    raise errors.UsageError(
      f'{where} has {messages.printable(name_by_split[TRAIN])}/ and '
      f'{messages.printable(test)}/, which look like splits: rename '
      'them to train and test (class folders: move them to train/)'
    )


def is_ignored(name: str) -> bool:
  """Returns whether a file or folder is hidden or belongs to a system."""
  lower = name.lower()
  return lower.startswith('.') or '@syno' in lower or lower in _SYSTEM


def check_class_names(root: str, classes: Iterable[str]) -> None:
  """Raises `UsageError` if a class name cannot be a line of labels.txt."""
  for name in classes:
    if name != name.strip() or any(
      unicodedata.category(c) in _NOT_IN_A_LINE for c in name
    ):
      raise errors.UsageError(
        f"{root}: the name of the class folder '{messages.printable(name)}' "
        'has a line break, a control character, bytes that are not UTF-8 or a '
        'space at an end, which labels.txt cannot hold: rename it'
      )


def note_similar_names(root: str, classes: Iterable[str]) -> Iterable[str]:
  """Yields a note if class names differ only in case or Unicode form."""
  names_by_form = collections.defaultdict(list)
  for name in classes:
    names_by_form[unicodedata.normalize('NFC', name).casefold()].append(name)
  groups = [
    ' and '.join(f"'{messages.printable(name)}'" for name in names)
    for names in names_by_form.values()
    if len(names) > 1
  ]
  if groups:
    yield (
      f'{root}: classes whose names differ only in case or in Unicode '
      f'form: {"; ".join(groups[: messages.NAMED])}; each is a separate class'
    )
