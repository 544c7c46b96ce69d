"""An ONNX file as a Keras model: PyTorch's values, by the names of tensors."""

import os

import keras
import numpy as np
from absl.testing import absltest

from ft_tf import errors, specs
from ft_tf.evaluation import predictors
from ft_tf.models import (
  feature_maps,
  folding,
  layer_choice,
  model_files,
  onnx_layers,
  onnx_models,
  standard,
  taps,
)
from tests import onnx_graphs


def _network():
  """Returns PyTorch's network, taking raw images."""
  model = model_files.load(onnx_graphs.CNN)
  return standard.standardize(model, preprocessing='imagenet')[0]


class OnnxModelsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    if onnx_graphs.MISSING:
      self.skipTest(f'not installed: {onnx_graphs.MISSING}')

  def test_logits_and_maps_are_those_of_pytorch(self):
    network, expected = _network(), onnx_graphs.expected()
    images = expected['images']
    logits = predictors.KerasPredictor(folding.fold(network))(images)
    np.testing.assert_allclose(logits, expected['logits'], atol=1e-4)
    layers = {
      'relu': layer_choice.resolve_layer(network),
      'stem': layer_choice.resolve_layer(network, '/stem/relu/Relu_output_0'),
    }
    tapped = taps.logits_and_features(network, layers.values())
    logits, maps = tapped(images)
    np.testing.assert_allclose(logits, expected['logits'], atol=1e-4)
    for name, layer in layers.items():
      self.assertGreater(np.abs(expected[name]).max(), 0.5)
      np.testing.assert_allclose(maps[layer], expected[name], atol=1e-4)

  def test_maps_are_listed_in_order_by_the_names_of_their_tensors(self):
    network = _network()
    maps = layer_choice.candidates(network)[1:]  # After the preprocessing.
    self.assertEqual(
      [(each.layer, each.shape, each.called) for each in maps],
      [
        ('/stem/conv/Conv_output_0', (16, 24, 6), ()),
        ('/stem/relu/Relu_output_0', (16, 24, 6), ('-3',)),
        ('/pool/MaxPool_output_0', (8, 12, 6), ('-2',)),
        ('/conv/Conv_output_0', (4, 6, 10), ()),
        ('/shortcut/Conv_output_0', (4, 6, 10), ()),
        ('/Add_output_0', (4, 6, 10), ()),
        ('/relu/Relu_output_0', (4, 6, 10), ('auto', '-1')),
      ],
    )
    # Kernel and bias: 3x3x3x6 + 6; then 3x3x6x10 + 10 and 6x10 + 10.
    total = 168 + 550 + 70 + 33
    self.assertEqual(specs.count_parameters(network), total)
    self.assertEqual(
      [round(total * each.share) for each in maps],
      [168, 168, 168, 718, 788, 788, 788],
    )

  def test_layers_are_found_by_name_pattern_and_before_their_activation(self):
    network = _network()
    for asked, before, expected in (
      ('/conv/Conv_output_0', False, '.conv.Conv_output_0'),
      ('/*/relu/*', False, '.stem.relu.Relu_output_0'),
      ('*relu*', True, '.Add_output_0'),
      ('-2', True, '.pool.MaxPool_output_0'),
    ):
      self.assertEqual(
        layer_choice.resolve_layer(network, asked, before=before), expected
      )
    with self.assertRaisesRegex(
      errors.UsageError, "no feature map '/gone'.*/relu/Relu_output_0$"
    ):
      layer_choice.resolve_layer(network, '/gone')

  def test_only_what_is_read_is_computed(self):
    network = _network()
    stem = '.stem.relu.Relu_output_0'
    part = taps.features(network, [stem])
    (graph,) = (
      layer for layer in part.layers if isinstance(layer, onnx_layers.OnnxGraph)
    )
    self.assertEqual(graph.chosen, (1,))
    self.assertEqual(part.output[stem].shape, (None, 16, 24, 6))
    # What is pruned already, or has no ONNX graph, stays as it is.
    self.assertIs(onnx_models.pruned(part), part)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    self.assertIs(onnx_models.pruned(plain), plain)

  def test_keras_file_holds_the_graph(self):
    network, images = _network(), onnx_graphs.expected()['images']
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    network.save(path)
    loaded = model_files.load(path)
    np.testing.assert_array_equal(
      predictors.KerasPredictor(loaded)(images),
      predictors.KerasPredictor(network)(images),
    )
    self.assertEqual(feature_maps.shapes(loaded), feature_maps.shapes(network))

  def test_softmax_at_the_end_is_removed(self):
    nodes = [
      *onnx_graphs.classifier(),
      onnx_graphs.node('Softmax', 'logits', 'probabilities'),
    ]
    path = onnx_graphs.write(
      os.path.join(self.create_tempdir().full_path, 'model.onnx'),
      onnx_graphs.model(nodes, outputs='probabilities'),
    )
    given = model_files.load(path)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    np.testing.assert_allclose(given(images).numpy().sum(axis=1), 1, atol=1e-6)
    network, changes = standard.standardize(given)
    self.assertLen(changes, 1)
    logits = network(images).numpy()
    np.testing.assert_allclose(
      keras.ops.softmax(logits), given(images), atol=1e-6
    )
    self.assertGreater(np.abs(logits.sum(axis=1) - 1).max(), 0.1)


if __name__ == '__main__':
  absltest.main()
