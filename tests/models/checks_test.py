"""Models that do not fit a data set are refused, with the fix."""

import keras
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import checks


def _classifier(image_shape=(8, 8, 3), classes=10):
  x = keras.Input(image_shape)
  y = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(x, keras.layers.Dense(classes)(y))


class CheckFitsTest(parameterized.TestCase):
  def _check(self, model, image_shape=(8, 8, 3), classes=10):
    checks.check_fits(
      model,
      '--teacher=t.keras',
      image_shape=image_shape,
      label_names=[str(k) for k in range(classes)],
    )

  def test_model_of_the_same_shape_and_classes_fits(self):
    self._check(_classifier())

  def test_model_of_any_image_size_fits(self):
    self._check(_classifier((None, None, 3)))

  def test_sequential_model_fits(self):
    self._check(
      keras.Sequential(
        [
          keras.Input((8, 8, 3)),
          keras.layers.Flatten(),
          keras.layers.Dense(10),
        ]
      )
    )

  @parameterized.parameters((32, 32, 3), (8, 9, 3), (8, 8, 1))
  def test_other_image_shape_is_refused_with_both(self, *shape):
    with self.assertRaisesRegex(
      errors.UsageError,
      r'--teacher=t.keras takes images of \(8, 8, 3\), the data set has '
      rf'\({", ".join(map(str, shape))}\): give .*--image_size',
    ):
      self._check(_classifier(), image_shape=shape)

  def test_flags_are_those_of_the_caller(self):
    with self.assertRaises(errors.UsageError) as error:
      self._check(_classifier(), image_shape=(9, 9, 3))
    self.assertRegex(str(error.exception), 'or its --image_size$')
    with self.assertRaisesRegex(errors.UsageError, 'or its --width'):
      checks.check_fits(
        _classifier(),
        'it',
        image_shape=(9, 9, 3),
        label_names=['a'] * 10,
        size_flags='--width',
      )

  def test_other_channels_are_refused_where_the_size_is_free(self):
    with self.assertRaisesRegex(errors.UsageError, 'takes images of'):
      self._check(_classifier((None, None, 3)), image_shape=(8, 8, 1))

  def test_flat_input_is_refused(self):
    x = keras.Input((192,))
    with self.assertRaisesRegex(
      errors.UsageError, r'it takes \[\(None, 192\)\]'
    ):
      self._check(keras.Model(x, keras.layers.Dense(10)(x)))

  def test_other_number_of_classes_is_refused_with_both(self):
    with self.assertRaisesRegex(
      errors.UsageError, 'has 100 classes, the data set 10: give the data set'
    ):
      self._check(_classifier(classes=100))

  def test_several_inputs_are_refused(self):
    x, y = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    z = keras.layers.Flatten()(keras.layers.Add()([x, y]))
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model([x, y], keras.layers.Dense(10)(z)))

  def test_outputs_beside_the_logits_are_refused(self):
    model = _classifier()
    feature = keras.layers.Conv2D(10, 1)(model.input)
    for outputs in (
      [model.output, feature],
      [feature, model.output],
      {'logits': model.output, 'feature': feature},
    ):
      with self.assertRaises(errors.UsageError):
        self._check(keras.Model(model.input, outputs))

  def test_logits_inside_a_dict_are_refused(self):
    model = _classifier()
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model(model.input, {'logits': model.output}))

  @parameterized.parameters(
    lambda x: [keras.Input((4,)), x],
    lambda x: [keras.Input((8, 8, 1)), x],
  )
  def test_what_is_no_single_image_is_refused(self, inputs):
    inputs = inputs(keras.Input((8, 8, 1)))
    y = keras.layers.Concatenate()(
      [keras.layers.Dense(3)(keras.layers.Flatten()(x)) for x in inputs]
    )
    with self.assertRaisesRegex(errors.UsageError, 'images .* nothing else'):
      checks.check_classifier(keras.Model(inputs, y), 'mine.keras')
    vector = keras.Input((4,))
    model = keras.Model(vector, keras.layers.Dense(3)(vector))
    with self.assertRaisesRegex(errors.UsageError, r'takes \[\(None, 4\)\]'):
      checks.check_classifier(model, 'mine.keras')

  def test_one_output_is_for_two_classes_alone(self):
    image = keras.Input((8, 8, 1))
    y = keras.layers.Dense(1, activation='sigmoid')(
      keras.layers.Flatten()(image)
    )
    fit = {
      'model': keras.Model(image, y),
      'what': '--teacher=mine.keras',
      'image_shape': (8, 8, 1),
    }
    checks.check_fits(**fit, label_names=['cat', 'dog'])
    with self.assertRaisesRegex(errors.UsageError, 'an output for each class'):
      checks.check_fits(**fit, label_names=['cat', 'dog', 'emu'])

  def test_images_with_their_channels_first_are_refused_with_the_fix(self):
    image = keras.Input((3, 8, 12))
    y = keras.layers.Dense(10)(keras.layers.Flatten()(image))
    with self.assertRaisesRegex(
      errors.UsageError, r'^.*channels-first.*Permute\(\(3, 1, 2\)\)$'
    ):
      checks.check_fits(
        keras.Model(image, y),
        '--teacher=mine.keras',
        image_shape=(8, 12, 3),
        label_names=[''] * 10,
      )

  def test_map_of_logits_is_refused(self):
    x = keras.Input((8, 8, 3))
    with self.assertRaises(errors.UsageError):
      self._check(keras.Model(x, keras.layers.Conv2D(10, 1)(x)))


if __name__ == '__main__':
  absltest.main()
