"""The index of a folder: what is looked at again, and what is written when."""

import contextlib
import io
import os
import shutil
import threading
from unittest import mock

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import folder, folder_index, image_files, progress
from tests import image_folders


class IndexTest(image_folders.FolderCase):
  def setUp(self):
    super().setUp()
    # Otherwise files that were just written are read again.
    self.enter_context(mock.patch.object(folder_index, '_SETTLED_NS', 0))
    self.fill('', 5)

  def _update(self):
    """Returns the names that were read, those decoded, and the entries."""
    read, decoded = [], []
    real_read, real_inspect = image_files.read, image_files.inspect_bytes

    def note_read(path):
      read.append(os.path.relpath(path, self.root))
      return real_read(path)

    def note_decoded(content):
      decoded.append(content)
      return real_inspect(content)

    with (
      mock.patch.object(image_files, 'read', note_read),
      mock.patch.object(image_files, 'inspect_bytes', note_decoded),
      contextlib.redirect_stderr(io.StringIO()),
    ):
      index = folder_index.Index(folder.scan(self.root), self.data_dir)
      entries = index.update()
      index.save()
    return sorted(read), len(decoded), entries

  def _written(self):
    return [
      os.path.join(where, name)
      for where, _, names in os.walk(self.data_dir)
      for name in names
    ]

  def test_only_what_is_new_or_changed_is_looked_at(self):
    read, decoded, entries = self._update()
    self.assertLen(read, 10)
    self.assertEqual(decoded, 10)
    inspection = entries['cat/1.png'].inspection
    self.assertEqual((inspection.width, inspection.height), (12, 9))
    self.assertEqual(self._update()[:2], ([], 0))
    self.image('cat/1.png', (1, 2, 3), size=(20, 10))
    self.image('dog/new.png', (4, 5, 6))
    os.remove(os.path.join(self.root, 'dog/2.png'))
    read, decoded, entries = self._update()
    self.assertEqual(read, ['cat/1.png', 'dog/new.png'])
    self.assertEqual(decoded, 2)
    self.assertEqual(entries['cat/1.png'].inspection.width, 20)
    self.assertNotIn('dog/2.png', entries)
    self.assertEqual(self._update()[:2], ([], 0))

  def test_what_is_written_does_not_grow(self):
    self._update()
    (before,) = self._written()
    size = os.path.getsize(before)
    for value in range(3):
      self.image('cat/1.png', (value, 2, 3))
      self._update()
    (after,) = self._written()
    self.assertEqual(after, before)
    self.assertAlmostEqual(os.path.getsize(after), size, delta=20)
    self.assertLess(size, 10 * 300)

  def test_touched_and_moved_files_are_read_but_not_decoded(self):
    self._update()
    os.utime(os.path.join(self.root, 'cat/0.png'), (1, 1))
    os.rename(
      os.path.join(self.root, 'cat/1.png'),
      os.path.join(self.root, 'dog/moved.png'),
    )
    read, decoded, _ = self._update()
    self.assertEqual(read, ['cat/0.png', 'dog/moved.png'])
    self.assertEqual(decoded, 0)

  def test_bad_files_are_known_and_unreadable_ones_tried_again(self):
    self.file('cat/bad.png', b'no image')
    os.symlink('nowhere', os.path.join(self.root, 'dog/link.png'))
    _, _, entries = self._update()
    self.assertIn('not an image', entries['cat/bad.png'].inspection.reason)
    self.assertIn('missing', entries['dog/link.png'].inspection.reason)
    read, decoded, entries = self._update()
    self.assertEqual(({*read}, decoded), ({'dog/link.png'}, 0))
    self.assertIn('not an image', entries['cat/bad.png'].inspection.reason)

  @parameterized.parameters(
    b'', b'\n', b'{"version": 0}\n["a"]\n', b'{"version": 1}\n["cat/1', b'\xff'
  )
  def test_damaged_index_is_made_again(self, content):
    self._update()
    (path,) = self._written()
    with open(path, 'wb') as file:
      file.write(content)
    self.assertEqual(self._update()[1], 10)
    self.assertEqual(self._update()[:2], ([], 0))

  def test_folder_with_and_without_labels_has_two_indices(self):
    self._update()
    for _ in range(2):
      for scan in (folder.scan, folder.scan_unlabelled):
        index = folder_index.Index(scan(self.root), self.data_dir)
        with contextlib.redirect_stderr(io.StringIO()):
          index.update()
        index.save()
    self.assertLen(self._written(), 2)
    self.assertEqual(self._update()[:2], ([], 0))

  def test_programs_may_look_at_a_folder_at_the_same_time(self):
    indices = [
      folder_index.Index(folder.scan(self.root), self.data_dir)
      for _ in range(4)
    ]

    def work(index):
      index.update()
      index.save()

    threads = [threading.Thread(target=work, args=[each]) for each in indices]
    with contextlib.redirect_stderr(io.StringIO()):
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
    for index in indices:
      self.assertEqual(index.entries, indices[0].entries)
    self.assertLen(self._written(), 1)
    self.assertEqual(self._update()[:2], ([], 0))

  def test_long_inspection_says_how_far_it_is(self):
    printed = io.StringIO()
    with (
      mock.patch.object(progress, '_PRINT_SECONDS', 0),
      contextlib.redirect_stderr(printed),
    ):
      folder_index.Index(folder.scan(self.root), self.data_dir).update()
    self.assertRegex(
      printed.getvalue(),
      r'decoded 4 of 10 images, [\d,]+ images/s, \d+ s left\n',
    )
    self.assertRegex(printed.getvalue(), r': listed 4 images, [\d,]+ images/s')

  def test_long_inspection_is_saved_even_if_it_is_refused(self):
    self.file('cat/bad.png', b'no image')
    for seconds, written in ((3600, 0), (0, 1)):
      with (
        mock.patch.object(folder_index, '_SAVE_SECONDS', seconds),
        contextlib.redirect_stderr(io.StringIO()),
        self.assertRaisesRegex(errors.UsageError, '1 bad image'),
      ):
        self.source()
      self.assertLen(self._written(), written)
    os.remove(os.path.join(self.root, 'cat/bad.png'))
    self.assertEqual(self._update()[1], 0)

  def test_folder_that_cannot_be_written_is_refused(self):
    shutil.rmtree(self.data_dir)
    with open(self.data_dir, 'wb'):
      pass
    with self.assertRaisesRegex(
      errors.UsageError, 'cannot write the index of .*another --data_dir'
    ):
      self._update()


if __name__ == '__main__':
  absltest.main()
