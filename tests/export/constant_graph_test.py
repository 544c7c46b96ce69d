"""The graph that converters read: a network's logits, without variables."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf.export import constant_graph

_MANY = 200  # more values than TensorFlow puts into a graph by itself


class Unknown(keras.layers.Layer):
  """Multiplies by a variable and a tensor that Keras does not know of."""

  def __init__(self, **options):
    super().__init__(**options)
    rng = np.random.default_rng(1)
    self._held = {
      'variable': tf.Variable(rng.normal(size=(3, _MANY)).astype(np.float32)),
      'tensor': tf.constant(rng.normal(size=_MANY).astype(np.float32)),
    }

  def call(self, x):
    return tf.matmul(x, self._held['variable']) * self._held['tensor']


def _model(unknown=False):
  keras.utils.set_random_seed(0)
  image = keras.Input((8, 6, 3), dtype='uint8')
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(3, 3, use_bias=False)(x)
  x = keras.layers.BatchNormalization()(x)
  x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
  if unknown:
    x = Unknown()(x)
  model = keras.Model(image, keras.layers.Dense(4)(x))
  for variable in model.variables:
    if variable.path.endswith(('gamma', 'moving_variance')):
      variable.assign(variable + 0.5)
  return model


def _run(graph, images):
  """Returns the logits of a graph."""
  (image,), (logits,) = graph.inputs, graph.outputs

  @tf.function(autograph=False)
  def run(images):
    return tf.graph_util.import_graph_def(
      graph.as_graph_def(), {image.name: images}, [logits.name]
    )[0]

  return run(tf.constant(images)).numpy()


class ConstantGraphTest(parameterized.TestCase):
  @parameterized.product(batch=(None, 1, 3), unknown=(False, True))
  def test_logits_are_the_models_and_stay(self, batch, unknown):
    model = _model(unknown)
    graph = constant_graph.of_model(model, batch=batch)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(batch or 5, 8, 6, 3)).astype(np.uint8)
    wanted = model(images, training=False).numpy()
    self.assertGreater(wanted.std(), 0)
    (image,) = graph.inputs
    self.assertEqual(image.shape.as_list(), [batch, 8, 6, 3])
    self.assertEqual(image.dtype, tf.uint8)
    for variable in model.trainable_variables:
      variable.assign(variable * 2)
    np.testing.assert_allclose(_run(graph, images), wanted, rtol=1e-5)

  def test_no_variable_is_left(self):
    for unknown in (False, True):
      types = {
        operation.type
        for operation in constant_graph.of_model(
          _model(unknown)
        ).get_operations()
      }
      self.assertFalse(types & {'ReadVariableOp', 'VarHandleOp'})

  def test_a_models_own_values_are_not_changed(self):
    model = _model()
    before = model.get_weights()
    constant_graph.of_model(model)
    for value, kept in zip(model.get_weights(), before, strict=True):
      np.testing.assert_array_equal(value, kept)


if __name__ == '__main__':
  absltest.main()
