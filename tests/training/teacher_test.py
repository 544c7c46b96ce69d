"""The teacher's stage learns, or takes what is trained."""

import contextlib
import io
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from ft_tf import errors, losses, run_dir, specs, teachers
from ft_tf.models import applications, model_files, zoo
from ft_tf.training import loop, optimizers, teacher
from tests import fixtures


class TrainTeacherTest(absltest.TestCase):
  def test_loss_halves_and_the_test_images_are_told_apart(self):
    run = run_dir.RunDir(self.create_tempdir().full_path)
    result = teacher.train_teacher(
      fixtures.short_recipe(teacher_epochs=15, teacher_drop_epochs=(10,)),
      fixtures.blobs(),
      run=run,
      strategy=fixtures.strategy(),
      options=loop.Options(log_steps=3),
    )
    rows = run.metrics()
    self.assertLess(rows[-1]['loss'], rows[0]['loss'] / 2)
    self.assertGreater(result['accuracy'], 0.8)
    self.assertEqual(result['method'], 'teacher')

  def test_two_replicas_equal_one_when_batch_norm_is_synchronised(self):
    results = [
      teacher.train_teacher(
        fixtures.short_recipe(teacher_epochs=1, sync_batch_norm=True),
        fixtures.blobs(),
        run=run_dir.RunDir(self.create_tempdir().full_path),
        strategy=fixtures.strategy(replicas),
        options=loop.Options(),
      )
      for replicas in (1, 2)
    ]
    # Three steps: float32 sums in another order grow through batch norm.
    self.assertAlmostEqual(results[0]['loss'], results[1]['loss'], delta=1e-4)

  def test_both_labels_of_a_mixed_image_count_by_their_shares(self):
    train = fixtures.blobs().train
    recipe = fixtures.short_recipe()
    strategy = fixtures.strategy()
    with strategy.scope():
      network = zoo.build('short', specs.spec(recipe, fixtures.blobs()))
      optimizer, _ = optimizers.make(recipe.teacher, 3.0, 'float32')
      optimizer.build(network.trainable_variables)
    share = np.linspace(0, 1, 16).astype(np.float32)
    batch = {
      'image': train.images[:16],
      'label': train.labels[:16],
      'partner_label': train.labels[16:32],
      'share': share,
    }
    logits = network(batch['image'], training=True)
    own, other = (
      losses.cross_entropy(logits, tf.constant(batch[name]))
      for name in ('label', 'partner_label')
    )
    expected = share * own + (1 - share) * other
    stream = tf.data.Dataset.from_tensors(batch)
    train_steps = teacher.compile_steps(strategy, network, optimizer, 16)
    terms = train_steps(
      iter(strategy.experimental_distribute_dataset(stream)), tf.constant(1)
    )
    self.assertAlmostEqual(
      float(terms['cross_entropy'][0]),
      float(tf.reduce_mean(expected)),
      places=4,
    )


