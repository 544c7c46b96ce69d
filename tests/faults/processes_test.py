"""Commands side by side, and signals to those that have processes."""

import contextlib
import glob
import io
import json
import os
import re
import signal
import threading
from unittest import mock

import pytest
import tensorflow_datasets as tfds
from absl.testing import absltest

from ft_tf import errors
from ft_tf.data import builders, digits, sources, tfds_images, tfds_metadata
from tests.faults import commands


class PreparingTest(absltest.TestCase):
  def test_of_several_one_prepares_and_all_see_the_images(self):
    folder = self.create_tempdir().full_path
    kinds = [digits.Digits(data_dir=folder) for _ in range(3)]
    prepare, calls = tfds.core.DatasetBuilder.download_and_prepare, []

    def count(builder, **options):
      calls.append(builder)
      prepare(builder, **options)

    with mock.patch.object(
      tfds.core.DatasetBuilder, 'download_and_prepare', count
    ):
      threads = [
        threading.Thread(target=tfds_images.prepare, args=(kind,))
        for kind in kinds
      ]
      for thread in threads:
        thread.start()
      for thread in threads:
        thread.join()
    self.assertLen(calls, 1)
    for kind in kinds:
      self.assertEqual(kind.info.splits['train'].num_examples, 600)

  def test_what_a_killed_preparation_left_is_removed_and_said(self):
    folder = self.create_tempdir().full_path
    kind = digits.Digits(data_dir=folder)
    left = f'{folder}/digits/incomplete.ABC123_{kind.version}'
    # Of another version, and a user's own.
    kept = [f'{folder}/digits/incomplete.ABC123_0.0.1', f'{folder}/digits/mine']
    for path in (left, *kept):
      os.makedirs(path)
      with open(f'{path}/digits-train.tfrecord', 'wb') as file:
        file.write(bytes(2**20))
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
      tfds_images.prepare(kind)
    self.assertFalse(os.path.exists(left))
    for path in kept:
      self.assertTrue(os.path.exists(path))
    self.assertRegex(
      printed.getvalue(), r'digits: removed 1\.0 MiB in .*/digits that interr'
    )
    self.assertEqual(kind.info.splits['train'].num_examples, 600)

  @pytest.mark.slow
  def test_three_commands_at_once_in_a_fresh_folder(self):
    folder = self.create_tempdir().full_path
    started = [
      commands.start(
        'prepare-data', '--dataset=digits', f'--data_dir={folder}/new'
      )
      for _ in range(3)
    ]
    for process in started:
      printed, said = process.communicate()
      self.assertEqual(process.returncode, 0, said)
      self.assertEqual(
        json.loads(printed)['examples'], {'train': 600, 'test': 1197}
      )


class MetadataTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    builders.prepare('digits', data_dir=self.folder)
    # The name of a data set that TFDS reads from its files alone.
    os.rename(f'{self.folder}/digits', f'{self.folder}/strange')
    self.features = f'{self.folder}/strange/1.0.0/features.json'
    with open(self.features, encoding='utf-8') as file:
      self.written = file.read()
    self.imported = f'{self.folder}/imported'

  def _write(self, text):
    with open(self.features, 'w', encoding='utf-8') as file:
      file.write(text)

  def test_names_of_tfds_pass(self):
    tfds_metadata.check('strange', self.folder)

  def test_damaged_metadata_is_a_line(self):
    for name in ('features.json', 'dataset_info.json'):
      path = f'{self.folder}/strange/1.0.0/{name}'
      with open(path, encoding='utf-8') as file:
        whole = file.read()
      for content in (whole[:-9].encode(), b'', b'\xff\xfe'):
        with open(path, 'wb') as file:
          file.write(content)
        with self.assertRaisesRegex(
          errors.UsageError, 'TFDS cannot read the files of strange .*put back'
        ):
          builders.open_images('strange', data_dir=self.folder)
      with open(path, 'w', encoding='utf-8') as file:
        file.write(whole)

  def test_images_of_four_dimensions_are_a_line(self):
    features = json.loads(self.written)
    image = features['featuresDict']['features']['image']['image']
    image['shape']['dimensions'].append('1')
    self._write(json.dumps(features))
    with self.assertRaisesRegex(errors.UsageError, 'strange .*put back'):
      builders.open_images('strange', data_dir=self.folder)

  def test_damaged_record_is_a_line(self):
    (path,) = glob.glob(f'{self.folder}/strange/1.0.0/*-test.*')
    with open(path, 'rb') as file:
      content = bytearray(file.read())
    # Within the image of the first record.
    content[content.index(b'IHDR') + 5] ^= 0xFF
    with open(path, 'wb') as file:
      file.write(content)
    os.rename(f'{self.folder}/strange', f'{self.folder}/digits')
    source = sources.Source('digits', data_dir=self.folder)
    with self.assertRaisesRegex(errors.TrainingError, 'cannot be decoded'):
      source.read('test')
    source.keep_in_files()
    with self.assertRaisesRegex(errors.TrainingError, 'cannot be decoded'):
      source.read('test').images[:1]

  def test_module_of_another_name_is_not_imported(self):
    own = '"tensorflow_datasets.core.features.image_feature.Image"'
    nested = json.dumps(json.dumps({'type': 'evil.Image'}))
    for text in (
      self.written.replace(own, '"evil.Image"'),
      self.written.replace('pythonClassName', 'python_class_name').replace(
        own, '"evil.Image"'
      ),
      # The second of two keys is the one that readers take.
      self.written.replace(own, f'{own}, "pythonClassName": "evil.Image"'),
      self.written.replace(own, f'"evil.Image", "pythonClassName": {own}'),
      '{"type": "evil.Image", "content": {}}',
      f'{{"jsonFeature": {{"json": {nested}}}}}',
    ):
      self.assertIn('evil', text)
      self._write(text)
      with self.assertRaisesRegex(
        errors.UsageError, "features.json would import .* 'evil'"
      ):
        builders.open_images('strange', data_dir=self.folder)

  def test_name_that_only_begins_like_tfds_is_another(self):
    self._write('{"pythonClassName": "tensorflow_datasets_evil.x.Image"}')
    with self.assertRaisesRegex(errors.UsageError, 'tensorflow_datasets_evil'):
      tfds_metadata.check('strange:1.0.0', self.folder)


class JobsTest(absltest.TestCase):
  @pytest.mark.slow
  def test_signal_to_a_comparison_reaches_its_processes(self):
    folder = self.create_tempdir().full_path
    runs = [f'{folder}/w/runs/scratch-{seed}' for seed in (0, 1)]
    process = commands.start(
      *('compare', '--recipe=digits', '--methods=scratch', '--seeds=2'),
      *('--teacher=resnet8x0.25', '--student=resnet8x0.25', '--jobs=2'),
      *('--teacher_epochs=1', '--student_epochs=2000', '--progress=off'),
      *(f'--data_dir={folder}/data', f'--workdir={folder}/w'),
    )
    code, line = commands.stop(
      process, signal.SIGTERM, lambda: all(map(commands.rows, runs))
    )
    self.assertEqual(code, 143, line)
    self.assertStartsWith(line, 'ft-tf compare: stopped by SIGTERM at step')
    for run in runs:
      step = re.search(rf'at step ([\d,]+) of [^/]* in {run}\b', line)
      self.assertIsNotNone(step, line)
      names = os.listdir(f'{run}/checkpoints')
      self.assertIn(f'ckpt-{step[1].replace(",", "")}.index', names)


if __name__ == '__main__':
  absltest.main()
