"""Names to networks, and files to students of a run."""

import contextlib
import dataclasses
import io
import os

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import heads, standard, zoo
from tests import classifiers, networks, small_models


class BuildTest(parameterized.TestCase):
  @parameterized.parameters(
    ('resnet20', 272_474),
    # 1,536 and 8,192 weights of projections, 2 * (32 + 64) of their norm.
    ('resnet20-parameter-free', 269_722),
    ('wrn-16-2', 691_674),
    ('vgg13', 9_416_010),
  )
  def test_name_gives_the_network_of_that_size(self, name, parameters):
    model = zoo.build(name, classifiers.spec((32, 32, 3)))
    self.assertEqual(
      sum(int(np.prod(w.shape)) for w in model.trainable_weights), parameters
    )

  @parameterized.parameters(
    ('resnet8', 16, 3),
    ('resnet8x0.25', 4, 3),
    ('resnet8x2', 32, 3),
    ('resnet14x0.25-parameter-free', 4, 6),
    ('wrn-10-1', 16, 3),
    ('wrn-16-2', 32, 6),
  )
  def test_width_and_depth_in_the_name_are_the_networks(
    self, name, channels, blocks
  ):
    model = zoo.build(name, classifiers.spec())
    self.assertEqual(model.get_layer('group1').output.shape[-1], channels)
    sums = [
      layer for layer in model.layers if isinstance(layer, keras.layers.Add)
    ]
    self.assertLen(sums, blocks)

  @parameterized.parameters(
    ('resnet18', 'group4'), ('vgg13', 'group5'), ('resnet44', 'group3')
  )
  def test_names_that_are_ours_stay_ours(self, name, last):
    self.assertTrue(
      zoo.build(name, classifiers.spec((32, 32, 3))).get_layer(last)
    )

  def test_network_of_keras_gives_logits_of_raw_images(self):
    model = zoo.build(
      'mobilenetx0.25', classifiers.spec((32, 32, 3), classes=3)
    )
    images = np.zeros((2, 32, 32, 3), np.uint8)
    self.assertEqual(model(images).shape, (2, 3))
    self.assertEqual(model.inputs[0].dtype, 'uint8')

  @parameterized.parameters('resnet8x0.25', 'wrn-10-1')
  def test_network_takes_the_datas_shape_and_classes(self, name):
    model = zoo.build(name, classifiers.spec((12, 9, 1), classes=3))
    images = np.zeros((2, 12, 9, 1), np.uint8)
    self.assertEqual(model(images).shape, (2, 3))

  @parameterized.parameters(
    'resnet',
    'resnet22',  # Not 6n + 2.
    'resnet2',
    'resnet8x0',
    'resnet8x0.01',  # Less than one channel.
    'ResNet20',
    'resnet20 ',
    'resnet20-parameterfree',
    'wrn-16',
    'wrn-15-1',  # Not 6n + 4.
    'wrn-4-1',
    'wrn-16-0',
    'vgg11',
    'mobilenetv4',
    'resnet50x0.5',  # Keras's has no width, ours is not of this depth.
    'MobileNetV2',
    'mobilenetx10.5',
    'mobilenetx' + '9' * 400,
    'resnet8x' + '9' * 400,
    'wrn-' + '9' * 5000 + '-1',
  )
  def test_unknown_name_is_refused_with_those_that_work(self, name):
    with self.assertRaisesRegex(
      errors.UsageError,
      f"unknown network '{name}': give resnet.*resnet20.*wrn-16-2.*vgg13.*"
      'mobilenetv3small.*efficientnetb0.*densenet121',
    ):
      zoo.build(name, classifiers.spec())

  @parameterized.parameters(
    'resnet8x99', 'resnet1202x6', 'resnet9998x0.1', 'wrn-1204-1', 'wrn-28-40'
  )
  def test_network_that_only_fills_the_memory_is_refused(self, name):
    with self.assertRaisesRegex(
      errors.UsageError, f'{name} has a depth of .* weights: give at most 1,202'
    ):
      zoo.build(name, classifiers.spec())

  @parameterized.parameters(((31, 32, 3),), ((32, 8, 3),))
  def test_images_too_small_for_vgg13_are_refused(self, shape):
    with self.assertRaisesRegex(
      errors.UsageError, 'vgg13 needs images of 32x32 .*--image_size=32'
    ):
      zoo.build('vgg13', classifiers.spec(shape))


