"""Names and files to models, and what is refused with its fix."""

import contextlib
import dataclasses
import io
import json
import os
import zipfile

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import layers, zoo
from tests import fixtures, networks


def _spec(image_shape=(8, 8, 3), classes=10):
  channels = image_shape[-1]
  return layers.Spec(
    image_shape=image_shape,
    classes=classes,
    mean=(0.5,) * channels,
    std=(0.25,) * channels,
  )


def _classifier(image_shape=(8, 8, 3), classes=10):
  x = keras.Input(image_shape)
  y = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(x, keras.layers.Dense(classes)(y))


class BuildTest(parameterized.TestCase):
  @parameterized.parameters(
    ('resnet20', 272_474),
    # 1,536 and 8,192 weights of projections, 2 * (32 + 64) of their norm.
    ('resnet20-parameter-free', 269_722),
    ('wrn-16-2', 691_674),
    ('vgg13', 9_416_010),
  )
  def test_name_gives_the_network_of_that_size(self, name, parameters):
    model = zoo.build(name, _spec((32, 32, 3)))
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
    model = zoo.build(name, _spec())
    self.assertEqual(model.get_layer('group1').output.shape[-1], channels)
    sums = [
      layer for layer in model.layers if isinstance(layer, keras.layers.Add)
    ]
    self.assertLen(sums, blocks)

  @parameterized.parameters(
    ('resnet18', 'group4'), ('vgg13', 'group5'), ('resnet44', 'group3')
  )
  def test_names_that_are_ours_stay_ours(self, name, last):
    self.assertTrue(zoo.build(name, _spec((32, 32, 3))).get_layer(last))

  def test_network_of_keras_gives_logits_of_raw_images(self):
    model = zoo.build('mobilenetx0.25', _spec((32, 32, 3), classes=3))
    images = np.zeros((2, 32, 32, 3), np.uint8)
    self.assertEqual(model(images).shape, (2, 3))
    self.assertEqual(model.inputs[0].dtype, 'uint8')

  @parameterized.parameters('resnet8x0.25', 'wrn-10-1')
  def test_network_takes_the_datas_shape_and_classes(self, name):
    model = zoo.build(name, _spec((12, 9, 1), classes=3))
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
  )
  def test_unknown_name_is_refused_with_those_that_work(self, name):
    with self.assertRaisesRegex(
      errors.UsageError,
      f"unknown network '{name}': give resnet.*resnet20.*wrn-16-2.*vgg13.*"
      'mobilenetv3small.*efficientnetb0.*densenet121',
    ):
      zoo.build(name, _spec())

  @parameterized.parameters(((31, 32, 3),), ((32, 8, 3),))
  def test_images_too_small_for_vgg13_are_refused(self, shape):
    with self.assertRaisesRegex(
      errors.UsageError, 'vgg13 needs images of 32x32 .*--image_size=32'
    ):
      zoo.build('vgg13', _spec(shape))


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
      _spec(), precision=precision, sync_batch_norm=synchronized
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
    spec = dataclasses.replace(_spec(), precision='mixed_bfloat16')
    path = self._save(zoo.build('resnet8x0.25', spec))
    model = zoo.build(path, _spec())
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
    spec = dataclasses.replace(_spec(), precision='mixed_bfloat16')
    with contextlib.redirect_stderr(said):
      zoo.build(self._save(model), spec)
    self.assertIn('student: within do not compute in', said.getvalue())


class LoadTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()

  def _path(self, name):
    return os.path.join(self._scratch.full_path, name)

  def test_saved_network_comes_back(self):
    model = zoo.build('resnet8x0.25', _spec())
    model.save(self._path('model.keras'))
    images = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3))
    images = images.astype(np.uint8)
    np.testing.assert_allclose(
      zoo.load(self._path('model.keras'))(images), model(images), atol=1e-6
    )

  def test_compiled_model_comes_back_without_its_compilation(self):
    model = _classifier()
    model.compile('adam', 'mse')
    model.save(self._path('model.keras'))
    self.assertFalse(zoo.load(self._path('model.keras')).compiled)

  def test_missing_file_is_refused(self):
    path = self._path('none.keras')
    with self.assertRaisesRegex(
      errors.UsageError, f'there is no file {path}: give the path of a trained'
    ):
      zoo.load(path)

  def test_folder_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'there is no file'):
      zoo.load(self._scratch.full_path)

  def test_file_that_is_no_model_is_refused_in_one_line(self):
    for content in ('', 'hello', 'PK\x03\x04 cut off'):
      file = self._scratch.create_file('model.keras', content)
      with self.assertRaisesRegex(
        errors.UsageError, 'does not load as a Keras model .*model.save'
      ) as caught:
        zoo.load(file.full_path)
      self.assertNotIn('\n', str(caught.exception))

  def test_model_that_carries_code_is_refused_and_its_code_not_run(self):
    x = keras.Input((8, 8, 3))
    y = keras.layers.Lambda(
      lambda x: __import__('os').environ.update(FT_TF_RAN='1') or x
    )(x)
    keras.Model(x, y).save(self._path('model.keras'))
    del os.environ['FT_TF_RAN']  # Building it ran it.
    with self.assertRaisesRegex(
      errors.UsageError, 'code of a Lambda layer.*give --allow_unsafe_model'
    ) as caught:
      zoo.load(self._path('model.keras'))
    self.assertNotIn('\n', str(caught.exception))
    self.assertNotIn('FT_TF_RAN', os.environ)

  def test_code_runs_when_it_is_allowed(self):
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, keras.layers.Lambda(lambda x: x / 255)(x))
    model.save(self._path('model.keras'))
    with fixtures.unsafe():
      loaded = zoo.load(self._path('model.keras'))
    images = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(loaded(images), model(images))

  def test_weights_that_are_not_finite_are_refused_by_file_and_weight(self):
    for value in (np.nan, np.inf):
      model = _classifier()
      kernel, bias = model.get_weights()
      kernel[0, 0] = value
      model.set_weights([kernel, bias])
      path = os.path.join(self.create_tempdir().full_path, 'diverged.keras')
      model.save(path)
      with self.assertRaisesRegex(
        errors.UsageError, r'^\S*diverged\.keras has values in \S*kernel that'
      ):
        zoo.load(path)

  def test_class_or_function_that_keras_does_not_know_is_named(self):
    class Mine(keras.layers.Layer):
      def call(self, x):
        return x

    def twice(x):
      return 2 * x

    x = keras.Input((8, 8, 3))
    for layer, what in (
      (Mine(), "class 'Mine'"),
      (keras.layers.Activation(twice), "function 'twice'"),
    ):
      keras.Model(x, layer(x)).save(self._path('model.keras'))
      with self.assertRaisesRegex(
        errors.UsageError, f'holds the {what}.*register'
      ) as caught:
        zoo.load(self._path('model.keras'))
      self.assertNotIn('\n', str(caught.exception))
      with (
        fixtures.unsafe(),
        self.assertRaisesRegex(errors.UsageError, f'holds the {what}'),
      ):
        zoo.load(self._path('model.keras'))

  def test_file_of_keras_2_is_refused_with_the_version(self):
    path = os.path.join(self.create_tempdir().full_path, 'two.keras')
    layer = {
      'module': 'keras.layers',
      'class_name': 'InputLayer',
      'config': {'batch_input_shape': [None, 8, 8, 3], 'ragged': False},
    }
    for module, kind in (
      ('keras', 'Sequential'),
      ('tf_keras.src.engine.functional', 'Functional'),
    ):
      config = {
        'module': module,
        'class_name': kind,
        'config': {'name': 'model', 'layers': [layer]},
      }
      with zipfile.ZipFile(path, 'w') as file:
        file.writestr('metadata.json', '{"keras_version": "2.15.0"}')
        file.writestr('config.json', json.dumps(config))
      with self.assertRaisesRegex(
        errors.UsageError, '^.*by Keras 2.15.0.*save_weights.*load_weights.*$'
      ):
        zoo.load(path)

  def test_file_is_told_from_a_network_by_its_extension(self):
    self.assertTrue(zoo.is_file('runs/teacher/model.keras'))
    self.assertFalse(zoo.is_file('resnet20'))


