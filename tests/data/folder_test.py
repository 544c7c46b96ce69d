"""The layout of a folder: classes, splits, skipped names, refused layouts."""

import os
import unicodedata

from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.data import folder, messages


class _Case(parameterized.TestCase):
  """Empty files in a folder: only their names matter."""

  def setUp(self):
    super().setUp()
    self.root = self.create_tempdir().full_path

  def _files(self, *paths):
    for path in paths:
      path = os.path.join(self.root, path)
      os.makedirs(os.path.dirname(path), exist_ok=True)
      with open(path, 'wb'):
        pass

  def _classes(self, split='', names=('crab', 'eel'), count=5):
    for name in names:
      self._files(
        *(os.path.join(split, name, f'{i}.png') for i in range(count))
      )

  def _notes(self):
    return '\n'.join(folder.scan(self.root).notes)

  def _refused(self, pattern):
    with self.assertRaisesRegex(errors.UsageError, pattern) as caught:
      folder.scan(self.root)
    self.assertNotIn('\n', str(caught.exception))


class SkippedTest(_Case):
  @parameterized.parameters(
    '.ipynb_checkpoints',
    '.git',
    '.@__thumb',
    '@eaDir',
    '#recycle',
    '$RECYCLE.BIN',
    '__MACOSX',
    '__pycache__',
    'lost+found',
    'System Volume Information',
  )
  def test_system_folders_are_skipped_and_listed(self, name):
    self._classes()
    for parent in ('', 'crab', 'eel/deep'):
      self._files(os.path.join(parent, name, 'copy.png'))
    self._files('eel/deep/x.png')
    listing = folder.scan(self.root)
    self.assertEqual(listing.classes, ('crab', 'eel'))
    paths = [path for files in listing.splits.values() for path, _ in files]
    self.assertLen(paths, 11)
    self.assertNotIn(name, '/'.join(paths))
    self.assertIn('skipped hidden or system names (3): ', str(listing))
    self.assertIn(name, listing.notes[-1])
    self.assertCountEqual(listing.statuses, paths)

  def test_system_files_are_no_images(self):
    self._classes()
    self._files(
      'crab/._1.png',
      'crab/Thumbs.db',
      'eel/.DS_Store',
      'eel/1.jpg@SynoEAStream',
    )
    listing = folder.scan(self.root)
    self.assertLen(listing.splits['train'] + listing.splits['test'], 10)
    self.assertIn('skipped hidden or system names (4): ', listing.notes[-1])

  def test_other_files_are_counted_by_suffix_and_named(self):
    self._classes()
    self._files('list.csv', 'crab/a.xml', 'crab/b.xml', 'eel/clip.mp4', 'eel/x')
    self._files('eel/phone.HEIC')
    notes = self._notes()
    self.assertIn('skipped 6 files', notes)
    self.assertIn('2 .xml', notes)
    self.assertIn('1 without a suffix', notes)
    self.assertIn('convert .heic to JPEG', notes)

  @parameterized.parameters(
    'a.tif', 'a.TIFF', 'a.gif', 'a.jfif', 'a.jpe', 'a.ppm', 'a.ico', 'a.avif'
  )
  def test_class_of_other_formats_is_read(self, name):
    self._classes()
    self._files(*(f'squid/{i}{name}' for i in range(5)))
    self.assertIn('squid', folder.scan(self.root).classes)

  @parameterized.parameters('a.txt', 'a.heic', 'a.mp4', 'a.pdf', '.hidden.png')
  def test_class_without_an_image_is_refused_with_what_it_has(self, name):
    self._classes()
    self._files(f'squid/deep/{name}')
    has = '' if name.startswith('.') else rf' \(it has 1 {name[1:]}.*\)'
    self._refused(f'squid has no readable image{has}: add images')

  def test_empty_class_is_refused_in_any_part(self):
    self._classes('train')
    self._classes('test')
    os.makedirs(os.path.join(self.root, 'test', 'eel', 'again'))
    for i in range(5):
      os.remove(os.path.join(self.root, f'test/eel/{i}.png'))
    self._refused('test/eel has no readable image')


