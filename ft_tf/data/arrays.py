"""Images and labels as a notebook has them, as arrays of one form.

What is accepted has one meaning; everything else is refused, in Python's terms.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from ft_tf import errors

_AT_ONCE = 1024  # images
_CHANNELS = (1, 3)  # as of TFDS data sets and folders
# Images in 0..255 have a pixel of at least this value.
_DARK = 16


def read_pair(name: str, given: Any) -> tuple[np.ndarray, np.ndarray]:
  """Returns the given images and labels as two arrays.

  Args:
    name: The name of the split in messages, such as 'train'.
    given: `(images, labels)`, arrays or values that numpy can convert to
      arrays; or a finite `tf.data.Dataset` of pairs, or of dicts with 'image'
      and 'label' as TFDS has them, batched or not. Its examples are sorted by
      their content, because it may shuffle them in a new order each time that
      it is read.

  Raises:
    UsageError: it is something else.
  """
  if isinstance(given, tf.data.Dataset):
    return _read_dataset(name, given)
  if not isinstance(given, (tuple, list)) or len(given) != 2:
    raise errors.UsageError(
      f'{name} is {describe(given)}: give (images, labels), two arrays, or a '
      f'tf.data.Dataset of such pairs{_weights_hint(given)}'
    )
  images, labels = given
  return to_array(f'{name}: images', images), to_array(
    f'{name}: labels', labels
  )


def to_images(name: str, given: np.ndarray) -> tuple[np.ndarray, bool]:
  """Returns images as `[N, H, W, C]` uint8, and whether they were in 0..1.

  Args:
    name: As of `read_pair`.
    given: `[N, H, W, C]`, or `[N, H, W]` for grey images. The values are uint8;
      or other integers or floats in 0..255, which are rounded; or floats in
      0..1 or booleans, which are multiplied by 255.

  Raises:
    UsageError: the images have another form or range.
  """
  description = f'{name}: images are {given.dtype} {given.shape}'
  if given.ndim == 3:
    given = given[..., None]
  if given.ndim != 4:
    raise errors.UsageError(
      f'{description}; give [N, H, W, C], or [N, H, W] for grey'
    )
  if not given.size:
    raise errors.UsageError(f'{description}, which holds no image')
  if given.shape[-1] not in _CHANNELS:
    channels_first = given.shape[1] in _CHANNELS
    raise errors.UsageError(
      f'{description}; give [N, H, W, C] with 1 or 3 channels'
      + ': np.moveaxis(images, 1, -1)' * channels_first
    )
  if given.dtype == np.uint8:
    return given, False
  if given.dtype.kind not in 'biuf':
    raise errors.UsageError(f'{description}; give numbers, 0 to 255')
  low, high = float(given.min()), float(given.max())
  values = f'{description} from {low:g} to {high:g}'
  if not (np.isfinite(low) and np.isfinite(high)):
    raise errors.UsageError(
      f'{description} with values that are not finite (NaN or infinite); give '
      '0 to 255'
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
  converted = np.empty(given.shape, np.uint8)
  for i in range(0, len(given), _AT_ONCE):
    batch = given[i : i + _AT_ONCE]
    if unit:
      batch = np.minimum(batch.astype(np.float32), 1) * 255
    converted[i : i + _AT_ONCE] = np.round(batch)
  return converted, unit


def _read_dataset(name, data):
  """Returns the arrays of a tf.data data set, sorted by their content."""
  if data.cardinality() == tf.data.INFINITE_CARDINALITY:
    raise errors.UsageError(f'{name} never ends: give it without repeat()')
  spec = data.element_spec
  if isinstance(spec, Mapping) and {'image', 'label'} <= spec.keys():
    data = data.map(lambda example: (example['image'], example['label']))
    spec = data.element_spec
  if not isinstance(spec, (tuple, list)) or len(spec) != 2:
    hint = ''
    if isinstance(spec, Mapping):
      hint = ", such as data.map(lambda x: (x['image'], x['label']))"
    raise errors.UsageError(
      f'{name} is a tf.data.Dataset of {describe(spec)}: give one of pairs '
      f'(image, label){hint}{_weights_hint(spec)}'
    )
  parts: list[list[Any]] = [[], []]
  for example in data:
    for part, value in zip(parts, example, strict=True):
      if not isinstance(value, tf.Tensor):
        raise errors.UsageError(
          f'{name} has {describe(value)} among its values: give dense tensors'
        )
      part.append(value.numpy())
  if not parts[0]:
    raise errors.UsageError(f'{name} holds no image')
  if _is_batched(parts[0][0], parts[1][0]):
    parts = [[value for batch in values for value in batch] for values in parts]
  images, labels = parts
  if len(images) != len(labels):
    raise errors.UsageError(
      f'{name} has {len(images)} images and {len(labels)} labels: give one '
      'label per image'
    )
  if len({image.shape for image in images}) > 1:
    raise errors.UsageError(
      f'{name} has images of different sizes: resize them to one '
      'size, with tf.image.resize'
    )
  digests = [
    hashlib.sha256(image.tobytes() + str(label).encode()).digest()
    for image, label in zip(images, labels, strict=True)
  ]
  order = sorted(range(len(images)), key=digests.__getitem__)
  return (
    np.stack([images[i] for i in order]),
    np.array([labels[i] for i in order]),
  )


def _is_batched(image: np.ndarray, label: np.ndarray) -> bool:
  """Returns whether the first element of a data set is a batch."""
  if image.ndim != 3:
    return image.ndim > 3
  # A batch of grey images [B, H, W], or one image [H, W, C].
  return (
    np.ndim(label) > 0
    and len(label) == len(image)
    and image.shape[-1] not in _CHANNELS
  )


def to_array(what: str, value: Any) -> np.ndarray:
  """Returns a value as an array; `what` is its name in messages."""
  if np.ma.is_masked(value):  # Below it would lose its mask.
    raise errors.UsageError(
      f'{what} have masked values: leave their examples out, or give what '
      'stands for them by filled()'
    )
  try:
    return np.asarray(value)
  except Exception as error:  # Other libraries' values raise any exception.
    reason = str(error).splitlines()[0] if str(error) else repr(error)
    raise errors.UsageError(
      f'{what} cannot be converted to one array ({reason}); give an array of '
      'numbers, all of one size'
    ) from error


def describe(value: Any) -> str:
  """Returns the type and size of a value for a message."""
  kind = type(value).__name__
  if isinstance(value, (tuple, list)):
    return f'a {kind} of {len(value)}'
  shape = getattr(value, 'shape', None)
  return f'{kind} {tuple(shape)}' if shape is not None else f'a {kind}'


def _weights_hint(value: Any) -> str:
  """Returns a hint for a message if the third of three may be weights."""
  three = isinstance(value, (tuple, list)) and len(value) == 3
  return '; sample weights are not supported' if three else ''
