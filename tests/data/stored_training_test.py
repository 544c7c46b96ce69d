"""Training on images in files: views, whole stages, formats and refusals."""

import functools
import os
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import (
  errors,
  run_dir,
  specs,
  teachers,
)
from ft_tf.data import (
  datasets,
  memory,
  records,
  views,
)
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import model_files, zoo
from ft_tf.training import loop, student, teacher
from tests import fixtures, scenes


def setUpModule():
  scenes.prepare()


@functools.cache
def _train():
  """Returns the images to train on; they do not change."""
  return scenes.source().read('train')


@functools.cache
def _batches(first=0, last=20, seed=0, **values):
  """Returns batches, 5 of them an epoch; tests leave them as they are."""
  stream = views.stream(
    _train(),
    scenes.recipe(image_size=32, **values).data,
    seed=seed,
    first_step=first,
    last_step=last,
  )
  return list(stream.as_numpy_iterator())


class StreamTest(absltest.TestCase):
  def test_every_image_comes_once_an_epoch_with_its_label(self):
    batches = _batches()
    for start in range(0, 20, 5):
      labels = [batch['label'] for batch in batches[start : start + 5]]
      self.assertCountEqual(np.concatenate(labels), range(scenes.COUNT))
    for batch in batches:
      np.testing.assert_allclose(
        batch['image'][..., 2].mean(axis=(1, 2)), 6 * batch['label'], atol=1
      )

  def test_stream_that_begins_later_has_the_same_batches(self):
    for batch, expected in zip(_batches(first=3), _batches()[3:], strict=True):
      np.testing.assert_array_equal(batch['image'], expected['image'])
      np.testing.assert_array_equal(batch['label'], expected['label'])

  def test_epochs_and_view_seeds_show_other_parts(self):
    def shown(batches):
      return {
        int(label): image
        for batch in batches
        for image, label in zip(batch['image'], batch['label'], strict=True)
      }

    batches = _batches()
    first = shown(batches[:5])
    for others in (
      shown(batches[5:10]),
      shown(_batches(last=5, view_seed=1)),
    ):
      same = [np.array_equal(first[i], others[i]) for i in range(scenes.COUNT)]
      self.assertEqual(sum(same), 0)
    others = shown(_batches(last=5, seed=1))
    for i in range(scenes.COUNT):
      np.testing.assert_array_equal(first[i], others[i])

  def test_half_are_flipped_or_none(self):
    def flipped(**values):
      images = [b['image'] for b in _batches(**values)]
      green = np.concatenate(images)[..., 1].astype(int)
      return (green[:, :, 0] > green[:, :, -1]).mean()

    # Of 160 images: 0.04 is one standard deviation.
    self.assertAlmostEqual(flipped(), 0.5, delta=0.16)
    self.assertEqual(flipped(flip=False), 0)

  def test_view_is_what_the_stream_shows(self):
    data = scenes.recipe(image_size=32).data
    examples = _train()
    whole = np.concatenate(
      list(views.read_view(examples, data, 0).as_numpy_iterator())
    )
    place = {label: i for i, label in enumerate(examples.labels)}
    for batch in _batches()[:5]:
      chosen = [place[label] for label in batch['label']]
      np.testing.assert_array_equal(batch['image'], whole[chosen])

  def test_mixed_images_are_those_of_both_files(self):
    examples = _train().take(np.arange(13))
    data = scenes.recipe(
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
    data = scenes.recipe(image_size=32, batch_size=13, mixup_alpha=1.0).data
    stream = views.stream(examples, data, seed=0, first_step=0, last_step=1)
    (batch,) = stream.as_numpy_iterator()
    share = batch['share']
    blue = share * batch['label'] + (1 - share) * batch['partner_label']
    np.testing.assert_allclose(
      batch['image'][..., 2].mean(axis=(1, 2)), 6 * blue, atol=1.5
    )


class TrainingTest(absltest.TestCase):
  @pytest.mark.slow
  def test_teacher_and_student_train_on_stored_images(self):
    recipe = scenes.recipe(method='ft_no_paraphraser')
    dataset = datasets.Dataset.from_recipe(recipe.data, scenes.FOLDER.name)
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
    recipe = scenes.recipe(
      method='ft_no_paraphraser', image_size=32, student_image_size=16
    )
    dataset = datasets.Dataset.from_recipe(recipe.data, scenes.FOLDER.name)
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
      found = scenes.source('tiny_stream', resizing=resizing).read(
        'train[10%:]'
      )
      wanted = scenes.source(resizing=resizing).read('train')
    self.assertIsInstance(found, records.StoredExamples)
    self.assertLen(found, 36)
    places = {label: i for i, label in enumerate(wanted.labels)}
    chosen = np.array([places[label] for label in found.labels])
    backwards = np.arange(36)[::-1]
    np.testing.assert_array_equal(
      found.images[backwards], wanted.images[chosen[backwards]]
    )
    self.assertEqual(found.preprocessing, wanted.preprocessing)


class RefusalTest(parameterized.TestCase):
  def test_missing_size_is_named(self):
    with self.assertRaisesRegex(errors.UsageError, '--image_size'):
      scenes.source(image_size=0)

  def test_unknown_split_is_named(self):
    with self.assertRaisesRegex(errors.UsageError, "no split 'holdout'"):
      scenes.source().read('holdout')


if __name__ == '__main__':
  absltest.main()
