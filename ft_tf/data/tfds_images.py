"""The images of a TFDS data set, read from its prepared files."""

import contextlib
import fcntl
import glob
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ft_tf import errors, paths, storage
from ft_tf.data import digits, progress, stores, tfrecord_files

_AT_ONCE = 1024  # records
_Shape = tuple[int | None, int | None, int | None]
_PUT_BACK = 'put back a copy of them, or delete them and run ft-tf prepare-data'


class TfdsImages:
  """A TFDS data set of labelled images; has the interface of `FolderImages`.

  Attributes:
    label_names: Names of the classes, in the order of the labels.
    shape: Height, width and channels of all images; None where they differ.
    dtype: Of the decoded images.
  """

  fingerprint = ''  # The name identifies the images.
  has_validation = False  # The recipe names the splits.

  def __init__(self, name: str, builder: tfds.core.DatasetBuilder):
    """Reads no image yet.

    Args:
      name: The name of the data set in messages.
      builder: Its builder; digits need not be prepared.

    Raises:
      UsageError: it is not a data set of labelled images.
    """
    self._name = name
    self._builder = builder
    try:
      self._keys = _supervised_keys(name, builder.info)
      image, label = (builder.info.features[key] for key in self._keys)
      self.label_names: list[str] = list(label.names or ())
      height, width, channels = image.shape
    except errors.UsageError:
      raise
    except Exception as error:  # Of damaged metadata TFDS raises many kinds.
      raise self._damaged(error) from error
    if not self.label_names:
      raise errors.UsageError(
        f'{name} in {builder.data_dir} has no names of classes: prepare it '
        'again in another --data_dir'
      )
    self.shape: _Shape = (height, width, channels)
    self.dtype = np.dtype(image.np_dtype)

  @property
  def split_names(self) -> tuple[str, ...]:
    """The splits, those of digits before their preparation too."""
    if isinstance(self._builder, digits.Digits):
      return digits.SPLITS
    return tuple(self._builder.info.splits)

  def prepare(self) -> None:
    """Prepares digits, without network, if they are not yet.

    Raises:
      UsageError: the folder cannot be written.
    """
    builder = self._builder
    try:
      prepare(
        builder,
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
      )
    except OSError as error:
      raise errors.UsageError(
        f'cannot prepare {builder.name} in {builder.data_dir} '
        f'({error.strerror}): give another --data_dir'
      ) from error

  def count(self, split: str) -> int:
    """Returns the number of images in a split or part, in TFDS's syntax.

    Raises:
      KeyError, ValueError, AssertionError: there is no such split.
    """
    return self._builder.info.splits[split].num_examples

  def open(self, split: str) -> stores.Store:
    """Returns the images of a split or part, in TFDS's syntax.

    Raises:
      UsageError: a file of them is missing, damaged, or cannot be read.
    """
    features = self._builder.info.features
    image_key, label_key = self._keys

    def parse(record):
      example = features.deserialize_example(
        record, decoders={image_key: tfds.decode.SkipDecoding()}
      )
      return example[image_key], example[label_key]

    classes = len(self.label_names)
    if self._is_tfrecord:
      with self._readable(split) as parts:
        files = tfrecord_files.TfRecordFiles(parts)
      return stores.RecordFiles(len(files), files.read, parse, classes)
    count, read = self._random_access(split)
    return stores.RecordFiles(count, read, parse, classes)

  def read_in_order(self, split: str, *, decode: bool) -> tf.data.Dataset:
    """Returns image and label of all examples of a split, in order.

    Args:
      split: A split or part, in TFDS's syntax.
      decode: Whether images are decoded; otherwise they are the bytes of files.

    Raises:
      UsageError: a file of them is missing, or cannot be read.
    """
    image_key, label_key = self._keys
    decoders = None if decode else {image_key: tfds.decode.SkipDecoding()}
    if not self._is_tfrecord:
      count, read = self._random_access(split)

      def read_all():
        for first in range(0, count, _AT_ONCE):
          yield from read(list(range(first, min(first + _AT_ONCE, count))))

      serialised = tf.data.Dataset.from_generator(
        read_all, output_signature=tf.TensorSpec([], tf.string)
      )
      features = self._builder.info.features
      examples = serialised.map(
        tf.autograph.experimental.do_not_convert(
          lambda record: features.deserialize_example(record, decoders=decoders)
        ),
        num_parallel_calls=tf.data.AUTOTUNE,
      )
    else:
      with self._readable(split):
        examples = self._builder.as_dataset(
          split=split,
          # One file after the other: a seed gives the same run only if the
          # order of examples is always the same.
          read_config=tfds.ReadConfig(interleave_cycle_length=1),
          decoders=decoders,
        )
    return examples.map(
      tf.autograph.experimental.do_not_convert(
        lambda example: (example[image_key], example[label_key])
      )
    )

  @property
  def _is_tfrecord(self):
    formats = self._builder.info.available_file_formats()
    return tfds.core.file_adapters.FileFormat.TFRECORD in formats

  def _random_access(self, split):
    """Returns the number of records of a split, and what reads them."""
    with self._readable(split):
      source = self._builder.as_data_source(
        split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
      )

    def read(positions):
      try:
        return source.__getitems__(positions)
      except Exception as error:  # Its readers raise RuntimeError, and others.
        raise errors.TrainingError(str(self._damaged(error))) from error

    return len(source), read

  @contextlib.contextmanager
  def _readable(self, split):
    """Yields the parts of files of a split, once each file can be opened.

    Raises:
      UsageError: a file cannot be opened; or what the caller raises within.
    """
    parts = self._builder.info.splits[split].file_instructions
    for part in parts:
      paths.check_regular(os.fspath(part.filename), fix=_PUT_BACK)
    try:
      for part in parts:
        with open(part.filename, 'rb'):
          pass
      yield parts
    except (OSError, ValueError) as error:
      raise self._damaged(error) from error

  def _damaged(self, error):
    return damaged_error(self._name, str(self._builder.data_dir), error)


