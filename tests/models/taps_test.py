"""Models that return feature maps, made from models of every kind."""

import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import fused, layer_choice, model_files, taps
from tests import small_models


class AveragedTest(absltest.TestCase):
  def test_whole_ratio_is_average_pooling(self):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
      taps.average_to_size(tf.constant(x), (2, 4)),
      tf.nn.avg_pool2d(x, (4, 2), (4, 2), 'VALID'),
      atol=1e-6,
    )

  def test_other_ratios_are_adaptive_average_pooling(self):
    # Places 0..1, 1..2 of three, as torch.nn.AdaptiveAvgPool2d has them.
    x = np.float32([1, 2, 6]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(
      np.ravel(taps.average_to_size(tf.constant(x), (2, 1))), [1.5, 4]
    )


class FeaturesTest(parameterized.TestCase):
  @parameterized.parameters(
    small_models.functional,
    small_models.sequential,
    small_models.sequential_without_input,
  )
  def test_features_are_what_the_layers_make(self, make):
    model = make()
    found = taps.features(model, ['first', 'last'])(small_models.images())
    first = model.get_layer('first')(small_models.images())
    self.assertEqual(found.keys(), {'first', 'last'})
    np.testing.assert_allclose(found['first'], first, atol=1e-6)
    np.testing.assert_allclose(
      found['last'], model.get_layer('last')(first), atol=1e-6
    )

  def test_features_of_a_nested_backbone_are_its_output(self):
    model = small_models.nested()
    found = taps.features(model, ['backbone'])(small_models.images())
    np.testing.assert_allclose(
      found['backbone'],
      model.get_layer('backbone')(small_models.images()),
      atol=1e-6,
    )

  @parameterized.parameters(
    small_models.functional, small_models.sequential, small_models.nested
  )
  def test_features_of_a_loaded_model_are_those_of_the_saved_one(self, make):
    model = make()
    path = os.path.join(self.create_tempdir().full_path, 'model.keras')
    model.save(path)
    name = layer_choice.last_feature_map(model)
    np.testing.assert_allclose(
      taps.features(model_files.load(path), [name])(small_models.images())[
        name
      ],
      taps.features(model, [name])(small_models.images())[name],
      atol=1e-6,
    )

  def test_what_lies_behind_the_last_feature_is_left_out(self):
    part = taps.features(small_models.functional(), ['first'])
    names = [layer.name for layer in part.layers]
    self.assertIn('first', names)
    self.assertNotIn('last', names)
    self.assertNotIn('logits', names)
    self.assertLen(part.weights, 2)

  def test_weights_are_shared_with_the_model(self):
    model = small_models.functional()
    part = taps.features(model, ['last'])
    model.get_layer('last').kernel.assign(
      np.zeros_like(model.get_layer('last').kernel)
    )
    model.get_layer('last').bias.assign(np.arange(5.0))
    np.testing.assert_array_equal(
      part(small_models.images())['last'],
      np.broadcast_to(np.arange(5.0), (2, 4, 4, 5)),
    )

  def test_unknown_layer_is_named(self):
    with self.assertRaisesRegex(ValueError, 'group4'):
      taps.features(small_models.functional(), ['group4'])

  def test_subclassed_model_is_refused(self):
    model = small_models.Subclassed()
    model(small_models.images())
    with self.assertRaisesRegex(errors.UsageError, 'subclassed model'):
      taps.features(model, ['last'])


class LogitsAndFeaturesTest(parameterized.TestCase):
  @parameterized.parameters(
    small_models.functional, small_models.sequential, small_models.nested
  )
  def test_one_call_gives_both(self, make):
    model = make()
    name = layer_choice.last_feature_map(model)
    both = taps.logits_and_features(model, [name])
    logits, features = both(small_models.images())
    np.testing.assert_allclose(logits, model(small_models.images()), atol=1e-6)
    self.assertEqual(features.keys(), {name})
    np.testing.assert_allclose(
      features[name],
      taps.features(model, [name])(small_models.images())[name],
      atol=1e-6,
    )

  def test_several_outputs_stay_as_they_are_structured(self):
    model = small_models.functional()
    logits = model.output
    model = keras.Model(model.input, {'logits': logits, 'more': [logits * 2]})
    for each in (model, fused.fuse(model)):
      outputs, features = taps.logits_and_features(each, ['last'])(
        small_models.images()
      )
      self.assertEqual(features.keys(), {'last'})
      keras.tree.map_structure(
        np.testing.assert_allclose, outputs, model(small_models.images())
      )

  def test_weights_are_those_of_the_model_and_no_more(self):
    model = small_models.functional()
    both = taps.logits_and_features(model, ['last'])
    self.assertEqual(
      {id(weight) for weight in both.trainable_weights},
      {id(weight) for weight in model.trainable_weights},
    )

  def test_subclassed_model_is_refused(self):
    model = small_models.Subclassed()
    model(small_models.images())
    with self.assertRaisesRegex(errors.UsageError, 'subclassed model'):
      taps.logits_and_features(model, ['last'])


if __name__ == '__main__':
  absltest.main()
