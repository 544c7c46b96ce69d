"""What of a network starts from a file, and the rate for it."""

import dataclasses
import os

import keras
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import applications, origins, zoo
from tests import classifiers, networks, small_models


class BackboneTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    self.folder = self.create_tempdir().full_path

  def _fresh(self, model):
    """Returns the paths of the variables that are not of the backbone."""
    backbone = {id(variable) for variable in origins.backbone(model)}
    return [v.path for v in model.trainable_variables if id(v) not in backbone]

  def _file(self, classes):
    path = os.path.join(self.folder, f'{classes}.keras')
    end = keras.layers.Dense(classes, name='scores')
    networks.disturb(small_models.with_end(end)).save(path)
    return path

  @parameterized.parameters('float32', 'mixed_bfloat16')
  def test_file_is_all_of_it_but_for_a_new_head(self, precision):
    spec = dataclasses.replace(classifiers.spec(classes=3), precision=precision)
    given = zoo.build(self._file(3), spec, new_head=True)
    self.assertEmpty(self._fresh(given))
    self.assertLen(origins.backbone(given), len(given.trainable_variables))
    other = zoo.build(self._file(7), spec, new_head=True)
    self.assertEqual(self._fresh(other), ['scores/kernel', 'scores/bias'])
    self.assertNotEmpty(origins.backbone(other))

  @parameterized.parameters((7, False), (3, True))
  def test_weights_are_all_of_it_but_for_a_fresh_head(self, classes, head):
    spec = classifiers.spec(classes=3, image_shape=(32, 32, 3))
    path = os.path.join(self.folder, 'x.weights.h5')
    applications.plain(
      'mobilenetx0.25', (32, 32, 3), classes=classes, head=head
    ).save_weights(path)
    model = zoo.build('mobilenetx0.25', spec, weights=path)
    fresh = [] if classes == 3 else ['conv_preds/kernel', 'conv_preds/bias']
    self.assertEqual(self._fresh(model), fresh)
    self.assertLen(
      origins.backbone(model), len(model.trainable_variables) - len(fresh)
    )

  def test_network_by_name_alone_has_none_and_a_rate_is_refused(self):
    model = zoo.build('resnet8x0.25', classifiers.spec())
    self.assertEmpty(origins.backbone(model))
    origins.check_rate(model, 1.0, 'student')
    with self.assertRaisesRegex(
      errors.UsageError,
      '^--student_backbone_rate=0.1 is for layers that start from a file, .*: '
      'give --student_weights, .* or --student_backbone_rate=1$',
    ):
      origins.check_rate(model, 0.1, 'student')

  def test_file_that_is_frozen_but_for_its_head_has_none(self):
    path = self._file(7)
    model = keras.models.load_model(path)
    for layer in model.layers[:-1]:
      layer.trainable = False
    model.save(path)
    model = zoo.build(path, classifiers.spec(classes=3), new_head=True)
    with self.assertRaisesRegex(errors.UsageError, 'has none to train'):
      origins.check_rate(model, 0.1, 'teacher')


if __name__ == '__main__':
  absltest.main()