class LayoutTest(_Case):
  @parameterized.parameters(
    ('train', 'test'),
    ('training', 'testing'),
    ('Train', 'Test'),
    ('TRAIN', 'TST'),
    ('training_set', 'test_set'),
    ('train-images', 'testData'),
    ('train2017', 'test2017'),
  )
  def test_usual_names_are_splits(self, train, test):
    self._classes(train)
    self._classes(test, count=2)
    listing = folder.scan(self.root)
    self.assertEqual(listing.classes, ('crab', 'eel'))
    self.assertEqual([*listing.splits], ['train', 'test'])
    self.assertLen(listing.splits['train'], 10)
    self.assertLen(listing.splits['test'], 4)
    self.assertIn(
      f'{train}/ is the train split; {test}/ is the test split', self._notes()
    )

  @parameterized.parameters('val', 'Valid', 'validation', 'DEV', 'val_images')
  def test_validation_is_a_split_of_its_own(self, name):
    self._classes('train', count=10)
    self._classes(name, count=3)
    listing = folder.scan(self.root)
    self.assertEqual(
      {part: len(files) for part, files in listing.splits.items()},
      {'train': 16, 'validation': 6, 'test': 4},
    )
    self.assertIn(f'{name}/ is the validation split', self._notes())
    self.assertIn('every fifth image of each class in train/', self._notes())
    self.assertIn(f'--test_split=validation measures on {name}/', self._notes())
    self._classes('test', count=2)
    self.assertLen(folder.scan(self.root).splits['train'], 20)
    self.assertLen(folder.scan(self.root).splits['test'], 4)

  @parameterized.parameters(
    (
      ('train', 'training'),
      'two folders of the train split, train/ and',
    ),
    (
      ('train', 'val', 'dev'),
      'two folders of the validation split, dev/',
    ),
    (('test',), 'has test/ and no train/: arrange'),
    (('val', 'Testing'), 'has Testing/ and no train/: arrange'),
    (('train', 'eval'), 'eval/ can be for validation or for testing: rename'),
    (('train', 'extra'), 'has train/, which is the name .* and extra/'),
  )
  def test_ambiguous_splits_are_refused(self, parts, pattern):
    for part in parts:
      self._classes(part)
    self._refused(pattern)

  @parameterized.parameters(
    ('train/9.png', 'train/, which is the name of a split, and crab/'),
    ('test/9.png', 'test/, which is the name of a split, and crab/'),
    ('9.png', r'has images \(9.png\) and class folders \(crab, eel\): move'),
    (
      'crab/train/9.png',
      'crab is a class folder that contains train/, .* arrange',
    ),
    ('crab/a/Test/9.png', 'crab is a class folder that contains Test/, '),
  )
  def test_ambiguous_class_is_refused(self, path, pattern):
    self._classes()
    self._files(path)
    self._refused(pattern)

  @parameterized.parameters(
    ('flowers_train', 'flowers_test'),
    ('TrainV2', 'TestV2'),
    ('my training', 'my validation'),
    ('train_a', 'holdout_a'),
  )
  def test_folders_that_look_like_splits_are_no_classes(self, train, test):
    self._classes(train)
    self._classes(test)
    self._refused(f'has {train}/ and {test}/, which look like splits: rename')

  def test_splits_within_a_split_are_no_classes(self):
    for part in ('train', 'val', 'test'):
      self._classes(f'train/{part}')
    self._refused('train has train/ and test/, which look like splits')

  def test_words_of_splits_may_be_in_the_names_of_classes(self):
    names = ('train station', 'trainer', 'contest', 'developer', 'validity')
    self._classes(names=names)
    self.assertCountEqual(folder.scan(self.root).classes, names)
    # Such a class name is allowed where it is clearly a class.
    self._classes('train', names=('train', 'crab'))
    for name in names:
      os.rename(
        os.path.join(self.root, name), os.path.join(self.root, 'train', name)
      )
    self.assertIn('train', folder.scan(self.root).classes)

  def test_equal_subfolders_of_all_classes_are_reported(self):
    self._classes('lernen')
    self._classes('proben')
    self.assertIn('contain the same folders (crab, eel)', self._notes())
    self._files('lernen/squid/1.png')
    self.assertNotIn('same folders', self._notes())

  def test_images_without_class_folders_are_refused(self):
    self._files('train/1.png', 'test/2.png')
    self._refused('train has images without class folders, 1.png: arrange')
    self._classes('train')
    self._refused(r'train has images \(1.png\) and class folders \(crab, eel\)')

  def test_names_outside_the_splits_are_listed(self):
    self._classes('train')
    self._classes('test')
    self._files('unlabeled/1.png', 'docs/read.md', 'preview.png')
    self.assertIn(
      'skipped names outside the splits (3): docs, unlabeled, preview.png',
      self._notes(),
    )

  def test_too_little_is_refused_with_the_layout(self):
    with self.assertRaisesRegex(errors.UsageError, 'there is no folder .*miss'):
      folder.scan(os.path.join(self.root, 'missing'))
    self._refused('has no class folder with images: arrange .*train/<class>')
    self._files('crab/1.png')
    self._refused('one class, crab')
    with self.assertRaisesRegex(
      errors.UsageError, '1.png is a file: --dataset'
    ):
      folder.scan(os.path.join(self.root, 'crab/1.png'))
    self._files('eel/1.png')
    self._refused('no test images: add test/')

  def test_error_names_the_folder_that_contains_the_classes(self):
    self._classes('all')
    self._refused(f'one class, all.* give folder:{self.root}/all')
    self._classes('all/train')
    self._refused(f'that contains train/, .*give folder:{self.root}/all')

  def test_classes_of_tests_are_those_of_training(self):
    self._classes('train')
    self._classes('test', ('crab', 'fox'))
    self._refused('test has classes that train does not have: fox')

  def test_class_without_test_images_is_reported(self):
    self._classes('train')
    self._classes('test', ('crab',))
    self.assertIn('no test images of eel', self._notes())

  @parameterized.parameters('', '  ')
  def test_folder_without_a_path_is_refused(self, path):
    with self.assertRaisesRegex(
      errors.UsageError, 'give --dataset=folder:PATH'
    ):
      folder.scan(path)

  def test_tilde_is_the_home_folder(self):
    self._classes()
    home = os.environ.get('HOME')
    self.addCleanup(
      lambda: os.environ.update(HOME=home) if home else os.environ.pop('HOME')
    )
    os.environ['HOME'] = os.path.dirname(self.root)
    path = os.path.join('~', os.path.basename(self.root))
    self.assertEqual(folder.scan(path).root, self.root)

  def test_images_below_a_class_are_used_and_the_split_is_always_the_same(self):
    self._classes(count=20)
    self._files('eel/young/1.png', 'eel/young/grey/1.png')
    listing = folder.scan(self.root)
    self.assertLen(listing.splits['train'] + listing.splits['test'], 42)
    self.assertEmpty({*listing.splits['train']} & {*listing.splits['test']})
    self.assertEqual(folder.scan(self.root), listing)


