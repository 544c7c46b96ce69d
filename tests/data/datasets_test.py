"""The images of a run: validation, unlabelled images, sizes and memory."""

import dataclasses
import os
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest
from PIL import Image

from ft_tf import catalogue, errors, recipe_flags
from ft_tf.data import (
  datasets,
  example_sets,
  image_ops,
  memory,
  records,
  sources,
)

_FOLDER = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))


def tearDownModule():
  _FOLDER.cleanup()


def _source(name, **kwargs):
  return sources.Source(name, data_dir=_FOLDER.name, **kwargs)


def _dataset(**kwargs):
  return datasets.Dataset(_source('digits'), **kwargs)


def _keys(examples):
  """Returns each image as bytes: those of the digits are all different."""
  return [image.tobytes() for image in examples.images]


class DatasetTest(absltest.TestCase):
  def test_validation_and_train_share_no_image_and_leave_out_none(self):
    dataset = _dataset(validation_examples=100)
    train, validation = _keys(dataset.train), _keys(dataset.validation)
    self.assertLen(validation, 100)
    self.assertLen(train, 500)
    every = _keys(_source('digits').read('train'))
    self.assertTrue(sorted(train + validation) == sorted(every))

  def test_validation_is_never_from_test(self):
    dataset = _dataset(validation_examples=100)
    self.assertEmpty(set(_keys(dataset.validation)) & set(_keys(dataset.test)))
    self.assertLen(dataset.test, 1197)

  def test_labels_go_with_their_images(self):
    every = _source('digits').read('train')
    label = dict(zip(_keys(every), every.labels, strict=True))
    dataset = _dataset(validation_examples=100)
    for part in (dataset.train, dataset.validation):
      self.assertEqual([label[key] for key in _keys(part)], list(part.labels))

  def test_validation_is_a_mixed_choice_and_not_the_head_of_the_file(self):
    head = _keys(_source('digits').read('train'))[:100]
    validation = _keys(_dataset(validation_examples=100).validation)
    self.assertLess(len(set(head) & set(validation)), 40)

  def test_validation_is_the_same_for_every_seed_of_a_recipe(self):
    chosen = []
    for seed in (0, 1):
      recipe = recipe_flags.override(
        catalogue.digits(),
        {'seed': seed, 'view_seed': seed, 'validation_examples': 100},
      )
      dataset = datasets.Dataset.from_recipe(recipe.data, _FOLDER.name)
      chosen.append(_keys(dataset.validation))
    self.assertLen(chosen[0], 100)
    self.assertTrue(chosen[0] == chosen[1])  # A diff would be pages long.

  def test_recipe_decides_splits_and_size(self):
    data = dataclasses.replace(
      catalogue.digits().data,
      train_split='train[:50%]',
      test_split='test[:10]',
      validation_examples=20,
      image_size=10,
    )
    dataset = datasets.Dataset.from_recipe(data, _FOLDER.name)
    self.assertEqual(dataset.image_shape, (10, 10, 1))
    self.assertEqual(dataset.train.images.shape, (280, 10, 10, 1))
    self.assertLen(dataset.validation, 20)
    self.assertLen(dataset.test, 10)

  def test_without_validation_examples_all_images_are_trained_on(self):
    dataset = _dataset()
    self.assertEmpty(dataset.validation)
    np.testing.assert_array_equal(
      dataset.train.images, _source('digits').read('train').images
    )

  def test_more_validation_examples_than_images_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError,
      'train of digits has 600 images: --validation_examples=600 leaves none',
    ):
      _dataset(validation_examples=600).read()

  def test_read_shows_at_once_that_the_test_split_is_wrong(self):
    with self.assertRaisesRegex(errors.UsageError, "no split 'tset'"):
      _dataset(test_split='tset').read()


class UnlabelledTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._root = self.create_tempdir().full_path
    for number in range(5):
      Image.new('L', (30, 20), 50 * number).save(
        os.path.join(self._root, f'{number}.png')
      )

  def _dataset(self, **values):
    data = dataclasses.replace(
      catalogue.digits().data,
      validation_examples=100,
      unlabeled=self._root,
      **values,
    )
    return datasets.Dataset.from_recipe(data, _FOLDER.name)

  def test_unlabelled_images_follow_the_labelled_ones(self):
    dataset = self._dataset()
    train, every = dataset.train, dataset.every
    self.assertLen(train, 500)
    self.assertLen(every, 505)
    self.assertAlmostEqual(dataset.labelled_share, 500 / 505)
    np.testing.assert_array_equal(every.images[:500], train.images)
    np.testing.assert_array_equal(every.labels[:500], train.labels)
    np.testing.assert_array_equal(
      every.labels[500:], [example_sets.UNLABELLED] * 5
    )
    np.testing.assert_array_equal(
      every.images[500:, 8, 8, 0], [0, 50, 100, 150, 200]
    )

  def test_without_them_every_image_has_a_label(self):
    dataset = _dataset()
    self.assertIs(dataset.every, dataset.train)
    self.assertEqual(dataset.labelled_share, 1)

  def test_other_pictures_make_another_data_set(self):
    before = self._dataset().fingerprint
    self.assertEqual(self._dataset().fingerprint, before)
    Image.new('L', (8, 8)).save(os.path.join(self._root, 'more.png'))
    self.assertNotEqual(self._dataset().fingerprint, before)

  def test_rehearsals_see_some_of_both(self):
    part = self._dataset().part(16)
    self.assertLen(part.train, 14)
    self.assertLen(part.every, 19)


