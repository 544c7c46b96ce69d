"""What a graph tells of its images, maps and logits."""

import os

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.evaluation import predictors
from ft_tf.models import feature_maps, model_files, onnx_interface, standard
from tests import onnx_graphs

_node = onnx_graphs.node


def _channels_last(perm=(0, 3, 1, 2)):
  """Returns nodes that take `[N, H, W, C]`, as tf2onnx writes them."""
  return [
    _node('Transpose', 'image', 'first', perm=perm),
    *onnx_graphs.classifier('first'),
  ]


class OnnxInterfaceTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    if onnx_graphs.MISSING:
      self.skipTest(f'not installed: {onnx_graphs.MISSING}')

  def _describe(self, nodes, **kwargs):
    return onnx_interface.describe(onnx_graphs.model(nodes, **kwargs), 'x.onnx')

  def _load(self, nodes, **kwargs):
    path = os.path.join(self.create_tempdir().full_path, 'model.onnx')
    onnx_graphs.write(path, onnx_graphs.model(nodes, **kwargs))
    return model_files.load(path)

  def test_channels_are_found_from_the_graph(self):
    first = self._describe(onnx_graphs.classifier(), image=('n', 3, 8, 3))
    self.assertTrue(first.channels_first)
    self.assertEqual(first.image_shape, (8, 3, 3))
    last = self._describe(_channels_last(), image=('n', 3, 8, 3))
    self.assertFalse(last.channels_first)
    self.assertEqual(last.image_shape, (3, 8, 3))
    self.assertEqual(
      [(each.tensor, each.axes) for each in last.maps],
      [
        ('first', (0, 2, 3, 1)),
        ('conv', (0, 2, 3, 1)),
        ('relu', (0, 2, 3, 1)),
        ('pooled', (0, 2, 3, 1)),
      ],
    )

  def test_both_layouts_give_the_same(self):
    images = np.random.default_rng(0).normal(size=(5, 8, 6, 3))
    first = self._load(onnx_graphs.classifier(), image=('n', 3, 8, 6))
    last = self._load(_channels_last(), image=('n', 8, 6, 3))
    np.testing.assert_array_equal(first(images), last(images))
    self.assertEqual(feature_maps.shape(first, 'relu'), (8, 6, 4))
    self.assertEqual(feature_maps.shape(last, 'relu'), (8, 6, 4))

  def test_maps_with_channels_last_within_are_found(self):
    # As ConvNeXt and Swin have them: a transposition, and layers on the last
    # axis; what a reshape makes is no map.
    nodes = [
      _node('Conv', 'image kernel', 'conv', pads=[1, 1, 1, 1]),
      _node('Transpose', 'conv', 'moved', perm=[0, 2, 3, 1]),
      _node('MatMul', 'moved square', 'mixed'),
      _node('Add', 'mixed moved', 'sum'),
      _node('Reshape', 'sum sizes', 'windows'),
      _node('ReduceMean', 'sum', 'flat', axes=[1, 2], keepdims=0),
      _node('MatMul', 'flat matrix', 'logits'),
    ]
    weights = {
      'square': np.eye(4, dtype=np.float32),
      'sizes': np.array([0, 4, 4, 16]),
    }
    about = self._describe(nodes, weights=weights)
    self.assertEqual(
      [(each.tensor, each.axes) for each in about.maps],
      [
        ('conv', (0, 2, 3, 1)),
        ('moved', (0, 1, 2, 3)),
        ('mixed', (0, 1, 2, 3)),
        ('sum', (0, 1, 2, 3)),
      ],
    )

  @parameterized.parameters(False, True)
  def test_file_of_one_image_takes_several(self, holds_on):
    """Its batch may be one of the signature alone, or be built in."""
    nodes = onnx_graphs.classifier(logits='last')
    end = _node('Reshape', 'last fixed', 'logits')
    if not holds_on:
      end = _node('Identity', 'last', 'logits')
    network = self._load(
      [*nodes, end], image=(1, 3, 8, 8), weights={'fixed': np.array([1, 3])}
    )
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3))
    whole = self._load(onnx_graphs.classifier())
    np.testing.assert_allclose(
      predictors.KerasPredictor(network)(images),
      predictors.KerasPredictor(whole)(images),
      atol=1e-5,
    )

  def test_image_size_that_is_open_is_that_of_the_data(self):
    given = self._load(onnx_graphs.classifier(), image=('n', 3, 'h', 'w'))
    self.assertEqual(given.inputs[0].shape, (None, None, None, 3))
    network, _ = standard.standardize(given, image_shape=(10, 12, 3))
    self.assertEqual(feature_maps.shape(network, 'conv'), (10, 12, 4))
    self.assertEqual(network(np.zeros((2, 10, 12, 3))).shape, (2, 3))

  def test_bytes_stay_bytes(self):
    nodes = [
      _node('Cast', 'image', 'real', to=1),
      *onnx_graphs.classifier('real'),
    ]
    network = self._load(nodes, dtype='UINT8')
    self.assertEqual(network.inputs[0].dtype, 'uint8')
    self.assertEqual(network(np.zeros((2, 8, 8, 3), np.uint8)).shape, (2, 3))

  def test_parts_and_borders_of_a_map_are_no_maps(self):
    nodes = [
      _node('Conv', 'image kernel', 'whole', pads=[1, 1, 1, 1]),
      _node('Split', 'whole', 'left right', axis=3),
      _node('Concat', 'right left', 'rolled', axis=3),
      _node('Concat', 'whole left', 'joined', axis=3),
      _node('Pad', 'joined widths', 'padded'),
      _node('GlobalAveragePool', 'padded', 'pooled'),
      _node('Flatten', 'pooled', 'flat'),
      _node('MatMul', 'flat matrix', 'logits'),
    ]
    weights = {'widths': np.array([0, 0, 1, 1] * 2)}
    about = self._describe(nodes, weights=weights)
    self.assertEqual(
      [each.tensor for each in about.maps], ['whole', 'joined', 'pooled']
    )

  def test_sizes_that_the_graph_does_not_tell_are_measured(self):
    # The slice ends where a value of the run says, as in Swin.
    nodes = [
      _node('Conv', 'image kernel', 'whole', pads=[1, 1, 1, 1]),
      _node('ReduceMax', 'image', 'most', keepdims=0),
      _node('Sub', 'most most', 'zero'),
      _node('Cast', 'zero', 'count', to=7),
      _node('Add', 'count six', 'end'),
      _node('Unsqueeze', 'end first', 'ends'),
      _node('Slice', 'whole first ends axis', 'cut'),
      _node('Relu', 'cut', 'part'),
      _node('GlobalAveragePool', 'part', 'pooled'),
      _node('Flatten', 'pooled', 'flat'),
      _node('MatMul', 'flat matrix', 'logits'),
    ]
    weights = {
      'six': np.array(6),
      'first': np.array([0]),
      'axis': np.array([3]),
    }
    network = self._load(nodes, weights=weights)
    self.assertEqual(feature_maps.shape(network, 'part'), (8, 6, 4))
    self.assertEqual(network(np.zeros((2, 8, 8, 3))).shape, (2, 3))

  @parameterized.named_parameters(
    ('other_inputs', {'more_inputs': 'mask'}, r'has 2 inputs \(image, mask\)'),
    ('no_images', {'image': ('n', 3)}, r'takes float32 \[\?, 3\], not images'),
    ('integers', {'dtype': 'INT64'}, 'takes int64'),
    ('channels', {'image': ('n', 5, 8, 8)}, 'not clear what are channels'),
    ('no_logits', {'outputs': 'relu'}, r'gives relu \[1, 4, 8, 8\], of which'),
    ('two_logits', {'outputs': 'flat logits'}, 'of which 2 are'),
  )
  def test_other_models_are_refused(self, changes, message):
    nodes = onnx_graphs.classifier()
    with self.assertRaisesRegex(errors.UsageError, message):
      self._describe(nodes, **changes)

  def test_activation_on_the_logits_is_told(self):
    for kind, changes, expected in (
      ('Softmax', {'axis': 1}, ('logits', 'softmax')),
      ('Softmax', {'axis': 0}, ('end', '')),
      ('Sigmoid', {}, ('logits', 'sigmoid')),
      ('LogSoftmax', {}, ('end', '')),
    ):
      nodes = [
        *onnx_graphs.classifier(),
        _node(kind, 'logits', 'inner', **changes),
        _node('Identity', 'inner', 'end'),
      ]
      about = self._describe(nodes, outputs='end')
      self.assertEqual((about.logits, about.activation), expected)


if __name__ == '__main__':
  absltest.main()
