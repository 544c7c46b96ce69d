"""Labels and class names as a notebook has them, as numbers from 0.

What is accepted has one meaning; everything else is refused.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from ft_tf import errors
from ft_tf.data import arrays

# Names in no order, or one name.
_NO_LISTS = (str, bytes, Mapping, set, frozenset)
_NAMED = 5  # labels that a message lists
_LARGEST = 2**31 - 1  # of labels; what is larger is a mistake, not a class


def to_labels(
  name: str, given: np.ndarray, count: int, label_names: list[str] | None
) -> tuple[np.ndarray, int]:
  """Returns labels as `[N]` int64 from 0, and the least number of classes.

  Args:
    name: The name of the split in messages.
    given: `[N]` or `[N, 1]`, integers from 0 or names in `label_names`; or one
      hot, `[N, classes]`.
    count: N, the number of images.
    label_names: The class names, if they are given.

  Raises:
    UsageError: the labels have another form.
  """
  description = f'{name}: labels are {given.dtype} {given.shape}'
  wanted = f'give integers [N] from 0, N = {count}'
  if given.dtype.kind == 'O':
    given = arrays.to_array(f'{name}: labels', given.tolist())
  if given.ndim == 2 and given.shape[1] == 1:
    given = given[:, 0]
  if given.ndim not in (1, 2) or len(given) != count:
    raise errors.UsageError(f'{description} for {count} images; {wanted}')
  if given.dtype.kind in 'US':
    if given.ndim == 2:
      raise errors.UsageError(f'{description}; {wanted}')
    return _numbered(name, given, label_names)
  if given.dtype.kind not in 'biuf':
    raise errors.UsageError(f'{description}; {wanted}')
  if given.ndim == 2:
    if not (((given == 0) | (given == 1)).all() and (given.sum(1) == 1).all()):
      raise errors.UsageError(
        f'{description} that are not one class for each image; {wanted}'
      )
    return given.argmax(axis=1), given.shape[1]
  if (
    given.dtype.kind == 'f'
    and not (np.isfinite(given) & (given == np.round(given))).all()
  ):
    raise errors.UsageError(
      f'{description} that are not whole numbers; {wanted}'
    )
  for extreme in (given.min(), given.max()):
    if not 0 <= extreme <= _LARGEST:
      raise errors.UsageError(f'{name}: there is a label {extreme:g}; {wanted}')
  given = given.astype(np.int64)
  return given, int(given.max()) + 1


def to_names(
  given: Sequence[str] | np.ndarray | None,
) -> list[str] | None:
  """Returns class names as strings; None if none are given.

  Raises:
    UsageError: they are not names, or two names are equal.
  """
  if given is None:
    return None
  try:
    listed = None if isinstance(given, _NO_LISTS) else list(given)
  except Exception:  # Other libraries' values raise any exception.
    listed = None
  if listed is None:
    raise errors.UsageError(
      f'label_names is {arrays.describe(given)}: give a list of names, in the '
      'order of the labels'
    )
  names = [
    name.decode() if isinstance(name, bytes) else str(name)
    for name in np.ravel(arrays.to_array('label_names', listed)).tolist()
  ]
  repeated = sorted({name for name in names if names.count(name) > 1})
  if repeated:
    raise errors.UsageError(
      f'label_names has {", ".join(repeated[:_NAMED])} twice: give different '
      'names'
    )
  broken = [name for name in names if len(name.splitlines()) != 1]
  if broken:
    raise errors.UsageError(
      f'label_names has {broken[0]!r}: give names without line breaks'
    )
  return names


def check_covered(
  labels: np.ndarray, classes: int, label_names: list[str] | None
) -> None:
  """Raises `UsageError` if the labels may not be the numbers of the classes.

  Args:
    labels: The labels of the training images.
    classes: The least number of classes, of training and test images together.
    label_names: The class names, if they are given.
  """
  used = set(np.unique(labels).tolist())
  from_1 = 0 not in used and len(used) == classes - 1
  if label_names is not None:
    if classes > len(label_names):
      raise errors.UsageError(
        f'there is a label {classes - 1} and {len(label_names)} label_names: '
        + (
          'labels count from 0, give labels - 1'
          if from_1 and len(used) == len(label_names)
          else 'give one for each class'
        )
      )
    return
  if from_1:
    raise errors.UsageError(
      f'train: labels are 1 to {classes - 1}, none is 0: give labels - 1, or '
      'label_names with a name for 0 too'
    )
  # Not all of them: a label may be a number of a data base.
  missing = list(
    itertools.islice(
      (label for label in range(classes) if label not in used), _NAMED + 1
    )
  )
  if missing:
    first_missing = ', '.join(map(str, missing[:_NAMED]))
    raise errors.UsageError(
      f'train: no image has the label {first_missing}'
      f'{", ..." * (len(missing) > _NAMED)}: give labels without gaps, or '
      'label_names with a name for every class'
    )


def _numbered(name, given, label_names):
  """Returns the class numbers of labels that are names."""
  if given.dtype.kind == 'S':
    given = np.char.decode(given)
  if label_names is None:
    raise errors.UsageError(
      f'{name}: labels are names, such as {str(given[0])!r}: give label_names, '
      'in the order of the outputs of the teacher'
    )
  numbers = {name: number for number, name in enumerate(label_names)}
  unknown = sorted(set(given.tolist()) - numbers.keys())
  if unknown:
    raise errors.UsageError(
      f'{name}: there is a label {unknown[0]!r} that label_names lacks: give '
      'one for each class'
    )
  labels = np.array([numbers[name] for name in given.tolist()], np.int64)
  return labels, len(label_names)
