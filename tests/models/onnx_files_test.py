"""ONNX files are read with what is beside them, and with nothing else."""

import os
import subprocess
import sys
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import model_files, onnx_files
from tests import onnx_graphs


def _external(location: str, **entries: int):
  """Returns a classifier whose kernel is in another file, and its bytes."""
  import onnx  # noqa: PLC0415

  proto = onnx_graphs.model(onnx_graphs.classifier())
  (kernel,) = (x for x in proto.graph.initializer if x.name == 'kernel')
  content = kernel.raw_data
  kernel.ClearField('raw_data')
  kernel.data_location = onnx.TensorProto.EXTERNAL
  for key, value in {'location': location, **entries}.items():
    kernel.external_data.add(key=key, value=str(value))
  return proto, content


class OnnxFilesTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    if onnx_graphs.MISSING:
      self.skipTest(f'not installed: {onnx_graphs.MISSING}')
    self.folder = self.create_tempdir().full_path
    self.path = os.path.join(self.folder, 'model.onnx')

  def _assert_refused(self, message):
    with self.assertRaisesRegex(errors.UsageError, message) as caught:
      model_files.load(self.path)
    self.assertNotIn('\n', str(caught.exception))

  def test_weights_beside_the_file_are_read(self):
    proto, content = _external('weights.bin', offset=16, length=432)
    onnx_graphs.write(self.path, proto)
    with open(os.path.join(self.folder, 'weights.bin'), 'wb') as file:
      file.write(bytes(16) + content)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    other = os.path.join(self.folder, 'whole.onnx')
    onnx_graphs.write(other, onnx_graphs.model(onnx_graphs.classifier()))
    np.testing.assert_array_equal(
      model_files.load(self.path)(images), model_files.load(other)(images)
    )

  def test_weights_in_a_pipe_or_under_no_name_are_refused(self):
    os.mkfifo(os.path.join(self.folder, 'pipe'))
    for location, message in (
      ('pipe', 'is a pipe .*: give the path of a file'),
      ('a\0b', 'which is not in its folder'),
    ):
      onnx_graphs.write(self.path, _external(location)[0])
      self._assert_refused(message)

  @parameterized.parameters(b'beside', b'location', b'kernel', b'Conv')
  def test_text_that_is_none_is_refused(self, text):
    onnx_graphs.write(self.path, _external('beside')[0])
    with open(self.path, 'rb') as file:
      content = file.read()
    self.assertIn(text, content)
    with open(self.path, 'wb') as file:
      file.write(content.replace(text, b'\xff' + text[1:]))
    self._assert_refused('is not an ONNX file')

  def test_tensor_that_is_made_twice_is_refused(self):
    proto = onnx_graphs.model(onnx_graphs.classifier())
    proto.graph.node.append(proto.graph.node[0])
    onnx_graphs.write(self.path, proto)
    self._assert_refused('makes its tensor conv twice')

  def test_image_that_no_memory_holds_is_refused(self):
    proto = onnx_graphs.model(
      onnx_graphs.classifier(), image=('n', 3, 2**31, 8)
    )
    onnx_graphs.write(self.path, proto)
    self._assert_refused('which no memory holds')

  def test_graph_whose_shapes_cannot_be_inferred_is_refused(self):
    proto = onnx_graphs.model(onnx_graphs.classifier())
    del proto.graph.node[1].input[:]
    onnx_graphs.write(self.path, proto)
    self._assert_refused('a graph that is not valid')

  def test_onnx_runtime_leaves_nothing_in_the_home_folder(self):
    home = self.create_tempdir().full_path
    environment = {**os.environ, 'HOME': home}
    for name in ('ORT_DISABLE_TELEMETRY', 'XDG_CACHE_HOME'):
      environment.pop(name, None)
    subprocess.run(
      [sys.executable, '-c', 'import ft_tf, onnxruntime'],
      env=environment,
      check=True,
    )
    self.assertEmpty(os.listdir(home))

  def test_weights_that_are_cut_off_are_refused(self):
    proto, content = _external('weights.bin', length=432)
    onnx_graphs.write(self.path, proto)
    with open(os.path.join(self.folder, 'weights.bin'), 'wb') as file:
      file.write(content[:400])
    self._assert_refused('weights in weights.bin are cut off')

  @parameterized.parameters('../secret', '{}/secret', 'link', '', '.')
  def test_weights_outside_the_folder_are_not_read(self, location):
    outside = self.create_tempdir().full_path
    with open(os.path.join(outside, 'secret'), 'wb') as file:
      file.write(bytes(432))
    os.symlink(
      os.path.join(outside, 'secret'), os.path.join(self.folder, 'link')
    )
    os.symlink(outside, os.path.join(self.folder, 'inner'))
    proto, _ = _external(location.format(outside))
    onnx_graphs.write(self.path, proto)
    self._assert_refused('not in its folder')

  def test_weights_that_are_missing_are_named(self):
    proto, _ = _external('gone.bin')
    onnx_graphs.write(self.path, proto)
    self._assert_refused('weights in gone.bin cannot be read')

  @parameterized.parameters(b'', b'no model', b'\x08\x09')
  def test_other_files_are_refused(self, content):
    with open(self.path, 'wb') as file:
      file.write(content)
    self._assert_refused('is not an ONNX file: give one')

  def test_file_that_is_missing_is_named(self):
    self._assert_refused('there is no file .*model.onnx')

  def test_operations_of_other_libraries_are_named(self):
    nodes = onnx_graphs.classifier('strange')
    strange = onnx_graphs.node('Twist', 'image', 'strange', domain='mine')
    onnx_graphs.write(self.path, onnx_graphs.model([strange, *nodes]))
    self._assert_refused(r'does not have \(mine.Twist\): export')

  def test_graph_that_onnx_runtime_refuses_is_told_in_a_line(self):
    nodes = onnx_graphs.classifier('strange')
    strange = onnx_graphs.node('Relu', 'image', 'strange', alpha=0.1)
    onnx_graphs.write(self.path, onnx_graphs.model([strange, *nodes]))
    self._assert_refused(
      'does not run the ONNX teacher .*attribute: alpha.*: export it again'
    )


class WithoutPackagesTest(absltest.TestCase):
  def test_package_that_is_missing_is_named_with_its_command(self):
    path = self.create_tempfile('model.onnx', 'any').full_path
    with mock.patch.dict(sys.modules, {'onnx': None}):
      with self.assertRaisesRegex(
        errors.UsageError, '`pip install onnx onnxruntime`'
      ):
        onnx_files.read(path)


if __name__ == '__main__':
  absltest.main()
