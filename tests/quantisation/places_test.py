"""Where a graph is rounded, and which layers are refused."""

import re

import keras
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import layers, zoo
from ft_tf.quantisation import places
from tests import networks, quantised_networks

_SPEC = layers.Spec((32, 32, 3), 4, (0.5,) * 3, (0.25,) * 3)


def _model(*calls):
  """Returns a model of some layers after a convolution `first`."""
  image = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(4, 3, name='first')(image)
  for call in calls:
    x = call(x)
  return keras.Model(image, x, name='model')


class PlanTest(parameterized.TestCase):
  def test_places_are_those_of_the_kernels(self):
    roles = places.plan(quantised_networks.fresh())
    ranges = {role.name: role.group for role in roles if role.has_range}
    operations = {name for name in ranges if name.startswith(('relu', 'mul'))}
    self.assertLen(operations, 2)  # relu6 of the sum, and its product
    self.assertEqual(
      {name: group for name, group in ranges.items() if name not in operations},
      {
        'normalize': 'normalize',
        'stem': 'stem',
        'stem_act': 'stem_act',
        'expand_relu': 'expand',
        'depthwise_relu': 'depthwise',
        'squeeze': 'squeeze',
        'reduce': 'reduce',
        'scale': 'scale',
        'project': 'project',
        'residual': 'residual',
        'last': 'last',
        'last_act': 'last_act',
        'pool': 'pool',
        'logits': 'logits',
      },
    )

  def test_relu_is_merged_into_what_nothing_else_reads(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name='read_twice')(image)
    y = keras.layers.ReLU(name='relu')(x)
    model = keras.Model(image, keras.layers.Add(name='sum')([x, y]))
    with_range = {r.name for r in places.plan(model) if r.has_range}
    self.assertEqual(with_range, {'read_twice', 'relu', 'sum'})

  def test_branches_write_in_the_range_of_their_concatenation(self):
    roles = places.plan(quantised_networks.branched())
    self.assertEqual(
      # Keras numbers operations without a layer.
      [re.sub(r'_\d+$', '', role.name) for role in roles if role.has_range],
      [
        'rescale',
        'stem_relu',
        'join',
        'last_relu',
        'concatenate',
        'pool',
        'logits',
      ],
    )

  def test_output_of_the_model_is_rounded_though_a_relu_reads_it(self):
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name='output')(image)
    model = keras.Model(image, [x, keras.layers.ReLU(name='relu')(x)])
    self.assertTrue(places.plan(model)[0].has_range)

  def test_batch_norm_without_weights_before_it_stays(self):
    image = keras.Input((8, 8, 3))
    norm = keras.layers.BatchNormalization(name='norm')
    model = keras.Model(image, keras.layers.ReLU(name='relu')(norm(image)))
    norm, relu = places.plan(model)
    self.assertEqual((norm.kind, norm.has_range), ('norm', False))
    self.assertEqual((relu.group, relu.has_range), ('norm', True))

  def test_batch_norm_of_shared_weights_is_not_folded(self):
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding='same', name='shared')
    norm = keras.layers.BatchNormalization()
    model = keras.Model(image, norm(shared(shared(image))))
    roles = places.plan(model)
    self.assertEqual([r.kind for r in roles][-1], 'norm')
    self.assertEqual([r.name for r in roles][:2], ['shared', 'shared_call2'])

  @parameterized.parameters(
    'resnet8-parameter-free',
    'wrn-10-1',
    'vgg13',
    'mobilenetv2x0.35',
    'mobilenetv3small',
    'efficientnetb0',
  )
  def test_networks_of_the_zoo_are_known(self, name):
    self.assertNotEmpty(places.plan(zoo.build(name, _SPEC)))

  def test_every_unknown_layer_is_named(self):
    model = _model(
      keras.layers.LeakyReLU(name='leaky'),
      keras.layers.ReLU(name='known'),
      keras.layers.LayerNormalization(name='layer_norm'),
    )
    with self.assertRaisesRegex(
      errors.UsageError,
      r'model has .*leaky \(LeakyReLU\), layer_norm \(LayerNormalization\);',
    ):
      places.plan(model)

  @parameterized.parameters(
    (keras.layers.Conv2D(4, 1, groups=2, name='it'), 'it .groups.'),
    (keras.layers.Conv2D(4, 1, activation='gelu', name='it'), 'gelu'),
    (keras.layers.ReLU(threshold=1.0, name='it'), 'threshold'),
    (keras.layers.ReLU(5.0, name='it'), 'it .ReLU.'),
    (keras.layers.BatchNormalization(axis=1, name='it'), 'another axis'),
    (keras.layers.BatchNormalization(renorm=True, name='it'), 'renorm'),
    (keras.layers.Activation('tanh', name='it'), 'it .Activation.'),
    (networks.StochasticDepth(name='it'), 'it .StochasticDepth.'),
    (lambda x: 1.0 - x, 'of other form'),
    (lambda x: keras.ops.concatenate([x, x]), 'the axis of the images'),
    (lambda x: keras.ops.stack([x, x], axis=-1)[..., 0], 'Stack'),
    (lambda x: keras.layers.Add(name='it')([x, x, x]), 'two operands'),
  )
  def test_unknown_forms_are_refused(self, call, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      places.plan(_model(call))

  def test_lora_and_quantized_weights_are_refused(self):
    model = _model(keras.layers.Flatten(), keras.layers.Dense(4, name='dense'))
    networks.adapt(model.get_layer('dense'))
    with self.assertRaisesRegex(errors.UsageError, r'dense \(LoRA'):
      places.plan(model)
    model = _model(keras.layers.Flatten(), keras.layers.Dense(4, name='dense'))
    model.quantize('int8')
    with self.assertRaisesRegex(errors.UsageError, r'dense \(quantized'):
      places.plan(model)


if __name__ == '__main__':
  absltest.main()