class SmallerTest(absltest.TestCase):
  def test_every_part_is_made_smaller_and_labels_stay(self):
    dataset = _dataset(validation_examples=100)
    smaller = dataset.at(4)
    self.assertEqual(smaller.image_shape, (4, 4, 1))
    for name in ('train', 'every', 'validation', 'test'):
      ours, theirs = getattr(smaller, name), getattr(dataset, name)
      np.testing.assert_array_equal(ours.labels, theirs.labels)
      np.testing.assert_array_equal(
        ours.images, image_ops.shrink(tf.constant(theirs.images), (4, 4))
      )
    self.assertIs(dataset.at(4), smaller)
    self.assertEqual(dataset.part(16).at(4).train.images.shape, (14, 4, 4, 1))

  def test_own_size_is_the_data_set_itself(self):
    dataset = _dataset()
    self.assertIs(dataset.at(0), dataset)
    self.assertIs(dataset.at(8), dataset)

  def test_height_and_width_may_differ(self):
    dataset = _dataset()
    smaller = dataset.at('4x6')
    self.assertEqual(smaller.image_shape, (4, 6, 1))
    self.assertEqual(smaller.test.images.shape[1:], (4, 6, 1))
    self.assertEqual(smaller.part(16).train.images.shape, (16, 4, 6, 1))
    self.assertIs(dataset.for_model((4, 6, 1)), smaller)
    self.assertIs(dataset.for_model((4, 9, 1)), dataset)

  def test_larger_images_are_refused(self):
    with self.assertRaisesRegex(
      errors.UsageError, '--student_image_size=16: .* 8x8, made smaller'
    ):
      _dataset().at(16)
    with self.assertRaisesRegex(errors.UsageError, '_size=4x9: .* 8x8, made'):
      _dataset().at('4x9')


class MemoryTest(absltest.TestCase):
  """The memory of digits: 600 training and 1,197 test images of 64 bytes."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())

  def _dataset(self, free, **values):
    recipe = recipe_flags.override(
      catalogue.digits(), {'image_size': 0, **values}
    )
    with mock.patch.object(memory, 'available_bytes', lambda: free):
      dataset = datasets.Dataset.from_recipe(recipe.data, self.folder)
      dataset.read()
    return dataset

  def test_all_splits_and_copies_count_together(self):
    # Training images are copied once; a quarter of the memory stays free.
    wanted = 64 * (2 * 600 + 1197)
    in_memory = self._dataset(wanted / 0.75 + 1)
    stored = self._dataset(wanted / 0.75 - 1)
    for split in ('train', 'validation', 'test'):
      first, second = (getattr(each, split) for each in (in_memory, stored))
      self.assertIsInstance(first, example_sets.Examples)
      self.assertIsInstance(second, records.StoredExamples)
      np.testing.assert_array_equal(first.images, second.images[:])
      np.testing.assert_array_equal(first.labels, second.labels)

  def test_parts_of_splits_count_as_they_are(self):
    wanted = 64 * (2 * 60 + 1197)
    values = {'train_split': 'train[:10%]', 'validation_examples': 8}
    for free, kind in (
      (wanted / 0.75 + 1, example_sets.Examples),
      (wanted / 0.75 - 1, records.StoredExamples),
    ):
      self.assertIsInstance(self._dataset(free, **values).train, kind)

  def test_split_alone_is_checked_too(self):
    source = sources.Source('digits', data_dir=self.folder)
    with mock.patch.object(memory, 'available_bytes', lambda: 64 * 1197):
      self.assertIsInstance(source.read('test'), records.StoredExamples)

  def test_streams_share_one_tensor(self):
    dataset = self._dataset(2**40)
    self.assertIs(dataset.train.tensor, dataset.train.tensor)
    np.testing.assert_array_equal(dataset.train.tensor, dataset.train.images)


if __name__ == '__main__':
  absltest.main()
