"""Examples that stay in files: random access, joined sets, both resizings."""

import functools
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf.data import (
  datasets,
  example_sets,
  image_ops,
  memory,
  records,
  stores,
  views,
)
from tests import fixtures, scenes


def setUpModule():
  scenes.prepare()


@functools.cache
def _train():
  """Returns the images to train on; they do not change, and tests share them.

  Reading them compiles a program for each that is opened.
  """
  return scenes.source().read('train')


class StoredExamplesTest(absltest.TestCase):
  def test_images_and_labels_are_those_of_the_files_in_their_order(self):
    examples = _train()
    self.assertLen(examples, scenes.COUNT)
    self.assertEqual(examples.images.shape, (scenes.COUNT, 32, 32, 3))
    builder = scenes.TinyScenes(data_dir=scenes.FOLDER.name)
    wanted = [
      int(example['label']) for example in builder.as_data_source('train')
    ]
    np.testing.assert_array_equal(examples.labels, wanted)
    self.assertEqual(examples.labels.dtype, np.int64)
    blue = examples.images[:][:, 16, 16, 2]
    np.testing.assert_array_equal(blue, 6 * examples.labels)

  def test_images_are_read_like_an_array(self):
    images = _train().images
    whole = images[:]
    self.assertEqual(whole.dtype, np.uint8)
    self.assertEqual(images[3].shape, (32, 32, 3))
    np.testing.assert_array_equal(images[3], whole[3])
    np.testing.assert_array_equal(images[5:9], whole[5:9])
    np.testing.assert_array_equal(images[38:99], whole[38:])
    chosen = np.array([7, 2, 2])
    np.testing.assert_array_equal(images[chosen], whole[chosen])
    self.assertEqual(images[40:].shape, (0, 32, 32, 3))
    with self.assertRaises(IndexError):
      images[40]

  def test_take_returns_the_chosen_examples(self):
    every = _train()
    some = every.take(np.array([9, 4, 30])).take(np.array([2, 0]))
    np.testing.assert_array_equal(some.labels, every.labels[[30, 9]])
    np.testing.assert_array_equal(
      some.images[:], every.images[np.array([30, 9])]
    )

  def test_digest_depends_on_images_and_order(self):
    every = _train()
    again = scenes.source().read('train')
    self.assertEqual(every.digest, again.digest)
    different = [every.take(np.arange(39)), every.take(np.arange(40)[::-1])]
    digests = {examples.digest for examples in (every, *different)}
    self.assertLen(digests, 3)

  def test_digest_is_of_every_record(self):
    records_of = [bytes([i % 251, i // 251]) for i in range(3000)]

    def digest(contents):
      examples = records.StoredExamples(
        stores.RecordFiles(
          len(contents),
          lambda positions: [contents[p] for p in positions],
          None,
          classes=1,
        ),
        image_shape=(1, 1, 1),
        indices=np.arange(len(contents)),
      )
      return examples.digest

    first = digest(records_of)
    for place in (0, 1, 1500, 2998, 2999):
      changed = [*records_of]
      changed[place] = b'other'
      self.assertNotEqual(digest(changed), first)
    # The boundaries between records count, too.
    self.assertNotEqual(digest([b'ab', b'c']), digest([b'a', b'bc']))

  def test_other_resizing_uses_the_whole_image(self):
    source = scenes.source()
    whole = source.with_other_resizing()
    images = whole.read('train').images
    # The whole of a gradient reaches both ends, its middle neither.
    self.assertLess(images[3][0, 0, 0], 8)
    self.assertGreater(images[3][-1, -1, 1], 247)
    stretched = scenes.source(resizing='stretch')
    np.testing.assert_array_equal(images[:], stretched.read('train').images)
    # And the other way, from files with and without random access.
    for name in ('tiny_scenes', 'tiny_stream'):
      back = (
        scenes.source(name, resizing='stretch')
        .with_other_resizing()
        .read('train')
      )
      by_blue = {int(image[0, 0, 2]): image for image in back.images[:]}
      for image, label in zip(_train().images[:], _train().labels, strict=True):
        np.testing.assert_array_equal(by_blue[6 * label], image)

  def test_images_need_not_be_square(self):
    examples = scenes.source(image_size='20x32').read('train')
    self.assertEqual(examples.images.shape, (scenes.COUNT, 20, 32, 3))
    stored = fixtures.gradient(43, 87)
    stored[..., 2] = 18
    # The largest part of 20 to 32 has 43 x 68.8 pixels; 7/8 of them.
    part = Image.fromarray(stored[2:40, 13:73]).resize(
      (32, 20), Image.Resampling.BILINEAR
    )
    image = examples.images[examples.labels.tolist().index(3)]
    difference = image.astype(int) - np.array(part).astype(int)
    self.assertLess(np.abs(difference).max(), 2)
    chance = np.full((2, 3), 0.3, np.float32)
    images, _ = examples.augment(tf.constant([0, 1]), chance, flip=True)
    self.assertEqual(images.shape, (2, 20, 32, 3))

  def test_smaller_images_show_the_same_part(self):
    examples = scenes.source(image_size='20x32').read('train')
    same = examples.resized((10, 16)).take(np.arange(3))
    self.assertEqual(same.preprocessing.sizes, ((10, 16),))
    self.assertEqual(same.images[:].shape, (3, 10, 16, 3))
    # Otherwise the part would be square too.
    square = examples.resized((16, 16)).take(np.arange(3))
    self.assertEqual(square.preprocessing.sizes, ((20, 32), (16, 16)))
    np.testing.assert_array_equal(
      square.images[:],
      [image_ops.resize(image, (16, 16)) for image in examples.images[:3]],
    )
    self.assertEqual(
      square.resized((8, 8)).preprocessing.sizes, ((20, 32), (8, 8))
    )
    chance = np.full((2, 3), 0.3, np.float32)
    index = tf.constant([0, 1])
    of_teacher, of_student = (
      each.augment(index, chance, flip=False)[0] for each in (examples, square)
    )
    np.testing.assert_array_equal(
      of_student, [image_ops.resize(image, (16, 16)) for image in of_teacher]
    )

  def test_preprocessing_describes_the_steps(self):
    crop = _train().take(np.arange(3))
    self.assertEqual(
      crop.resized((16, 16)).preprocessing,
      image_ops.Preprocessing('crop', ((16, 16),)),
    )
    self.assertEqual(
      crop.preprocessing.as_json((32, 32, 3)),
      {
        'resizing': 'crop',
        'sizes': [[32, 32]],
        'central_fraction': 0.875,
        'interpolation': 'bilinear',
        'antialias': True,
        'height': 32,
        'width': 32,
        'channels': 3,
        'dtype': 'uint8',
        'range': [0, 255],
      },
    )

  def test_splits_share_no_image(self):
    dataset = datasets.Dataset(scenes.source(), validation_examples=8)
    train, validation = dataset.train.labels, dataset.validation.labels
    self.assertLen(validation, 8)
    self.assertCountEqual([*train, *validation], range(scenes.COUNT))


class JoinedTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.some = _train().take(np.arange(10))
    unlabelled = scenes.source().read('test').take(np.arange(5, 8))
    cls.joined = cls.some.joined(unlabelled)

  def test_unlabelled_images_follow_the_labelled_ones(self):
    some, joined = self.some, self.joined
    self.assertLen(joined, 13)
    self.assertEqual(joined.labelled, 10)
    self.assertEqual(joined.resized((16, 16)).labelled, 10)
    self.assertEqual(joined.take(np.array([1, 9, 10])).labelled, 2)
    np.testing.assert_array_equal(joined.labels[:10], some.labels)
    np.testing.assert_array_equal(joined.labels[10:], [-1] * 3)
    np.testing.assert_array_equal(joined.images[:10], some.images[:])
    np.testing.assert_array_equal(
      joined.images[10:], scenes.source().read('test').images[5:8]
    )
    # In any order, the two kinds mixed.
    mixed = np.array([11, 3, 12, 0])
    np.testing.assert_array_equal(joined.images[mixed], joined.images[:][mixed])
    self.assertNotEqual(joined.digest, some.digest)

  def test_streams_show_both(self):
    some, joined = self.some, self.joined
    data = scenes.recipe(batch_size=13).data
    stream = views.stream(joined, data, seed=0, first_step=0, last_step=1)
    (batch,) = stream.as_numpy_iterator()
    self.assertCountEqual(batch['label'], [*some.labels, -1, -1, -1])
    view = views.read_view(joined, data, 0)
    whole = np.concatenate(list(view.as_numpy_iterator()))
    place = {label: i for i, label in enumerate(some.labels)}
    for image, label in zip(batch['image'], batch['label'], strict=True):
      if label >= 0:
        np.testing.assert_array_equal(image, whole[place[label]])

  def test_smaller_ones_come_from_the_files(self):
    some, joined = self.some, self.joined
    smaller = joined.resized((16, 16))
    self.assertEqual(smaller.images[:].shape, (13, 16, 16, 3))
    np.testing.assert_array_equal(smaller.labels, joined.labels)
    # About what the larger ones show; a gradient has no fine detail.
    np.testing.assert_allclose(
      np.float32(smaller.images[:10]),
      image_ops.shrink(tf.constant(some.images[:]), (16, 16)),
      atol=12,
    )


class StretchTest(parameterized.TestCase):
  """Whole images that stay in their files are those that are in memory."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.in_memory = scenes.source(resizing='stretch', image_size=20).read(
      'train'
    )
    with mock.patch.object(memory, 'available_bytes', lambda: 0):
      cls.stored = scenes.source(resizing='stretch', image_size=20).read(
        'train'
      )

  def test_one_is_in_memory_and_the_other_in_its_files(self):
    self.assertIsInstance(self.in_memory, example_sets.Examples)
    self.assertIsInstance(self.stored, records.StoredExamples)

  def test_evaluation_sees_the_same(self):
    np.testing.assert_array_equal(self.stored.images[:], self.in_memory.images)
    np.testing.assert_array_equal(self.stored.labels, self.in_memory.labels)
    self.assertEqual(self.stored.preprocessing, self.in_memory.preprocessing)

  def test_training_sees_the_same(self):
    data = scenes.recipe(
      image_size=20, resizing='stretch', pad=3, **fixtures.AUGMENTED
    ).data
    streams = [
      views.stream(each, data, seed=1, first_step=3, last_step=12)
      for each in (self.stored, self.in_memory)
    ]
    for stored, in_memory in zip(
      *(stream.as_numpy_iterator() for stream in streams), strict=True
    ):
      for name in ('image', 'label', 'partner_label', 'share'):
        np.testing.assert_array_equal(stored[name], in_memory[name])

  @parameterized.parameters((10, 10), (8, 12))
  def test_smaller_ones_are_made_in_the_same_steps(self, *size):
    stored, in_memory = (
      each.resized(size) for each in (self.stored, self.in_memory)
    )
    self.assertEqual(stored.preprocessing, in_memory.preprocessing)
    # What lies half way between two values may be rounded to either.
    np.testing.assert_allclose(
      stored.images[:].astype(int), in_memory.images.astype(int), atol=1
    )

  def test_images_without_labels_follow(self):
    some = np.arange(3)
    stored, in_memory = (
      each.joined(each.take(some)) for each in (self.stored, self.in_memory)
    )
    np.testing.assert_array_equal(stored.images[:], in_memory.images)
    np.testing.assert_array_equal(stored.labels, in_memory.labels)


if __name__ == '__main__':
  absltest.main()