class NameTest(parameterized.TestCase):
  def _assert_refused(self, path, message):
    """The flags and the library refuse a file by the same words."""
    for call in (
      lambda: zoo.check_name(path, path),
      lambda: zoo.build(path, _spec()),
    ):
      with self.assertRaisesRegex(errors.UsageError, f'^{message}$'):
        call()

  @parameterized.parameters('old.h5', 'old.hdf5')
  def test_model_of_an_older_format_is_refused_with_its_conversion(self, name):
    path = os.path.join(self.create_tempdir().full_path, name)
    model = _classifier()
    model.save(path)
    with self.assertRaises(errors.UsageError) as caught:
      zoo.build(path, _spec())
    self._assert_refused(path, '.*older format than .keras: convert it by .*')
    # The code of the message does what it says.
    code = str(caught.exception).split('"')[1]
    exec(code)
    target = f'{os.path.splitext(path)[0]}.keras'
    self.assertIn(f'give {target}', str(caught.exception))
    for ours, theirs in zip(
      zoo.load(target).get_weights(), model.get_weights(), strict=True
    ):
      np.testing.assert_array_equal(ours, theirs)

  def test_weights_alone_are_refused_with_their_flag(self):
    path = os.path.join(self.create_tempdir().full_path, 'w.weights.h5')
    _classifier().save_weights(path)
    self._assert_refused(
      path, '.*holds weights without a model.*--teacher_weights.*'
    )

  def test_folders_are_refused(self):
    folder = self.create_tempdir().full_path
    self._assert_refused(folder, '.* is a folder: give a .keras file')
    with open(os.path.join(folder, 'saved_model.pb'), 'wb'):
      pass
    self._assert_refused(folder, '.* is a SavedModel, .*model.save.*')

  def test_other_files_are_refused(self):
    path = self.create_tempfile('mine.pth').full_path
    self._assert_refused(path, '.*not a .keras file.*bin/import_torch.py.*')
    self._assert_refused('/nowhere/mine.h5', '.*no such file.*')

  def test_names_and_keras_files_pass(self):
    for name in ('resnet20', 'mobilenetv2x0.35', '/nowhere/mine.keras', ''):
      zoo.check_name(name, name)


class QuantizedStudentTest(absltest.TestCase):
  def test_quantized_file_is_refused_with_the_fix(self):
    path = os.path.join(self.create_tempdir().full_path, 'int8.keras')
    model = _classifier()
    model.quantize('int8')
    model.save(path)
    with self.assertRaisesRegex(
      errors.UsageError, '^--student=.*int8 in dense.*cannot be trained.*$'
    ):
      zoo.build(path, _spec())


class OpenStudentTest(absltest.TestCase):
  def test_file_for_any_size_becomes_one_for_the_images(self):
    path = os.path.join(self.create_tempdir().full_path, 'open.keras')
    _classifier((None, None, 3)).save(path)
    self.assertEqual(zoo.build(path, _spec()).input_shape, (None, 8, 8, 3))