class WeightsTest(absltest.TestCase):
  """A network of keras.applications with the weights of a file."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.run_dir = run_dir.RunDir(os.path.join(self.folder, 'run'))
    self.dataset = fixtures.blobs((32, 32, 3))

  def _weights(self, classes):
    keras.utils.set_random_seed(0)
    network = applications.plain('mobilenetx0.25', (32, 32, 3), classes=classes)
    path = os.path.join(self.folder, 'its.weights.h5')
    network.save_weights(path)
    return network, path

  def _other_weights(self, network):
    """Saves other weights of a network, which it has from now on."""
    kernel = applications.head_of(network).kernel
    kernel.assign(-kernel)
    path = os.path.join(self.folder, 'other.weights.h5')
    network.save_weights(path)
    return path

  def _obtain(self, path, given=None):
    """Returns the result, what was said, and what the weights resolve to."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      recipe = fixtures.recipe(
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        teacher='mobilenetx0.25',
        teacher_weights=path,
        teacher_epochs=1,
        teacher_drop_epochs=(),
        teacher_learning_rate=1e-3,
      )
      given = given or teachers.resolve(recipe, self.dataset)
      teacher.obtain_teacher(
        recipe,
        self.dataset,
        run=self.run_dir,
        given=given,
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
    return self.run_dir.read('result.json'), said.getvalue(), given

  def test_with_a_head_of_the_classes_they_are_taken_as_trained(self):
    network, path = self._weights(3)
    result, said, given = self._obtain(path)
    self.assertIn('head of 3 classes and is taken as trained', said)
    self.assertIn('as mobilenetx0.25 has them in keras.applications', said)
    self.assertEqual(result['steps'], 0)
    images = self.dataset.test.images
    expected = network(images / 127.5 - 1, training=False)
    later = teachers.load(self.run_dir.model, self.dataset).model
    np.testing.assert_allclose(
      later(images, training=False), expected, atol=1e-5
    )
    self.assertAlmostEqual(
      result['accuracy'],
      np.mean(np.argmax(expected, axis=1) == self.dataset.test.labels),
    )
    self.assertEqual(self._obtain(path, given)[0], result)
    with self.assertRaisesRegex(errors.UsageError, 'sha256'):
      self._obtain(self._other_weights(network), given)

  def test_with_another_head_all_of_it_is_trained_from_there(self):
    network, path = self._weights(7)
    result, said, _ = self._obtain(path)
    self.assertIn(
      f'{path} is where training starts, but for a fresh head', said
    )
    self.assertEqual(result['steps'], 3)
    trained = model_files.load(self.run_dir.model)
    for name in ('conv1', 'conv_pw_13'):
      one, two = (
        net.get_layer(name).get_weights()[0] for net in (trained, network)
      )
      self.assertGreater(np.abs(one - two).max(), 0)
      self.assertGreater(np.corrcoef(one.ravel(), two.ravel())[0, 1], 0.9)
    with self.assertRaisesRegex(errors.UsageError, 'sha256'):
      self._obtain(self._other_weights(network))

  def test_weights_beside_a_model_or_for_another_are_refused(self):
    _, path = self._weights(7)
    for name, message in (
      ('t.keras', 'has its weights: leave out --teacher_weights'),
      ('resnet20', 'are not for --teacher=resnet20'),
    ):
      recipe = fixtures.recipe(teacher=name, teacher_weights=path)
      with self.assertRaisesRegex(errors.UsageError, message):
        teachers.resolve(recipe, self.dataset)


class NewHeadTest(absltest.TestCase):
  """A teacher's file of 7 classes for a data set of 3."""

  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path
    self.path = os.path.join(self.folder, 'seven.keras')
    self.dataset = fixtures.blobs()
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, activation='relu', name='maps')(image)
    x = keras.layers.GlobalMaxPooling2D()(x)
    self.file = keras.Model(image, keras.layers.Dense(7, name='logits')(x))
    self.file.save(self.path)

  def _recipe(self, **values):
    return fixtures.recipe(
      teacher=self.path,
      preprocessing='0..1',
      teacher_epochs=1,
      teacher_drop_epochs=(),
      teacher_learning_rate=1e-3,
      **values,
    )

  def test_is_trained_from_the_file(self):
    run = run_dir.RunDir(os.path.join(self.folder, 'run'))
    recipe = self._recipe(new_head=True)
    given = teachers.resolve(recipe, self.dataset)
    self.assertIsNone(given)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      trained = teacher.obtain_teacher(
        recipe,
        self.dataset,
        run=run,
        given=given,
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
    self.assertIn(
      f'{self.path} is where training starts, but for a fresh last layer',
      said.getvalue(),
    )
    self.assertEqual(run.read('result.json')['steps'], 3)
    self.assertEqual(
      run.read('recipe.json')['teacher_sha256'], run_dir.digest(self.path)
    )
    self.assertEqual(trained.model.output_shape, (None, 3))
    one, two = (
      net.get_layer('maps').get_weights()[0]
      for net in (trained.model, self.file)
    )
    self.assertGreater(np.abs(one - two).max(), 0)
    self.assertGreater(np.corrcoef(one.ravel(), two.ravel())[0, 1], 0.99)

  def test_backbone_has_its_own_rate_and_an_average_is_left(self):
    run = run_dir.RunDir(os.path.join(self.folder, 'run'))
    recipe = self._recipe(
      new_head=True,
      teacher_optimizer='adamw',
      teacher_backbone_rate=1e-4,
      teacher_ema=0.9,
    )
    with contextlib.redirect_stderr(io.StringIO()):
      teacher.train_teacher(
        recipe,
        self.dataset,
        run=run,
        strategy=fixtures.strategy(),
        options=loop.Options(),
      )
    trained = model_files.load(run.model)
    maps, first = (
      net.get_layer('maps').get_weights()[0] for net in (trained, self.file)
    )
    # 3 steps of AdamW, each at most about as large as the rate.
    self.assertBetween(np.abs(maps - first).max(), 1e-9, 5e-7)
    bias = trained.get_layer('logits').get_weights()[1]
    self.assertBetween(np.abs(bias).max(), 1e-4, 5e-3)
    checkpoint = tf.train.load_checkpoint(run.checkpoints)
    kept = [
      checkpoint.get_tensor(name)
      for name in checkpoint.get_variable_to_shape_map()
      if name.startswith('average/values/')
    ]
    self.assertLen(kept, len(trained.weights))
    self.assertTrue(any(np.array_equal(bias, value) for value in kept))

  def test_without_the_flag_the_message_names_it(self):
    with self.assertRaisesRegex(
      errors.UsageError, 'has 7 classes, the data set 3: .*or --new_head'
    ):
      teachers.resolve(self._recipe(), self.dataset)

  def test_file_of_the_classes_is_taken_as_it_is(self):
    x = self.file.layers[-2].output
    keras.Model(self.file.inputs[0], keras.layers.Dense(3)(x)).save(self.path)
    given = teachers.resolve(self._recipe(new_head=True), self.dataset)
    self.assertEqual(given.model.output_shape, (None, 3))


if __name__ == '__main__':
  absltest.main()