class FileTest(parameterized.TestCase):
  def _save(self, model):
    path = os.path.join(self.create_tempdir().full_path, 'student.keras')
    model.save(path)
    return path

  @parameterized.parameters(
    ('float32', True), ('mixed_bfloat16', False), ('mixed_bfloat16', True)
  )
  def test_file_has_the_precision_and_batch_norm_of_the_run(
    self, precision, synchronized
  ):
    given = networks.disturb(networks.random_student((8, 8, 3), 10))
    given.layers[2].trainable = False
    spec = dataclasses.replace(
      classifiers.spec(), precision=precision, sync_batch_norm=synchronized
    )
    model = zoo.build(self._save(given), spec)
    *hidden, last = model.layers[1:]
    self.assertEqual({x.dtype_policy.name for x in hidden}, {precision})
    self.assertEqual(last.compute_dtype, 'float32')
    (norm,) = (
      x for x in hidden if isinstance(x, keras.layers.BatchNormalization)
    )
    self.assertEqual(norm.synchronized, synchronized)
    self.assertFalse(model.layers[2].trainable)
    images = np.random.default_rng(0).integers(256, size=(4, 8, 8, 3))
    images = images.astype(np.uint8)
    np.testing.assert_allclose(
      model(images, training=False),
      given(images, training=False),
      atol=0 if precision == 'float32' else 0.02,
    )

  def test_file_of_mixed_precision_becomes_float32(self):
    spec = dataclasses.replace(classifiers.spec(), precision='mixed_bfloat16')
    path = self._save(zoo.build('resnet8x0.25', spec))
    model = zoo.build(path, classifiers.spec())
    self.assertEqual({x.compute_dtype for x in model.layers[1:]}, {'float32'})

  def test_layers_within_layers_that_keep_their_precision_are_named(self):
    inner = keras.layers.Dense(4, name='within')
    model = keras.Sequential(
      [
        keras.Input((8, 8, 3)),
        keras.layers.TimeDistributed(inner),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10),
      ]
    )
    said = io.StringIO()
    spec = dataclasses.replace(classifiers.spec(), precision='mixed_bfloat16')
    with contextlib.redirect_stderr(said):
      zoo.build(self._save(model), spec)
    self.assertIn('student: within do not compute in', said.getvalue())


class QuantizedStudentTest(absltest.TestCase):
  def test_quantized_file_is_refused_with_the_fix(self):
    path = os.path.join(self.create_tempdir().full_path, 'int8.keras')
    model = classifiers.classifier()
    model.quantize('int8')
    model.save(path)
    with self.assertRaisesRegex(
      errors.UsageError, '^--student=.*int8 in dense.*cannot be trained.*$'
    ):
      zoo.build(path, classifiers.spec())


class OpenStudentTest(absltest.TestCase):
  def test_file_for_any_size_becomes_one_for_the_images(self):
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    classifiers.classifier((None, None, 3)).save(path)
    self.assertEqual(
      zoo.build(path, classifiers.spec()).input_shape, (None, 8, 8, 3)
    )


class OtherSizeTest(parameterized.TestCase):
  """A file for images of 8x8 becomes a network for 12x10."""

  def setUp(self):
    super().setUp()
    self.path = os.path.join(self.create_tempdir().full_path, 'small.keras')
    self.spec = dataclasses.replace(classifiers.spec(), image_shape=(12, 10, 3))

  def test_weights_are_the_files_and_logits_those_of_its_layers(self):
    image = keras.Input((8, 8, 3), dtype='uint8')
    inner = classifiers.classifier((8, 8, 3))
    given = networks.disturb(
      keras.Model(image, inner(keras.ops.cast(image, 'float32')))
    )
    given.save(self.path)
    ours = zoo.build(self.path, self.spec)
    self.assertEqual(ours.input_shape, (None, 12, 10, 3))
    open_size = classifiers.classifier((None, None, 3))
    open_size.set_weights(given.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 3))
    np.testing.assert_allclose(
      ours(images.astype(np.uint8)),
      open_size(images.astype(np.float32)),
      atol=1e-5,
    )

  def test_weights_that_depend_on_the_size_are_refused_in_a_line(self):
    image = keras.Input((8, 8, 3))
    keras.Model(
      image, keras.layers.Dense(3)(keras.layers.Flatten()(image))
    ).save(self.path)
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--student=.* takes images of 8x8, and cannot be rebuilt for 12x10 '
      r'\(.+\): give images of its own size$',
    ):
      zoo.build(self.path, self.spec)

  def test_other_channels_and_a_kept_size_are_refused_as_before(self):
    classifiers.classifier((8, 8, 3)).save(self.path)
    for spec, options in (
      (dataclasses.replace(self.spec, image_shape=(12, 10, 1)), {}),
      (self.spec, {'resized': False}),
    ):
      with self.assertRaisesRegex(
        errors.UsageError, r'takes images of \(8, 8, 3\), the data set has'
      ):
        zoo.build(self.path, spec, **options)