class CheckFitsTest(parameterized.TestCase):
  def _check(self, model, image_shape=(8, 8, 3), classes=10):
    zoo.check_fits(
      model,
      '--teacher=t.keras',
      image_shape=image_shape,
      label_names=[str(k) for k in range(classes)],
    )

  def test_model_of_the_same_shape_and_classes_fits(self):
    self._check(_classifier())

  def test_model_of_any_image_size_fits(self):
    self._check(_classifier((None, None, 3)))

  def test_sequential_model_fits(self):
    self._check(
      keras.Sequential(
        [
          keras.Input((8, 8, 3)),
          keras.layers.Flatten(),
          keras.layers.Dense(10),
        ]
      )
    )

  @parameterized.parameters((32, 32, 3), (8, 9, 3), (8, 8, 1))
  def test_other_image_shape_is_refused_with_both(self, *shape):
    with self.assertRaisesRegex(
      errors.UsageError,
      r'--teacher=t.keras takes images of \(8, 8, 3\), the data set has '
      rf'\({", ".join(map(str, shape))}\): give .*--image_size',
    ):
      self._check(_classifier(), image_shape=shape)

  def test_flags_are_those_of_the_caller(self):
    with self.assertRaises(errors.UsageError) as error:
      self._check(_classifier(), image_shape=(9, 9, 3))
    self.assertRegex(str(error.exception), 'or its --image_size$')
    with self.assertRaisesRegex(errors.UsageError, 'or its --width'):
      zoo.check_fits(
        _classifier(),
        'it',
        image_shape=(9, 9, 3),
        label_names=['a'] * 10,
        size='--width',
      )

  def test_other_channels_are_refused_where_the_size_is_free(self):
    with self.assertRaisesRegex(errors.UsageError, 'takes images of'):
      self._check(_classifier((None, None, 3)), image_shape=(8, 8, 1))

  def test_flat_input_is_refused(self):
    x = keras.Input((192,))
    with self.assertRaisesRegex(
      errors.UsageError, r'it takes \[\(None, 192\)\]'
    ):
      self._check(keras.Model(x, keras.layers.Dense(10)(x)))

  def test_other_number_of_classes_is_refused_with_both(self):
    with self.assertRaisesRegex(
      errors.UsageError, 'has 100 classes, the data set 10: give the data set'
    ):
      self._check(_classifier(classes=100))

  def test_several_inputs_are_refused(self):
    x, y = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    z = keras.layers.Flatten()(keras.layers.Add()([x, y]))
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model([x, y], keras.layers.Dense(10)(z)))

  def test_outputs_beside_the_logits_are_refused(self):
    model = _classifier()
    feature = keras.layers.Conv2D(10, 1)(model.input)
    for outputs in (
      [model.output, feature],
      [feature, model.output],
      {'logits': model.output, 'feature': feature},
    ):
      with self.assertRaises(errors.UsageError):
        self._check(keras.Model(model.input, outputs))

  def test_logits_inside_a_dict_are_refused(self):
    model = _classifier()
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model(model.input, {'logits': model.output}))

  @parameterized.parameters(
    lambda x: [keras.Input((4,)), x],
    lambda x: [keras.Input((8, 8, 1)), x],
  )
  def test_what_is_no_single_image_is_refused(self, inputs):
    inputs = inputs(keras.Input((8, 8, 1)))
    y = keras.layers.Concatenate()(
      [keras.layers.Dense(3)(keras.layers.Flatten()(x)) for x in inputs]
    )
    with self.assertRaisesRegex(errors.UsageError, 'images .* nothing else'):
      zoo.check_classifier(keras.Model(inputs, y), 'mine.keras')
    vector = keras.Input((4,))
    model = keras.Model(vector, keras.layers.Dense(3)(vector))
    with self.assertRaisesRegex(errors.UsageError, r'takes \[\(None, 4\)\]'):
      zoo.check_classifier(model, 'mine.keras')

  def test_one_output_is_for_two_classes_alone(self):
    image = keras.Input((8, 8, 1))
    y = keras.layers.Dense(1, activation='sigmoid')(
      keras.layers.Flatten()(image)
    )
    fit = {
      'model': keras.Model(image, y),
      'what': '--teacher=mine.keras',
      'image_shape': (8, 8, 1),
    }
    zoo.check_fits(**fit, label_names=['cat', 'dog'])
    with self.assertRaisesRegex(errors.UsageError, 'an output for each class'):
      zoo.check_fits(**fit, label_names=['cat', 'dog', 'emu'])

  def test_images_with_their_channels_first_are_refused_with_the_fix(self):
    image = keras.Input((3, 8, 12))
    y = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    with self.assertRaisesRegex(
      errors.UsageError, r'^.*channels first.*Permute\(\(3, 1, 2\)\)$'
    ):
      zoo.check_fits(
        keras.Model(image, y),
        '--teacher=mine.keras',
        image_shape=(8, 12, 3),
        label_names=[''] * 10,
      )

  def test_map_of_logits_is_refused(self):
    x = keras.Input((8, 8, 3))
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model(x, keras.layers.Conv2D(10, 1)(x)))


if __name__ == '__main__':
  absltest.main()
