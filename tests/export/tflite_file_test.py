"""A .tflite file that is shipped: short names, and what it says of itself."""

import io
import zipfile

import flatbuffers
import keras
import numpy as np
from absl.testing import absltest, parameterized
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema

from ft_tf.export import (
  constant_graph,
  convert,
  tflite_file,
  tflite_metadata,
)
from tests import tflite_predictors


def _converted():
  """Returns a converter's file whose tensors have long names."""
  keras.utils.set_random_seed(0)
  image = keras.Input((6, 5, 3), batch_size=1, name='image')
  x = keras.layers.Conv2D(4, 3, name='a_convolution_of_a_long_name')(image)
  x = keras.layers.GlobalAveragePooling2D()(x)
  model = keras.Model(image, keras.layers.Dense(3)(x))
  return model, convert.convert_graph(
    constant_graph.of_model(model), lambda converter: None, 'net'
  )


def _description(*label_names, shape=(6, 5, 3)):
  return tflite_metadata.Description('net', 'Classifies.', shape, label_names)


def _field(table, place, read):
  """Returns a field of a flatbuffer's table; None if it is not there."""
  offset = table.Offset(4 + 2 * place)
  return read(table, offset + table.Pos) if offset else None


def _string(table, place):
  return _field(table, place, lambda t, p: t.String(p).decode())


def _table(table, place):
  return _field(
    table,
    place,
    lambda t, p: flatbuffers.table.Table(t.Bytes, t.Indirect(p)),
  )


def _first(table, place):
  """Returns the first table of a vector of one."""
  start = table.Vector(table.Offset(4 + 2 * place))
  return flatbuffers.table.Table(table.Bytes, table.Indirect(start))


def _number(table, place, flags):
  return _field(table, place, lambda t, p: t.Get(flags, p))


class TfliteFileTest(parameterized.TestCase):
  def test_short_names_change_nothing_but_the_size(self):
    model, content = _converted()
    short = tflite_file.complete(content)
    self.assertLess(len(short), len(content))
    images = np.random.default_rng(0).integers(256, size=(4, 6, 5, 3))
    images = images.astype(np.uint8)
    np.testing.assert_array_equal(
      tflite_predictors.predictor(self, short)(images),
      tflite_predictors.predictor(self, content)(images),
    )
    names = [
      each['name']
      for each in litert.Interpreter(model_content=short).get_tensor_details()
    ]
    self.assertLess(max(map(len, names)), 4)
    interpreter = litert.Interpreter(model_content=short)
    self.assertEqual(
      interpreter.get_signature_list(),
      {'serving_default': {'inputs': ['image'], 'outputs': ['logits']}},
    )
    by_signature = interpreter.get_signature_runner('serving_default')
    np.testing.assert_allclose(
      by_signature(image=images[:1].astype(np.float32))['logits'],
      model.predict_on_batch(images[:1]),
      atol=1e-4,
      rtol=1e-5,
    )

  @parameterized.parameters(1, 3)
  def test_described_file_runs_and_says_what_it_is(self, channels):
    model, content = _converted()
    names = ('cat', 'a b, "c"', 'Katze <ä>')
    described = tflite_file.describe(
      content, _description(*names, shape=(6, 5, channels))
    )
    images = np.zeros((2, 6, 5, 3), np.uint8)
    np.testing.assert_allclose(
      tflite_predictors.predictor(self, described)(images),
      model.predict_on_batch(images[:1])[[0, 0]],
      atol=1e-5,
    )
    with zipfile.ZipFile(io.BytesIO(described)) as archive:
      self.assertEqual(archive.namelist(), ['labels.txt'])
      self.assertEqual(
        archive.read('labels.txt').decode(), 'cat\na b, "c"\nKatze <ä>\n'
      )
    table = schema.ModelT.InitFromPackedBuf(described, 0)
    (entry,) = [m for m in table.metadata if m.name == b'TFLITE_METADATA']
    packed = bytes(bytearray(table.buffers[entry.buffer].data))
    self.assertEqual(packed[4:8], b'M001')
    root = flatbuffers.table.Table(
      packed,
      flatbuffers.encode.Get(flatbuffers.packer.uoffset, packed, 0),
    )
    self.assertEqual(_string(root, 0), 'net')
    graph = _first(root, 3)
    image, logits = _first(graph, 2), _first(graph, 3)
    self.assertEqual(_string(image, 0), 'image')
    properties = _table(_table(image, 3), 1)
    u32 = flatbuffers.number_types.Uint32Flags
    i8 = flatbuffers.number_types.Int8Flags
    size = _table(properties, 1)
    self.assertEqual((_number(size, 0, u32), _number(size, 1, u32)), (5, 6))
    self.assertEqual(_number(properties, 0, i8), 2 if channels == 1 else 1)
    labels = _first(logits, 6)
    self.assertEqual(_string(labels, 0), 'labels.txt')
    self.assertEqual(_number(labels, 2, i8), 2)

  def test_same_model_makes_the_same_bytes(self):
    _, content = _converted()
    self.assertEqual(
      tflite_file.describe(content, _description('a', 'b', 'c')),
      tflite_file.describe(content, _description('a', 'b', 'c')),
    )


if __name__ == '__main__':
  absltest.main()
