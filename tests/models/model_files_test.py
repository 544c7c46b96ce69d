"""Models out of files, and the files that are refused."""

import json
import os
import zipfile

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import model_files, zoo
from tests import classifiers, fixtures


class LoadTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self._scratch = self.create_tempdir()

  def _path(self, name):
    return os.path.join(self._scratch.full_path, name)

  def test_saved_network_comes_back(self):
    model = zoo.build('resnet8x0.25', classifiers.spec())
    model.save(self._path('model.keras'))
    images = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3))
    images = images.astype(np.uint8)
    np.testing.assert_allclose(
      model_files.load(self._path('model.keras'))(images),
      model(images),
      atol=1e-6,
    )

  def test_compiled_model_comes_back_without_its_compilation(self):
    model = classifiers.classifier()
    model.compile('adam', 'mse')
    model.save(self._path('model.keras'))
    self.assertFalse(model_files.load(self._path('model.keras')).compiled)

  def test_missing_file_is_refused(self):
    path = self._path('none.keras')
    with self.assertRaisesRegex(
      errors.UsageError, f'there is no file {path}: give the path of a trained'
    ):
      model_files.load(path)

  def test_folder_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, 'there is no file'):
      model_files.load(self._scratch.full_path)

  def test_file_that_is_no_model_is_refused_in_one_line(self):
    for content in ('', 'hello', 'PK\x03\x04 cut off'):
      file = self._scratch.create_file('model.keras', content)
      with self.assertRaisesRegex(
        errors.UsageError, 'does not load as a Keras model .*model.save'
      ) as caught:
        model_files.load(file.full_path)
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
      model_files.load(self._path('model.keras'))
    self.assertNotIn('\n', str(caught.exception))
    self.assertNotIn('FT_TF_RAN', os.environ)

  def test_code_runs_when_it_is_allowed(self):
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, keras.layers.Lambda(lambda x: x / 255)(x))
    model.save(self._path('model.keras'))
    with fixtures.unsafe():
      loaded = model_files.load(self._path('model.keras'))
    images = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_allclose(loaded(images), model(images))

  def test_weights_that_are_not_finite_are_refused_by_file_and_weight(self):
    for value in (np.nan, np.inf):
      model = classifiers.classifier()
      kernel, bias = model.get_weights()
      kernel[0, 0] = value
      model.set_weights([kernel, bias])
      path = os.path.join(self.create_tempdir().full_path, 'diverged.keras')
      model.save(path)
      with self.assertRaisesRegex(
        errors.UsageError, r'^\S*diverged\.keras has values in \S*kernel that'
      ):
        model_files.load(path)

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
        model_files.load(self._path('model.keras'))
      self.assertNotIn('\n', str(caught.exception))
      with (
        fixtures.unsafe(),
        self.assertRaisesRegex(errors.UsageError, f'holds the {what}'),
      ):
        model_files.load(self._path('model.keras'))

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
        model_files.load(path)

  def test_file_is_told_from_a_network_by_its_extension(self):
    self.assertTrue(model_files.is_file('runs/teacher/model.keras'))
    self.assertFalse(model_files.is_file('resnet20'))


class NameTest(parameterized.TestCase):
  def _assert_refused(self, path, message):
    """The flags and the library refuse a file by the same words."""
    for call in (
      lambda: model_files.check_name(path, path),
      lambda: zoo.build(path, classifiers.spec()),
    ):
      with self.assertRaisesRegex(errors.UsageError, f'^{message}$'):
        call()

  @parameterized.parameters('old.h5', 'old.hdf5')
  def test_model_of_an_older_format_is_refused_with_its_conversion(self, name):
    path = os.path.join(self.create_tempdir().full_path, name)
    model = classifiers.classifier()
    model.save(path)
    with self.assertRaises(errors.UsageError) as caught:
      zoo.build(path, classifiers.spec())
    self._assert_refused(path, '.*older format than .keras: convert it by .*')
    # The code of the message does what it says.
    code = str(caught.exception).split('"')[1]
    exec(code)
    target = f'{os.path.splitext(path)[0]}.keras'
    self.assertIn(f'give {target}', str(caught.exception))
    for ours, theirs in zip(
      model_files.load(target).get_weights(), model.get_weights(), strict=True
    ):
      np.testing.assert_array_equal(ours, theirs)

  def test_weights_alone_are_refused_with_their_flag(self):
    path = os.path.join(self.create_tempdir().full_path, 'w.weights.h5')
    classifiers.classifier().save_weights(path)
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
    self._assert_refused(path, '.*not a .keras file.*ft-tf import-torch.*')
    self._assert_refused('/nowhere/mine.h5', '.*no such file.*')

  def test_names_and_keras_files_pass(self):
    for name in ('resnet20', 'mobilenetv2x0.35', '/nowhere/mine.keras', ''):
      model_files.check_name(name, name)


if __name__ == '__main__':
  absltest.main()
