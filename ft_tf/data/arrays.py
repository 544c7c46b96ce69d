"""Images and labels as a notebook has them, made arrays of one kind.

What is accepted has one meaning; everything else is refused in Python's terms.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import errors

_AT_ONCE = 1024  # images
_CHANNELS = (1, 3)  # as of TFDS sets and folders
# Of images in 0..255 some pixel is brighter than this.
_DARK = 16
_NAMED = 5  # labels


def pair(name: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
  """Returns the images and the labels that are given, in arrays.

  Args:
    name: How messages call them: 'train' or 'test'.
    given: `(images, labels)`, each an array or what numpy makes one of; or a
      finite `tf.data.Dataset` of such pairs, in batches or one by one. Its
      examples are put in an order that depends on them alone, since it may
      shuffle them anew each time that it is read.

  Raises:
    UsageError: it is something else.
  """
  if isinstance(given, tf.data.Dataset):
    return _read(name, given)
  if not isinstance(given, (tuple, list)) or len(given) != 2:
    raise errors.UsageError(
      f'{name} is {_kind(given)}: give (images, labels), two arrays, or a '
      f'tf.data.Dataset of such pairs{_weights(given)}'
    )
  images, labels = given
  return _array(f'{name}: images', images), _array(f'{name}: labels', labels)


def images(name: str, given: np.ndarray) -> tuple[np.ndarray, bool]:
  """Returns images as `[N, H, W, C]` uint8, and whether they were in 0..1.

  Args:
    name: As of `pair`.
    given: `[N, H, W, C]` or, grey, `[N, H, W]`: uint8; other integers or floats
      in 0..255, which are rounded; floats in 0..1, or booleans, which become 0
      to 255.

  Raises:
    UsageError: they are not such.
  """
  what = f'{name}: images are {given.dtype} {given.shape}'
  if given.ndim == 3:
    given = given[..., None]
  if given.ndim != 4:
    raise errors.UsageError(f'{what}; give [N, H, W, C], or [N, H, W] for grey')
  if not given.size:
    raise errors.UsageError(f'{what}, which holds no image')
  if given.shape[-1] not in _CHANNELS:
    first = given.shape[1] in _CHANNELS
    raise errors.UsageError(
      f'{what}; give [N, H, W, C] with 1 or 3 channels'
      + ': np.moveaxis(images, 1, -1)' * first
    )
  if given.dtype == np.uint8:
    return given, False
  if given.dtype.kind not in 'biuf':
    raise errors.UsageError(f'{what}; give numbers, 0 to 255')
  low, high = float(given.min()), float(given.max())
  values = f'{what} from {low:g} to {high:g}'
  if not (np.isfinite(low) and np.isfinite(high)):
    raise errors.UsageError(
      f'{what} with values that are not finite (NaN or infinite); give 0 to 255'
    )
  if low < 0:
    raise errors.UsageError(
      f'{values}; give them before normalisation, 0 to 255'
    )
  if high > 255:
    raise errors.UsageError(f'{values}; give 0 to 255')
  unit = given.dtype.kind in 'bf' and high <= 1 + 1e-3
  if not unit and high < _DARK:
    raise errors.UsageError(
      f'{values}, which is neither 0 to 255 nor floats from 0 to 1; give one '
      'of these'
    )
  made = np.empty(given.shape, np.uint8)
  for i in range(0, len(given), _AT_ONCE):
    some = given[i : i + _AT_ONCE]
    if unit:
      some = np.minimum(some.astype(np.float32), 1) * 255
    made[i : i + _AT_ONCE] = np.round(some)
  return made, unit


def labels(
  name: str, given: np.ndarray, count: int, label_names: list[str] | None
) -> tuple[np.ndarray, int]:
  """Returns labels as `[N]` int64 from 0, and the least number of classes.

  Args:
    name: As of `pair`.
    given: `[N]` or `[N, 1]`, integers from 0, or names that are in
      `label_names`; or `[N, classes]`, one of them 1 and the others 0.
    count: N, of the images.
    label_names: The classes, if they are known.

  Raises:
    UsageError: they are not such.
  """
  what = f'{name}: labels are {given.dtype} {given.shape}'
  wanted = f'give integers [N] from 0, N = {count}'
  if given.dtype.kind == 'O':
    given = _array(f'{name}: labels', given.tolist())
  if given.ndim == 2 and given.shape[1] == 1:
    given = given[:, 0]
  if given.ndim not in (1, 2) or len(given) != count:
    raise errors.UsageError(f'{what} for {count} images; {wanted}')
  if given.dtype.kind in 'US':
    if given.ndim == 2:
      raise errors.UsageError(f'{what}; {wanted}')
    return _numbered(name, given, label_names)
  if given.dtype.kind not in 'biuf':
    raise errors.UsageError(f'{what}; {wanted}')
  if given.ndim == 2:
    if not (((given == 0) | (given == 1)).all() and (given.sum(1) == 1).all()):
      raise errors.UsageError(
        f'{what} that are not one class for each image; {wanted}'
      )
    return given.argmax(axis=1), given.shape[1]
  if given.dtype.kind == 'f' and not (given == np.round(given)).all():
    raise errors.UsageError(f'{what} that are not whole numbers; {wanted}')
  if given.min() < 0:
    raise errors.UsageError(
      f'{name}: there is a label {given.min():g}; {wanted}'
    )
  given = given.astype(np.int64)
  return given, int(given.max()) + 1


def names(
  given: Sequence[str] | np.ndarray | None,
) -> list[str] | None:
  """Returns the names of the classes as texts; None if none are given.

  Raises:
    UsageError: they are not names, or two are equal.
  """
  if given is None:
    return None
  if isinstance(given, (str, bytes, Mapping, set, frozenset)):
    raise errors.UsageError(
      f'label_names is {_kind(given)}: give a list of names, in the order of '
      'the labels'
    )
  found = [
    each.decode() if isinstance(each, bytes) else str(each)
    for each in np.ravel(_array('label_names', list(given))).tolist()
  ]
  twice = sorted({each for each in found if found.count(each) > 1})
  if twice:
    raise errors.UsageError(
      f'label_names has {", ".join(twice[:_NAMED])} twice: give different names'
    )
  broken = [each for each in found if len(each.splitlines()) != 1]
  if broken:
    raise errors.UsageError(
      f'label_names has {broken[0]!r}: give names of one line'
    )
  return found


def check_covered(
  found: np.ndarray, classes: int, label_names: list[str] | None
) -> None:
  """Raises `UsageError` unless it is certain what the labels' numbers mean.

  Args:
    found: The labels of the images to train on.
    classes: How many classes there are at least, those of test included.
    label_names: The classes, if they are known.
  """
  there = set(np.unique(found).tolist())
  from_1 = 0 not in there and there == set(range(1, classes))
  if label_names is not None:
    if classes > len(label_names):
      raise errors.UsageError(
        f'there is a label {classes - 1} and {len(label_names)} label_names: '
        + (
          'labels count from 0, give labels - 1'
          if from_1 and len(there) == len(label_names)
          else 'give one for each class'
        )
      )
    return
  if from_1:
    raise errors.UsageError(
      f'train: labels are 1 to {classes - 1}, none is 0: give labels - 1, or '
      'label_names with a name for 0 too'
    )
  missing = sorted(set(range(classes)) - there)
  if missing:
    some = ', '.join(map(str, missing[:_NAMED]))
    raise errors.UsageError(
      f'train: no image has the label {some}'
      f'{", ..." * (len(missing) > _NAMED)}: give labels without gaps, or '
      'label_names with a name for every class'
    )


def _numbered(name, given, label_names):
  """Returns the numbers of labels that are names."""
  if given.dtype.kind == 'S':
    given = np.char.decode(given)
  if label_names is None:
    raise errors.UsageError(
      f'{name}: labels are names, such as {str(given[0])!r}: give label_names, '
      'in the order of the outputs of the teacher'
    )
  places = {each: number for number, each in enumerate(label_names)}
  unknown = sorted(set(given.tolist()) - places.keys())
  if unknown:
    raise errors.UsageError(
      f'{name}: there is a label {unknown[0]!r} that label_names lacks: give '
      'one for each class'
    )
  numbers = np.array([places[each] for each in given.tolist()], np.int64)
  return numbers, len(label_names)


def _read(name, data):
  """Returns the arrays of a tf.data data set, ordered by their content."""
  if data.cardinality() == tf.data.INFINITE_CARDINALITY:
    raise errors.UsageError(f'{name} never ends: give it without repeat()')
  spec = data.element_spec
  if not isinstance(spec, (tuple, list)) or len(spec) != 2:
    hint = ''
    if isinstance(spec, Mapping):
      hint = ", such as data.map(lambda x: (x['image'], x['label']))"
    raise errors.UsageError(
      f'{name} is a tf.data.Dataset of {_kind(spec)}: give one of pairs '
      f'(image, label){hint}{_weights(spec)}'
    )
  parts: list[list[Any]] = [[], []]
  for example in data:
    for part, value in zip(parts, example, strict=True):
      if not isinstance(value, tf.Tensor):
        raise errors.UsageError(
          f'{name} has {_kind(value)} among its values: give dense tensors'
        )
      part.append(value.numpy())
  if not parts[0]:
    raise errors.UsageError(f'{name} holds no image')
  if _in_batches(parts[0][0], parts[1][0]):
    parts = [[each for batch in part for each in batch] for part in parts]
  some, others = parts
  if len(some) != len(others):
    raise errors.UsageError(
      f'{name} has {len(some)} images and {len(others)} labels: give as many'
    )
  if len({each.shape for each in some}) > 1:
    raise errors.UsageError(
      f'{name} has images of different sizes: give all in one, by '
      'tf.image.resize'
    )
  digests = [
    hashlib.sha256(image.tobytes() + str(label).encode()).digest()
    for image, label in zip(some, others, strict=True)
  ]
  order = sorted(range(len(some)), key=digests.__getitem__)
  return (
    np.stack([some[i] for i in order]),
    np.array([others[i] for i in order]),
  )


def _in_batches(image: np.ndarray, label: np.ndarray) -> bool:
  """Tells a batch from an example by its first element."""
  if image.ndim != 3:
    return image.ndim > 3
  # [B, H, W] of grey images or one [H, W, C].
  return (
    np.ndim(label) > 0
    and len(label) == len(image)
    and image.shape[-1] not in _CHANNELS
  )


def _array(what: str, value: Any) -> np.ndarray:
  try:
    found = np.asarray(value)
  except Exception as error:  # What is not numpy's raises errors of its own.
    reason = str(error).splitlines()[0] if str(error) else repr(error)
    raise errors.UsageError(
      f'{what} do not become one array ({reason}); give an array of numbers, '
      'all of one size'
    ) from error
  return found


def _kind(value: Any) -> str:
  """Returns how a message calls a value."""
  kind = type(value).__name__
  if isinstance(value, (tuple, list)):
    return f'a {kind} of {len(value)}'
  shape = getattr(value, 'shape', None)
  return f'{kind} {tuple(shape)}' if shape is not None else f'a {kind}'


def _weights(value: Any) -> str:
  """Returns what is to be said of what may be sample weights."""
  three = isinstance(value, (tuple, list)) and len(value) == 3
  return '; sample weights are not supported' if three else ''
