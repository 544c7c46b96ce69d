"""Prepared files of a data set that are gone, cut off or not what they were."""

import glob
import os
import random
import shutil
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import memory, sources, stores
from tests import scenes

_FORMATS = {'array_record': 'tiny_scenes', 'tfrecord': 'tiny_stream'}
# What is done to a file, by its path.
_DAMAGES = {
  'missing': os.remove,
  'folder': lambda path: (os.remove(path), os.mkdir(path)),
  'pipe': lambda path: (os.remove(path), os.mkfifo(path)),
  'link to itself': lambda path: (
    os.remove(path),
    os.symlink(os.path.basename(path), path),
  ),
  'empty': lambda path: os.truncate(path, 0),
  'cut off': lambda path: os.truncate(path, _size(path) * 2 // 3),
  'last byte missing': lambda path: os.truncate(path, _size(path) - 1),
  'other bytes': lambda path: _write(
    path, 0, random.Random(5).randbytes(_size(path))
  ),
}
_IN_FRONT, _BEHIND = 12, 4  # bytes of a TFRecord, around what it holds


def setUpModule():
  scenes.prepare()


def _size(path):
  return os.path.getsize(path)


def _write(path, position, content):
  with open(path, 'r+b') as file:
    file.seek(position)
    file.write(content)


class DamagedRecordsTest(parameterized.TestCase):
  def _copied(self, file_format):
    """Returns a source of a copy, and the path of the copy's training files."""
    folder, name = self.create_tempdir().full_path, _FORMATS[file_format]
    shutil.copytree(
      os.path.join(scenes.FOLDER.name, name), os.path.join(folder, name)
    )
    (path,) = glob.glob(f'{folder}/{name}/1.0.0/*-train.{file_format}-*')
    source = sources.Source(
      name, data_dir=folder, image_size=16, resizing='stretch'
    )
    return source, path

  def _read_whole(self, source):
    """Reads all images and labels of the training split."""
    with stores.explained():
      examples = source.read('train')
      return examples.images[:], examples.labels

  @parameterized.product(
    file_format=[*_FORMATS], damage=[*_DAMAGES], in_files=(False, True)
  )
  def test_damage_is_one_line_that_names_the_fix(
    self, file_format, damage, in_files
  ):
    source, path = self._copied(file_format)
    if in_files:
      source.keep_in_files()
    _DAMAGES[damage](path)
    with self.assertRaises((errors.UsageError, errors.TrainingError)) as raised:
      self._read_whole(source)
    text = str(raised.exception)
    self.assertIn('put back a copy of them', text)
    self.assertLen(text.splitlines(), 1)

  def test_file_that_lacks_its_last_records_is_not_taken_for_whole(self):
    source, path = self._copied('tfrecord')
    source.keep_in_files()
    with open(path, 'rb') as file:
      length = int.from_bytes(file.read(8), 'little')
    os.truncate(path, _IN_FRONT + length + _BEHIND)
    with self.assertRaisesRegex(errors.UsageError, 'has 1 records, not 40'):
      self._read_whole(source)

  def test_record_that_claims_exabytes_is_one_line(self):
    source, path = self._copied('tfrecord')
    source.keep_in_files()
    _write(path, 0, b'\xff' * 7 + b'\x0f')
    with self.assertRaisesRegex(errors.UsageError, 'do not end where it ends'):
      self._read_whole(source)

  @parameterized.parameters(
    (os.remove, 'No such file'), (lambda path: os.truncate(path, 50), 'shorter')
  )
  def test_file_that_changes_after_it_was_opened_is_one_line(
    self, change, reason
  ):
    source, path = self._copied('tfrecord')
    source.keep_in_files()
    examples = source.read('train')
    change(path)
    with (
      self.assertRaisesRegex(errors.TrainingError, reason),
      stores.explained(),
    ):
      examples.images[:]

  @parameterized.parameters(*_FORMATS)
  def test_files_that_are_whole_are_read_in_both_ways(self, file_format):
    source, _ = self._copied(file_format)
    in_memory, labels = self._read_whole(source)
    with mock.patch.object(memory, 'available_bytes', lambda: 0):
      in_files, same_labels = self._read_whole(source)
    self.assertEqual(in_memory.tolist(), in_files.tolist())
    self.assertEqual(labels.tolist(), same_labels.tolist())


if __name__ == '__main__':
  absltest.main()