class NewHeadTest(parameterized.TestCase):
  """A file of 7 classes becomes a network of 3."""

  def setUp(self):
    super().setUp()
    keras.utils.set_random_seed(0)
    self.path = os.path.join(self.create_tempdir().full_path, 'seven.keras')
    self.spec = classifiers.spec(classes=3)

  def _save(self, *last):
    model = networks.disturb(small_models.with_end(*last))
    model.save(self.path)
    return model

  def _build(self, seed=0, **options):
    keras.utils.set_random_seed(seed)
    return zoo.build(self.path, self.spec, new_head=True, **options)

  @parameterized.parameters(
    lambda: [keras.layers.Dense(7, activation='softmax')],
    lambda: [
      keras.layers.Dense(7),
      keras.layers.Softmax(),
      keras.layers.Activation('linear', dtype='float32'),
    ],
    lambda: [
      keras.layers.Reshape((1, 1, 4)),
      keras.layers.Conv2D(7, 1),
      keras.layers.Reshape((7,)),
      keras.layers.Activation('softmax'),
    ],
    lambda: [
      keras.Sequential(
        [
          keras.layers.Dense(5, activation='relu'),
          keras.layers.Dense(7, activation='sigmoid'),
          keras.layers.Dropout(0.3),
        ]
      )
    ],
  )
  def test_last_layer_is_fresh_and_all_before_it_is_the_files(self, last):
    given = self._save(*last())
    ours = self._build()
    self.assertEqual(ours.output_shape, (None, 3))
    *kept, kernel, bias = ours.get_weights()
    for one, other in zip(kept, given.get_weights()[:-2], strict=True):
      np.testing.assert_array_equal(one, other)
    self.assertEqual((kernel.shape[-1], bias.tolist()), (3, [0, 0, 0]))
    np.testing.assert_array_equal(self._build().get_weights()[-2], kernel)
    other_seed = self._build(seed=1).get_weights()[-2]
    self.assertGreater(np.abs(other_seed - kernel).max(), 1e-3)
    # With the first three columns of the file's layer it has those logits.
    kernel, bias = given.get_weights()[-2:]
    ours.set_weights([*kept, kernel[..., :3], bias[:3]])
    images = networks.images(4, 8, 3)
    logits, _ = heads.to_logits(standard.flatten(given))
    np.testing.assert_allclose(
      ours(images, training=False),
      logits(images, training=False)[:, :3],
      atol=1e-4,
    )

  def test_single_output_gives_way_too(self):
    self._save(keras.layers.Dense(1, activation='sigmoid'))
    self.assertEqual(self._build().output_shape, (None, 3))

  def test_head_is_precise_in_a_mixed_precision_run(self):
    self._save(keras.layers.Dense(7))
    self.spec = dataclasses.replace(self.spec, precision='mixed_bfloat16')
    policies = [layer.compute_dtype for layer in self._build().layers[1:]]
    self.assertEqual({*policies[:-1]}, {'bfloat16'})
    self.assertEqual(policies[-1], 'float32')

  def test_preprocessing_that_the_file_lacks_is_added(self):
    self._save(keras.layers.Dense(7))
    plain, scaled = self._build(), self._build(preprocessing='0..1')
    images = networks.images(4, 8, 3)
    np.testing.assert_allclose(
      scaled(images, training=False),
      plain(images / np.float32(255), training=False),
      atol=1e-5,
    )

  def test_frozen_layers_stay_so_but_a_finished_model_is_trained(self):
    given = self._save(keras.layers.Dense(7))
    given.layers[0].trainable = False
    given.save(self.path)
    self.assertLen(self._build().trainable_weights, 2)
    given.trainable = False
    given.save(self.path)
    self.assertLen(self._build().trainable_weights, 4)

  @parameterized.parameters((3, 'float32'), (7, 'float32'), (7, 'bfloat16'))
  def test_statistics_of_batch_norm_turn_over_in_tens_of_steps(
    self, classes, precision
  ):
    if precision != 'float32':
      precision = f'mixed_{precision}'
    self.spec = dataclasses.replace(self.spec, precision=precision)
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name='slow')(image)
    x = keras.layers.BatchNormalization(name='quick', momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    given = keras.Model(image, keras.layers.Dense(classes)(x))
    given.save(self.path)
    self.assertEqual(given.get_layer('slow').momentum, 0.99)
    ours = self._build()
    self.assertEqual(ours.get_layer('slow').momentum, 0.9)
    self.assertEqual(ours.get_layer('quick').momentum, 0.5)
    config = ours.get_layer('slow').get_config()
    self.assertEqual(config['momentum'], 0.9)

  def test_same_number_of_classes_keeps_its_head(self):
    given = self._save(keras.layers.Dense(3))
    for one, other in zip(
      self._build().get_weights(), given.get_weights(), strict=True
    ):
      np.testing.assert_array_equal(one, other)

  def test_without_the_flag_the_message_names_it(self):
    self._save(keras.layers.Dense(7))
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--student=.* has 7 classes, the data set 3: .*or --new_head.*$',
    ):
      zoo.build(self.path, self.spec)

  @parameterized.parameters(
    lambda: [keras.layers.Dense(7), keras.layers.BatchNormalization()],
    lambda: [keras.layers.Reshape((2, 2, 1)), keras.layers.Flatten()],
  )
  def test_other_ends_are_refused(self, last):
    self._save(*last())
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--teacher=.* ends in .*, which --new_head cannot replace: give .*$',
    ):
      self._build(role='teacher')


if __name__ == '__main__':
  absltest.main()