def damaged_error(name: str, where: str, error: Exception) -> errors.UsageError:
  """Returns the error for prepared files that TFDS cannot read."""
  return errors.UsageError(
    f'TFDS cannot read the files of {name} in {where} '
    f'({errors.first_line(error)}): {_PUT_BACK}'
  )


def prepare(builder: tfds.core.DatasetBuilder, **options: Any) -> None:
  """Downloads a data set and writes its files, unless they are there.

  Of several processes one writes them, and the others wait for it.
  """
  if not builder.is_prepared():
    with _only_one(builder):
      if not builder.is_prepared():
        _remove_incomplete(builder)
        # TFDS prints on standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
          builder.download_and_prepare(**options)
  if not builder.info.splits:  # Another process has prepared it since.
    builder.info.read_from_directory(builder.data_dir)


def _remove_incomplete(builder: tfds.core.DatasetBuilder) -> None:
  """Removes what killed preparations of a data set have left.

  The caller holds its lock, so that no other process is writing them. TFDS
  gives each preparation a folder of a new name, and continues none.
  """
  parent, version = os.path.split(str(builder.data_dir))
  left = [
    path
    for path in glob.glob(os.path.join(glob.escape(parent), 'incomplete.*'))
    if os.path.basename(path).endswith(f'_{version}') and os.path.isdir(path)
  ]
  if left:
    size = storage.format_bytes(sum(map(storage.size, left)))
    for path in left:
      shutil.rmtree(path)
    progress.log(
      f'{builder.name}: removed {size} in {parent} that interrupted '
      'preparations had left; it is prepared from the start'
    )


@contextlib.contextmanager
def _only_one(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
  """Waits until no other process prepares the data set."""
  root = str(builder.data_dir_root)
  os.makedirs(root, exist_ok=True)
  with open(os.path.join(root, f'.{builder.name}.lock'), 'w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      progress.log(
        f'{builder.name}: another process is preparing it in {root}; waiting'
      )
      fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def _supervised_keys(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
  """Returns the feature names of image and label.

  Raises:
    UsageError: the data set is not one of labelled images.
  """
  keys = info.supervised_keys
  features = info.features
  if (
    keys is None
    or len(keys) != 2
    or not isinstance(features[keys[0]], tfds.features.Image)
    or not isinstance(features[keys[1]], tfds.features.ClassLabel)
  ):
    raise errors.UsageError(
      f'{name} is not an image classification data set: --dataset takes one '
      'whose supervised keys are an image and a class label'
    )
  return keys
