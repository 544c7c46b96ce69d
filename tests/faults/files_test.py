"""Files from strangers: pipes, claims of terabytes, programs in SavedModels."""

import contextlib
import os
import socket
import struct
import threading
import zipfile

import h5py
import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors, paths
from ft_tf.cli import settings
from ft_tf.evaluation import predictors, saved_model_checks
from ft_tf.models import checkpoints, file_limits, model_files, weight_files

_TERABYTES = 2**43


def _model():
  keras.utils.set_random_seed(0)
  image = keras.Input((8, 8, 1), dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(2, 3)(x)
  x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(x))
  return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


class PipesTest(parameterized.TestCase):
  @parameterized.named_parameters(
    ('keras', 'm.keras', model_files.load),
    ('onnx', 'm.onnx', model_files.load),
    ('tflite', 'm.tflite', predictors.open_predictor),
    ('npz', 'm.npz', checkpoints.read),
    ('weights', 'm.h5', lambda path: weight_files.check_file(path, 'teacher')),
    ('config', 'recipe.json', settings.read_config),
  )
  def test_pipe_and_socket_are_refused_in_one_line(self, name, read):
    folder = self.create_tempdir().full_path
    path = os.path.join(folder, name)
    os.mkfifo(path)
    caught = []

    def call():
      try:
        read(path)
      except errors.UsageError as error:
        caught.append(str(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    self.assertFalse(thread.is_alive(), 'it waits for the pipe')
    self.assertRegex(caught[0], r'is a pipe \(FIFO\): give the path of a file')
    os.remove(path)
    with socket.socket(socket.AF_UNIX) as server:
      # The path of a socket must be short.
      self.enter_context(contextlib.chdir(folder))
      server.bind(name)
      with self.assertRaisesRegex(errors.UsageError, 'is a socket: give'):
        read(path)

  def test_device_is_refused(self):
    with self.assertRaisesRegex(errors.UsageError, '--x=/dev/null is a device'):
      paths.check_regular('/dev/null', '--x=')


class ClaimsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _path(self, name):
    return os.path.join(self.folder, name)

  def test_whole_files_pass(self):
    path = self._path('m.keras')
    _model().save(path)
    file_limits.check_archive(path)
    np.savez_compressed(self._path('m.npz'), a=np.zeros((1000, 1000)))
    file_limits.check_archive(self._path('m.npz'))
    _model().save_weights(self._path('m.weights.h5'))
    file_limits.check_hdf5(self._path('m.weights.h5'))

  def test_archive_whose_header_claims_terabytes_is_refused(self):
    for name, member in (('a.keras', 'model.weights.h5'), ('a.npz', 'a.npy')):
      path = self._path(name)
      with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, b'x' * 100)
        entry = archive.infolist()[0]
        # The central directory is written at the end, with this size.
        entry.file_size = _TERABYTES
      read = model_files.load if name == 'a.keras' else checkpoints.read
      with self.assertRaisesRegex(errors.UsageError, r'claims to hold 8,192\.'):
        read(path)

  def test_npy_whose_header_claims_more_than_its_member_is_refused(self):
    header = (
      f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40},), }}"
    ).ljust(117) + '\n'
    content = b'\x93NUMPY\x01\x00' + struct.pack('<H', 118) + header.encode()
    path = self._path('a.npz')
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('a.npy', content + b'\0' * 64)
    with self.assertRaisesRegex(
      errors.UsageError, 'an array that claims 4,096'
    ):
      checkpoints.read(path)

  def test_weights_of_nothing_stored_are_refused_by_their_shape(self):
    path = self._path('m.weights.h5')
    with h5py.File(path, 'w') as file:
      file.create_dataset('w', (2**40,), 'f4', chunks=(2**20,))
    self.assertLess(os.path.getsize(path), 10**5)
    with self.assertRaisesRegex(errors.UsageError, 'claims to hold 4,096'):
      weight_files.check_file(path, 'teacher')
    within = self._path('m.keras')
    _model().save(within)
    with (
      zipfile.ZipFile(within) as old,
      zipfile.ZipFile(self._path('n.keras'), 'w') as new,
    ):
      for name in old.namelist():
        new.writestr(name, old.read(name) if 'h5' not in name else _read(path))
    with self.assertRaisesRegex(errors.UsageError, 'claims to hold 4,096'):
      model_files.load(self._path('n.keras'))

  def test_weights_in_other_files_are_refused(self):
    secret = self.create_tempfile('secret', 'x' * 400).full_path
    path = self._path('e.h5')
    with h5py.File(path, 'w') as file:
      file.create_dataset('w', (100,), 'f4', external=[(secret, 0, 400)])
    with self.assertRaisesRegex(errors.UsageError, 'data in other files'):
      weight_files.check_file(path, 'student')
    with h5py.File(self._path('l.h5'), 'w') as file:
      file['w'] = h5py.ExternalLink(path, '/w')
    with self.assertRaisesRegex(errors.UsageError, 'data in other files'):
      weight_files.check_file(self._path('l.h5'), 'student')