class NamesTest(_Case):
  @parameterized.parameters(
    'a\nb',
    'a\rb',
    'tab\t',
    'esc\x1b[0m',
    'line\u2028end',
    'next\x85',
    ' crab',
    'crab ',
  )
  def test_class_name_that_is_no_line_of_text_is_refused(self, name):
    self._classes(names=('crab', 'eel', name))
    self._refused('class folder .* which labels.txt cannot hold: rename it')

  def test_names_that_are_not_utf8(self):
    self._classes()
    with open(os.fsencode(self.root) + b'/eel/\xe9t\xe9.png', 'wb'):
      pass
    listing = folder.scan(self.root)
    paths = [path for files in listing.splits.values() for path, _ in files]
    self.assertLen(paths, 11)
    self.assertIn(r'\xe9t\xe9.png', '/'.join(map(messages.printable, paths)))
    os.makedirs(os.fsencode(self.root) + b'/\xff')
    with open(os.fsencode(self.root) + b'/\xff/1.png', 'wb'):
      pass
    self._refused(r"class folder '\\xff' .* not UTF-8")

  @parameterized.parameters(
    ('Eel', 'eel'), (unicodedata.normalize('NFD', 'née'), 'née')
  )
  def test_similar_class_names_are_reported(self, *names):
    self._classes(names=('crab', *names))
    self.assertLen(folder.scan(self.root).classes, 3)
    self.assertIn('differ only in case or in Unicode form', self._notes())

  def test_names_in_any_script_and_with_signs_are_classes(self):
    names = ('0', '#', '@home', '$', 'crème brûlée', '犬', 'می‌خواهم', 'a,b;c')
    self._classes(names=names)
    listing = folder.scan(self.root)
    self.assertCountEqual(listing.classes, names)
    self.assertNotIn('skipped', ''.join(listing.notes))


