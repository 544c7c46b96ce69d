"""The parts of a graph are those that XNNPACK runs."""

import os

import keras
from absl.testing import absltest

from ft_tf.export import convert, partitions
from ft_tf.models import layers, zoo
from tests import networks


class PartitionsTest(absltest.TestCase):
  def _partitions(self, model, kind):
    images = networks.images(8, 16, 3)
    if kind == 'int8':
      twin = convert.float32_twin(model, 'float32')
      content = convert.tflite_int8(twin, images)
    else:
      twin = convert.float32_twin(model, 'uint8')
      make = {'fp32': convert.tflite_float32, 'fp16': convert.tflite_float16}
      content = make[kind](twin)
    path = os.path.join(self.create_tempdir().full_path, 'm.tflite')
    with open(path, 'wb') as file:
      file.write(content)
    return partitions.partitions(path)

  def test_residual_network_is_one_graph(self):
    spec = layers.Spec((16, 16, 3), 3, (0.5,) * 3, (0.25,) * 3)
    model = zoo.build('resnet8x0.25', spec)
    for kind in ('fp32', 'fp16'):
      self.assertEqual(
        self._partitions(model, kind), partitions.Partitions(1, {'CAST': 1})
      )
    # Of the image and of the logits.
    self.assertEqual(
      self._partitions(model, 'int8'), partitions.Partitions(1, {'QUANTIZE': 2})
    )

  def test_hard_swish_cuts_an_integer_graph(self):
    image = keras.Input((16, 16, 3), dtype='uint8', name='image')
    x = keras.ops.cast(image, 'float32') / 255
    for number in range(2):
      x = keras.layers.Conv2D(4, 3, name=f'conv{number}')(x)
      x = keras.layers.Activation('hard_swish')(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    self.assertEqual(self._partitions(model, 'fp32').parts, 1)
    found = self._partitions(model, 'int8')
    self.assertEqual(found.parts, 3)
    self.assertEqual(found.outside['HARD_SWISH'], 2)


if __name__ == '__main__':
  absltest.main()