class SavedModelTest(parameterized.TestCase):
  def _save(self, function, name='m'):
    path = os.path.join(self.create_tempdir().full_path, name)
    module = tf.Module()
    module.serve = tf.function(
      function, input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32)]
    )
    tf.saved_model.save(
      module, path, {'serving_default': module.serve.get_concrete_function()}
    )
    return path

  def test_model_of_keras_passes_and_runs(self):
    path = os.path.join(self.create_tempdir().full_path, 'm')
    _model().export(path, verbose=False)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    self.assertEqual(predictors.open_predictor(path)(images).shape, (2, 3))

  def _programs(self, target):
    """Returns functions of images that reach beyond their model."""

    def write(images):
      with tf.control_dependencies([tf.io.write_file(target, 'x')]):
        return tf.reduce_mean(images, (1, 2)) * tf.ones((1, 3))

    def read(images):
      size = tf.strings.length(tf.io.read_file(target))
      return tf.reduce_mean(images, (1, 2)) + tf.cast(size, tf.float32)

    def read_in_a_branch(images):
      return tf.cond(
        tf.reduce_sum(images) > 1e9,
        lambda: read(images),
        lambda: tf.reduce_mean(images, (1, 2)),
      )

    def read_in_a_loop(images):
      return tf.while_loop(
        lambda x: tf.reduce_sum(x) > 1e9,
        lambda x: read(images),
        [images[:, 0, 0]],
      )[0]

    def save(images):
      with tf.control_dependencies(
        [
          tf.raw_ops.SaveV2(
            prefix=target,
            tensor_names=['a'],
            shape_and_slices=[''],
            tensors=[images],
          )
        ]
      ):
        return tf.reduce_mean(images, (1, 2))

    def list_files(images):
      count = tf.size(tf.io.matching_files('/*'))
      return tf.reduce_mean(images, (1, 2)) + tf.cast(count, tf.float32)

    return {
      'WriteFile': write,
      'ReadFile': read,
      'SaveV2': save,
      'MatchingFiles': list_files,
      'ReadFile (branch)': read_in_a_branch,
      'ReadFile (loop)': read_in_a_loop,
    }

  def test_operations_that_reach_files_need_permission(self):
    target = os.path.join(self.create_tempdir().full_path, 'written')
    for name, function in self._programs(target).items():
      path = self._save(function)
      with self.assertRaisesRegex(
        errors.UsageError, rf'\({name.split()[0]}.*--allow_unsafe_model'
      ):
        predictors.open_predictor(path)
    self.assertFalse(os.path.exists(target))

  def test_operations_that_run_while_loading_need_permission(self):
    target = os.path.join(self.create_tempdir().full_path, 'written')

    class Resource(tf.saved_model.experimental.TrackableResource):
      def _create_resource(self):
        tf.io.write_file(target, 'x')
        return tf.raw_ops.MutableHashTableV2(
          key_dtype=tf.int64, value_dtype=tf.int64
        )

    module = tf.Module()
    module.table = Resource()
    _ = module.table.resource_handle

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32)])
    def serve(images):
      size = tf.raw_ops.LookupTableSizeV2(
        table_handle=module.table.resource_handle
      )
      return tf.reduce_mean(images, (1, 2)) + tf.cast(size, tf.float32)

    module.serve = serve
    path = os.path.join(self.create_tempdir().full_path, 'm')
    tf.saved_model.save(module, path, {'serving_default': serve})
    os.remove(target)
    with self.assertRaisesRegex(errors.UsageError, 'WriteFile'):
      predictors.open_predictor(path)
    self.assertFalse(os.path.exists(target))

  def test_other_form_of_the_same_model_cannot_hide_behind_it(self):
    path = os.path.join(self.create_tempdir().full_path, 'm')
    _model().export(path, verbose=False)
    with open(os.path.join(path, 'saved_model.cpb'), 'w'):
      pass
    with self.assertRaisesRegex(errors.UsageError, 'saved_model.cpb as well'):
      saved_model_checks.check(path)


def _read(path):
  with open(path, 'rb') as file:
    return file.read()


if __name__ == '__main__':
  absltest.main()
