"""Images in files: order, views, random access, and errors."""

import os
import tempfile
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf import (
  catalogue,
  errors,
  recipe_flags,
  run_dir,
  specs,
  teachers,
)
from ft_tf.data import (
  datasets,
  example_sets,
  image_ops,
  memory,
  records,
  sources,
  stores,
  views,
)
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import model_files, zoo
from ft_tf.training import loop, student, teacher
from tests import fixtures

_COUNT = 40


class TinyScenes(tfds.core.GeneratorBasedBuilder):
  """Gradients of different sizes; blue is the image's number, the class too."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(None, None, 3)),
          'label': tfds.features.ClassLabel(num_classes=_COUNT),
          'file_name': tfds.features.Text(),
        }
      ),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples(), 'test': self._test()}

  def _generate_examples(self):
    for key in range(_COUNT):
      image = fixtures.gradient(40 + key, 90 - key)
      image[..., 2] = 6 * key
      yield key, {'image': image, 'label': key, 'file_name': f'{key}.png'}

  def _test(self):
    yield from list(self._generate_examples())[:10]


class TinyStream(TinyScenes):
  """The same in files that are read from end to end."""


_FOLDER = tempfile.TemporaryDirectory(dir=os.environ.get('TEST_TMPDIR'))


def setUpModule():
  tfds.disable_progress_bar()
  TinyScenes(
    data_dir=_FOLDER.name, file_format='array_record'
  ).download_and_prepare()
  TinyStream(data_dir=_FOLDER.name).download_and_prepare()


def tearDownModule():
  _FOLDER.cleanup()


def _source(name='tiny_scenes', image_size=32, **values):
  return sources.Source(
    name,
    data_dir=_FOLDER.name,
    image_size=image_size,
    **{'resizing': 'crop', **values},
  )


def _recipe(**values):
  return recipe_flags.override(
    catalogue.get('imagenet_resnet34_resnet18'),
    {
      'dataset': 'tiny_scenes',
      'test_split': 'test',
      'image_size': 16,
      'validation_examples': 8,
      'batch_size': 8,
      'precision': 'float32',
      'teacher': 'resnet8x0.25',
      'student': 'resnet8x0.25',
      **{
        f'{stage}_epochs': 1 for stage in ('teacher', 'paraphraser', 'student')
      },
      **values,
    },
  )


class StoredExamplesTest(absltest.TestCase):
  def test_images_and_labels_are_those_of_the_files_in_their_order(self):
    examples = _source().read('train')
    self.assertLen(examples, _COUNT)
    self.assertEqual(examples.images.shape, (_COUNT, 32, 32, 3))
    builder = TinyScenes(data_dir=_FOLDER.name)
    wanted = [
      int(example['label']) for example in builder.as_data_source('train')
    ]
    np.testing.assert_array_equal(examples.labels, wanted)
    self.assertEqual(examples.labels.dtype, np.int64)
    blue = examples.images[:][:, 16, 16, 2]
    np.testing.assert_array_equal(blue, 6 * examples.labels)

  def test_images_are_read_like_an_array(self):
    images = _source().read('train').images
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
    every = _source().read('train')
    some = every.take(np.array([9, 4, 30])).take(np.array([2, 0]))
    np.testing.assert_array_equal(some.labels, every.labels[[30, 9]])
    np.testing.assert_array_equal(
      some.images[:], every.images[np.array([30, 9])]
    )

  def test_digest_depends_on_images_and_order(self):
    every = _source().read('train')
    again = _source().read('train')
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
    source = _source()
    whole = source.with_other_resizing()
    images = whole.read('train').images
    # The whole of a gradient reaches both ends, its middle neither.
    self.assertLess(images[3][0, 0, 0], 8)
    self.assertGreater(images[3][-1, -1, 1], 247)
    stretched = _source(resizing='stretch')
    np.testing.assert_array_equal(images[:], stretched.read('train').images)
    # And the other way, from files with and without random access.
    for name in ('tiny_scenes', 'tiny_stream'):
      back = (
        _source(name, resizing='stretch').with_other_resizing().read('train')
      )
      by_blue = {int(image[0, 0, 2]): image for image in back.images[:]}
      for image, label in zip(
        source.read('train').images[:], source.read('train').labels, strict=True
      ):
        np.testing.assert_array_equal(by_blue[6 * label], image)

  def test_images_need_not_be_square(self):
    examples = _source(image_size='20x32').read('train')
    self.assertEqual(examples.images.shape, (_COUNT, 20, 32, 3))
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
    examples = _source(image_size='20x32').read('train')
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
    crop = _source().read('train').take(np.arange(3))
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
    dataset = datasets.Dataset(_source(), validation_examples=8)
    train, validation = dataset.train.labels, dataset.validation.labels
    self.assertLen(validation, 8)
    self.assertCountEqual([*train, *validation], range(_COUNT))


class StreamTest(absltest.TestCase):
  def _batches(self, first=0, last=10, seed=0, **values):
    stream = views.stream(
      _source().read('train'),
      _recipe(image_size=32, **values).data,
      seed=seed,
      first_step=first,
      last_step=last,
    )
    return list(stream.as_numpy_iterator())

  def test_every_image_comes_once_an_epoch_with_its_label(self):
    batches = self._batches()
    for epoch in (batches[:5], batches[5:]):
      labels = np.concatenate([batch['label'] for batch in epoch])
      self.assertCountEqual(labels, range(_COUNT))
    for batch in batches:
      np.testing.assert_allclose(
        batch['image'][..., 2].mean(axis=(1, 2)), 6 * batch['label'], atol=1
      )

  def test_stream_that_begins_later_has_the_same_batches(self):
    for batch, expected in zip(
      self._batches(first=3), self._batches()[3:], strict=True
    ):
      np.testing.assert_array_equal(batch['image'], expected['image'])
      np.testing.assert_array_equal(batch['label'], expected['label'])

  def test_epochs_and_view_seeds_show_other_parts(self):
    def shown(batches):
      return {
        int(label): image
        for batch in batches
        for image, label in zip(batch['image'], batch['label'], strict=True)
      }

    batches = self._batches()
    first = shown(batches[:5])
    for others in (
      shown(batches[5:]),
      shown(self._batches(last=5, view_seed=1)),
    ):
      same = [np.array_equal(first[i], others[i]) for i in range(_COUNT)]
      self.assertEqual(sum(same), 0)
    others = shown(self._batches(last=5, seed=1))
    for i in range(_COUNT):
      np.testing.assert_array_equal(first[i], others[i])

  def test_half_are_flipped_or_none(self):
    def flipped(**values):
      images = [b['image'] for b in self._batches(last=20, **values)]
      green = np.concatenate(images)[..., 1].astype(int)
      return (green[:, :, 0] > green[:, :, -1]).mean()

    # Of 160 images: 0.04 is one standard deviation.
    self.assertAlmostEqual(flipped(), 0.5, delta=0.16)
    self.assertEqual(flipped(flip=False), 0)

  def test_view_is_what_the_stream_shows(self):
    data = _recipe(image_size=32).data
    examples = _source().read('train')
    whole = np.concatenate(
      list(views.read_view(examples, data, 0).as_numpy_iterator())
    )
    place = {label: i for i, label in enumerate(examples.labels)}
    for batch in self._batches(last=5):
      chosen = [place[label] for label in batch['label']]
      np.testing.assert_array_equal(batch['image'], whole[chosen])

  def test_mixed_images_are_those_of_both_files(self):
    examples = _source().read('train').take(np.arange(13))
    data = _recipe(
      image_size=32, batch_size=13, view_seed=2, **fixtures.AUGMENTED
    ).data
    stream = views.stream(examples, data, seed=0, first_step=0, last_step=1)
    (batch,) = stream.as_numpy_iterator()
    whole = np.concatenate(
      list(views.read_view(examples, data, 0).as_numpy_iterator())
    )
    place = {label: i for i, label in enumerate(examples.labels)}
    chosen = [place[label] for label in batch['label']]
    np.testing.assert_array_equal(batch['image'], whole[chosen])
    self.assertCountEqual(batch['partner_label'], examples.labels)
    # Mixed by mixup alone: blue is that of both images by their shares.
    data = _recipe(image_size=32, batch_size=13, mixup_alpha=1.0).data
    stream = views.stream(examples, data, seed=0, first_step=0, last_step=1)
    (batch,) = stream.as_numpy_iterator()
    share = batch['share']
    blue = share * batch['label'] + (1 - share) * batch['partner_label']
    np.testing.assert_allclose(
      batch['image'][..., 2].mean(axis=(1, 2)), 6 * blue, atol=1.5
    )


class JoinedTest(absltest.TestCase):
  def _joined(self):
    examples = _source().read('train')
    some = examples.take(np.arange(10))
    return some, some.joined(_source().read('test').take(np.arange(5, 8)))

  def test_unlabelled_images_follow_the_labelled_ones(self):
    some, joined = self._joined()
    self.assertLen(joined, 13)
    self.assertEqual(joined.labelled, 10)
    self.assertEqual(joined.resized((16, 16)).labelled, 10)
    self.assertEqual(joined.take(np.array([1, 9, 10])).labelled, 2)
    np.testing.assert_array_equal(joined.labels[:10], some.labels)
    np.testing.assert_array_equal(joined.labels[10:], [-1] * 3)
    np.testing.assert_array_equal(joined.images[:10], some.images[:])
    np.testing.assert_array_equal(
      joined.images[10:], _source().read('test').images[5:8]
    )
    # In any order, the two kinds mixed.
    mixed = np.array([11, 3, 12, 0])
    np.testing.assert_array_equal(joined.images[mixed], joined.images[:][mixed])
    self.assertNotEqual(joined.digest, some.digest)

  def test_streams_show_both(self):
    some, joined = self._joined()
    data = _recipe(batch_size=13).data
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
    some, joined = self._joined()
    smaller = joined.resized((16, 16))
    self.assertEqual(smaller.images[:].shape, (13, 16, 16, 3))
    np.testing.assert_array_equal(smaller.labels, joined.labels)
    # About what the larger ones show; a gradient has no fine detail.
    np.testing.assert_allclose(
      np.float32(smaller.images[:10]),
      image_ops.shrink(tf.constant(some.images[:]), (16, 16)),
      atol=12,
    )


class TrainingTest(absltest.TestCase):
  @pytest.mark.slow
  def test_teacher_and_student_train_on_stored_images(self):
    recipe = _recipe(method='ft_no_paraphraser')
    dataset = datasets.Dataset.from_recipe(recipe.data, _FOLDER.name)
    folder = self.create_tempdir().full_path
    work = {'strategy': fixtures.strategy(), 'options': loop.Options()}
    of_teacher = run_dir.RunDir(os.path.join(folder, 'teacher'))
    teacher.train_teacher(recipe, dataset, run=of_teacher, **work)
    learned_from = teachers.load(of_teacher.model, dataset)
    run = run_dir.RunDir(os.path.join(folder, 'student'))
    found = student.train_student(
      recipe, dataset, run=run, teacher=learned_from, **work
    )
    self.assertEqual(found['examples'], 10)
    self.assertEqual(found['steps'], 4)
    self.assertIn('validation_accuracy', found)

  @pytest.mark.slow
  def test_student_sees_the_teachers_images_at_its_own_size(self):
    recipe = _recipe(
      method='ft_no_paraphraser', image_size=32, student_image_size=16
    )
    dataset = datasets.Dataset.from_recipe(recipe.data, _FOLDER.name)
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, 'teacher.keras')
    zoo.build(recipe.teacher.model, specs.spec(recipe, dataset)).save(path)
    run = run_dir.RunDir(os.path.join(folder, 'student'))
    found = student.train_student(
      recipe,
      dataset,
      run=run,
      teacher=teachers.load(path, dataset),
      strategy=fixtures.strategy(),
      options=loop.Options(),
    )
    self.assertEqual(model_files.load(run.model).input_shape, (None, 16, 16, 3))
    own = dataset.at(16)
    again = metrics.evaluate(predictors.open_predictor(run.model), own.test)
    self.assertAlmostEqual(again['accuracy'], found['accuracy'])


class FormatsTest(parameterized.TestCase):
  """The same images in files with an index and without."""

  @parameterized.parameters('crop', 'stretch')
  def test_files_without_an_index_are_read_in_any_order(self, resizing):
    with mock.patch.object(memory, 'available_bytes', lambda: 0):
      found = _source('tiny_stream', resizing=resizing).read('train[10%:]')
      wanted = _source(resizing=resizing).read('train')
    self.assertIsInstance(found, records.StoredExamples)
    self.assertLen(found, 36)
    places = {label: i for i, label in enumerate(wanted.labels)}
    chosen = np.array([places[label] for label in found.labels])
    backwards = np.arange(36)[::-1]
    np.testing.assert_array_equal(
      found.images[backwards], wanted.images[chosen[backwards]]
    )
    self.assertEqual(found.preprocessing, wanted.preprocessing)


class StretchTest(parameterized.TestCase):
  """Whole images that stay in their files are those that are in memory."""

  def setUp(self):
    super().setUp()
    self.in_memory = _source(resizing='stretch', image_size=20).read('train')
    with mock.patch.object(memory, 'available_bytes', lambda: 0):
      self.stored = _source(resizing='stretch', image_size=20).read('train')
    self.assertIsInstance(self.in_memory, example_sets.Examples)
    self.assertIsInstance(self.stored, records.StoredExamples)

  def test_evaluation_sees_the_same(self):
    np.testing.assert_array_equal(self.stored.images[:], self.in_memory.images)
    np.testing.assert_array_equal(self.stored.labels, self.in_memory.labels)
    self.assertEqual(self.stored.preprocessing, self.in_memory.preprocessing)

  def test_training_sees_the_same(self):
    data = _recipe(
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


class RefusalTest(parameterized.TestCase):
  def test_missing_size_is_named(self):
    with self.assertRaisesRegex(errors.UsageError, '--image_size'):
      _source(image_size=0)

  def test_unknown_split_is_named(self):
    with self.assertRaisesRegex(errors.UsageError, "no split 'holdout'"):
      _source().read('holdout')


if __name__ == '__main__':
  absltest.main()
