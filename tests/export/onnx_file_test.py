"""The ONNX file computes what Keras does, with one input and one output."""

import importlib.util
import sys
from unittest import mock

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.export import convert, onnx_file
from ft_tf.models import layers, zoo
from tests import networks

_MISSING = [
  name
  for name in ('tf2onnx', 'onnx', 'onnxruntime')
  if importlib.util.find_spec(name) is None
]


def _twin(name, size=32, input_dtype='uint8'):
  keras.utils.set_random_seed(0)
  spec = layers.Spec((size, size, 3), 5, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
  student = networks.disturb(zoo.build(name, spec))
  return convert.float32_twin(student, input_dtype)


class OnnxFileTest(parameterized.TestCase):
  @parameterized.parameters(
    'resnet8x0.25', 'mobilenetv2x0.35', 'mobilenetv3small'
  )
  def test_logits_are_those_of_keras(self, name):
    if _MISSING:
      self.skipTest(f'not installed: {", ".join(_MISSING)}')
    import onnxruntime  # noqa: PLC0415

    twin = _twin(name)
    session = onnxruntime.InferenceSession(
      onnx_file.onnx_model(twin), providers=['CPUExecutionProvider']
    )
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    self.assertEqual(
      (image.name, image.shape, image.type),
      ('image', [1, 32, 32, 3], 'tensor(uint8)'),
    )
    self.assertEqual(
      (logits.name, logits.shape, logits.type),
      ('logits', [1, 5], 'tensor(float)'),
    )
    images = networks.images(8, 32, 3)
    expected = twin.predict(images, verbose=0)
    outputs = np.concatenate(
      [session.run(None, {'image': each[None]})[0] for each in images]
    )
    # Random weights make logits of up to hundreds.
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(outputs / scale, expected / scale, atol=1e-4)

  def test_convolutions_stand_without_transpositions_between(self):
    if _MISSING:
      self.skipTest(f'not installed: {", ".join(_MISSING)}')
    import onnx  # noqa: PLC0415

    model = onnx.load_from_string(
      onnx_file.onnx_model(_twin('mobilenetv3small'))
    )
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    self.assertLessEqual(kinds.count('Transpose'), 2)

  def test_operation_that_onnx_lacks_is_named(self):
    if _MISSING:
      self.skipTest(f'not installed: {", ".join(_MISSING)}')
    image = keras.Input((8, 8, 3), dtype='uint8', name='image')
    x = keras.ops.cast(image, 'float32')
    x = keras.ops.erfinv(keras.ops.mean(x, axis=(1, 2)) / 256)
    twin = keras.Model(image, x, name='strange')
    with self.assertRaisesRegex(errors.UsageError, 'strange cannot.*Erfinv'):
      onnx_file.onnx_model(twin)

  def test_package_that_is_missing_is_named_with_its_command(self):
    with mock.patch.dict(sys.modules, {'tf2onnx': None}):
      with self.assertRaisesRegex(
        errors.UsageError, 'pip install tf2onnx onnx onnxruntime'
      ):
        onnx_file.onnx_model(_twin('resnet8x0.25', 8))


if __name__ == '__main__':
  absltest.main()