class LinksTest(_Case):
  def _link(self, path, target):
    os.makedirs(os.path.dirname(os.path.join(self.root, path)), exist_ok=True)
    os.symlink(target, os.path.join(self.root, path))

  def test_links_to_folders_and_files_are_followed(self):
    elsewhere = self.create_tempdir().full_path
    for i in range(5):
      with open(os.path.join(elsewhere, f'{i}.png'), 'wb'):
        pass
    self._classes()
    self._link('squid', elsewhere)
    self._link('crab/more', elsewhere)
    self._link('eel/9.png', os.path.join(elsewhere, '0.png'))
    listing = folder.scan(self.root)
    self.assertEqual(listing.classes, ('crab', 'eel', 'squid'))
    self.assertLen(listing.splits['train'] + listing.splits['test'], 21)

  @parameterized.parameters('nowhere', '.', 'squid')
  def test_class_that_is_a_broken_link_is_refused(self, target):
    self._classes()
    self._link('squid', target)
    self._refused('squid is a broken link, or a link to .* contains it: fix')

  def test_split_that_is_a_broken_link_is_refused(self):
    self._classes('train')
    self._link('test', 'nowhere')
    self._refused('test is a broken link')

  @parameterized.parameters('..', '../..', 'again')
  def test_looping_links_within_a_class_are_skipped_and_named(self, target):
    self._classes()
    self._link('crab/a/again', target)
    listing = folder.scan(self.root)
    self.assertLen(listing.splits['train'] + listing.splits['test'], 10)
    self.assertIn(
      'skipped broken or looping links (1)',
      listing.notes[-1],
    )
    self.assertIn('crab/a/again', listing.notes[-1])

  def test_folder_that_cannot_be_read_is_refused(self):
    self._classes()
    scandir = os.scandir

    def denied(path):
      if path.endswith('eel'):
        raise PermissionError(13, 'Permission denied')
      return scandir(path)

    with absltest.mock.patch.object(os, 'scandir', denied):
      self._refused(r'cannot read the folder .*eel \(Permission denied\): make')


class UnlabelledTest(_Case):
  def test_images_at_any_depth_are_used(self):
    self._files('a.png', 'deep/er/b.jpg', 'train/c.tif', '.git/d.png', 'e.txt')
    listing = folder.scan_unlabelled(self.root)
    self.assertEqual(
      [path for path, _ in listing.splits['train']],
      ['a.png', 'deep/er/b.jpg', 'train/c.tif'],
    )
    self.assertLen(listing.notes, 2)

  def test_folder_without_images_is_refused(self):
    self._files('e.txt')
    for root, reason in (
      (self.root, r'has no readable image: .* depth \(it has 1 .txt\)'),
      (os.path.join(self.root, 'missing'), 'no folder .*missing: --unlabeled'),
    ):
      with self.assertRaisesRegex(errors.UsageError, reason):
        folder.scan_unlabelled(root)


if __name__ == '__main__':
  absltest.main()
