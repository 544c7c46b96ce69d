"""Where labelled images are stored: records that can be read in any order."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from ft_tf import errors

_AT_ONCE = 1024  # records
UNLABELLED = -1  # the label of images without a label
_READ_ERROR = re.compile(f'{errors.TrainingError.__name__}: ([^\n]*)')
# The operations that fail over records which are not what was written.
_DAMAGED = re.compile(
  r'Decode[A-Z]\w+|ParseExample|(corrupted|truncated) record|'
  r'expected to contain \d+ elements'
)


class Store:
  """Records of labelled images.

  What a record is, its store alone knows: it reads them, and makes an encoded
  image and a label of one.
  """

  def __len__(self) -> int:
    raise NotImplementedError

  def read(self, positions: list[int]) -> list[bytes]:
    """Returns the records at positions.

    Raises:
      TrainingError: they are no longer what they were.
    """
    raise NotImplementedError

  def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the encoded image of a record, and its label, int64."""
    raise NotImplementedError

  def labels(self, positions: np.ndarray) -> np.ndarray:
    """Returns the labels at positions, `[n]` int64; reads their records."""
    parse = tf.function(
      lambda records: tf.map_fn(
        lambda record: self.parse(record)[1],
        records,
        fn_output_signature=tf.int64,
      ),
      input_signature=[tf.TensorSpec([None], tf.string)],
      autograph=False,
    )
    with explained():
      parts = [
        parse(tf.constant(part)).numpy() for part in self._parts(positions)
      ]
    return np.concatenate([np.empty(0, np.int64), *parts])

  def digest(self, positions: np.ndarray) -> str:
    """Returns a SHA-256 of the records at positions; reads them."""
    content = hashlib.sha256()
    for part in self._parts(positions):
      for record in part:
        content.update(len(record).to_bytes(8, 'big') + record)
    return content.hexdigest()

  def _parts(self, positions: np.ndarray) -> Iterator[list[bytes]]:
    for first in range(0, len(positions), _AT_ONCE):
      yield self.read(positions[first : first + _AT_ONCE].tolist())


class RecordFiles(Store):
  """The files of a TFDS data set, which have random access."""

  def __init__(
    self,
    count: int,
    read: Callable[[list[int]], list[bytes]],
    parse: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    classes: int,
  ):
    """Reads nothing yet; see `Store` for `read` and `parse`."""
    self._count = count
    self._classes = classes
    self._read = read
    self._parse = parse

  def __len__(self) -> int:
    return self._count

  def read(self, positions: list[int]) -> list[bytes]:
    return self._read(positions)

  def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return self._parse(record)

  def labels(self, positions: np.ndarray) -> np.ndarray:
    labels = super().labels(positions)
    wrong = labels[(labels < 0) | (labels >= self._classes)]
    if len(wrong):
      raise errors.TrainingError(
        f'a stored image has the label {wrong[0]} of {self._classes} classes, '
        'the files of the data set are damaged: put back a copy of them, or '
        'delete them and run ft-tf prepare-data'
      )
    return labels


class Joined(Store):
  """The records of a store, followed by those of another without labels."""

  def __init__(
    self,
    labelled: Store,
    labelled_at: np.ndarray,
    unlabelled: Store,
    unlabelled_at: np.ndarray,
  ):
    """Reads nothing yet.

    Args:
      labelled: The first store.
      labelled_at: The positions in it that are taken, in order.
      unlabelled: The second store.
      unlabelled_at: The positions in it that are taken, in order.
    """
    self._stores = labelled, unlabelled
    self._places = labelled_at, unlabelled_at
    self._count = len(labelled_at)

  def __len__(self) -> int:
    return sum(map(len, self._places))

  def read(self, positions: list[int]) -> list[bytes]:
    # Records of two stores have different formats. So each gets a letter in
    # front, by which `parse` knows the format: l(abelled) or u(nlabelled). Each
    # store is read once for all its positions.
    labelled, unlabelled = self._split(np.array(positions, np.int64))
    records = [
      iter(store.read(places.tolist()))
      for store, places in zip(
        self._stores, (labelled, unlabelled), strict=True
      )
    ]
    return [
      b'l' + next(records[0]) if p < self._count else b'u' + next(records[1])
      for p in positions
    ]

  def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    letter = tf.strings.substr(record, 0, 1)
    record = tf.strings.substr(record, 1, -1)

    def without_label():
      image, _ = self._stores[1].parse(record)
      return image, tf.constant(UNLABELLED, tf.int64)

    return tf.cond(
      letter == b'l', lambda: self._stores[0].parse(record), without_label
    )

  def labels(self, positions: np.ndarray) -> np.ndarray:
    labels = np.full(len(positions), UNLABELLED, np.int64)
    labels[positions < self._count] = self._stores[0].labels(
      self._split(positions)[0]
    )
    return labels

  def digest(self, positions: np.ndarray) -> str:
    content = hashlib.sha256((positions < self._count).tobytes())
    for store, places in zip(self._stores, self._split(positions), strict=True):
      content.update(store.digest(places).encode())
    return content.hexdigest()

  def _split(self, positions):
    """Returns the positions in either store."""
    first = positions < self._count
    return (
      self._places[0][positions[first]],
      self._places[1][positions[~first] - self._count],
    )


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Raises the error of `Store.read` in place of TensorFlow's.

  Within a graph TensorFlow calls Python to read, and hands on only the text of
  what is raised.

  Raises:
    TrainingError: the error of a store, or a record is damaged.
  """
  try:
    yield
  except (tf.errors.OpError, UnicodeDecodeError) as error:
    # The text of an error may quote bytes of a record, which are no text.
    text = str(getattr(error, 'message', '')) or 'DecodeBytes'
    match = _READ_ERROR.search(text)
    if match is not None:
      raise errors.TrainingError(match.group(1)) from error
    if not _DAMAGED.search(text):
      raise
    raise errors.TrainingError(
      'a stored image of the data set cannot be decoded, its files are '
      'damaged: put back a copy of them, or delete them and run ft-tf '
      'prepare-data'
    ) from error
