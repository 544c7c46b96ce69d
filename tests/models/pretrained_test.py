"""Weights of files in networks of keras.applications."""

import dataclasses
import functools
import os

import keras
import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import applications, layers, pretrained, standard, zoo
from tests import networks

_FEW, _MANY = 5, 7  # classes of the data, and of another head
_NARROW = 'mobilenetx0.25'  # the network of the fewest weights


def _spec(channels=3):
  # Statistics that no network was trained with.
  return layers.Spec(
    (32, 32, channels), _FEW, (0.1,) * channels, (0.2,) * channels
  )


def _keras(name, classes=_FEW, channels=3, **options):
  """Returns Keras's network, every weight of its own value."""
  keras.utils.set_random_seed(0)
  model = applications.builders()[name](
    input_shape=(32, 32, channels),
    weights=None,
    classes=classes,
    classifier_activation=None,
    **options,
  )
  rng = np.random.default_rng(0)
  for weight in model.weights:
    # Not so far from what they are that rounding grows from layer to layer.
    if weight.name in ('beta', 'moving_mean', 'bias'):
      weight.assign(0.1 * rng.normal(size=weight.shape))
  return model


def _fresh_narrow(classes=_FEW, head=True):
  return _keras('mobilenet', classes, include_top=head, alpha=0.25)


# Networks that tests share, and leave as they are.
_narrow = functools.cache(_fresh_narrow)


def _close(ours, theirs):
  theirs = np.asarray(theirs)
  np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


class PretrainedTest(parameterized.TestCase):
  def _file(self, network, name='x.weights.h5'):
    path = os.path.join(self.create_tempdir().full_path, name)
    if name.endswith('.weights.h5'):
      network.save_weights(path)
    else:
      network.save(path)  # .h5: the older format, as Keras's own files
    return path

  @parameterized.parameters(
    ('mobilenet', keras.applications.mobilenet),  # mode "tf"
    ('densenet121', keras.applications.densenet),  # "torch"
    ('resnet50', keras.applications.resnet),  # "caffe"
    ('mobilenetv3small', keras.applications.mobilenet_v3),  # within
    ('efficientnetv2b0', keras.applications.efficientnet_v2),
  )
  @pytest.mark.slow
  def test_trained_network_says_of_raw_images_what_it_says_in_keras(
    self, name, module
  ):
    theirs = _keras(name)
    path = self._file(theirs)
    self.assertEqual(pretrained.classes_of(name, _spec(), path), _FEW)
    images = networks.images(4, 32, 3)
    _close(
      pretrained.build(name, _spec(), path)(images, training=False),
      theirs(module.preprocess_input(np.float32(images)), training=False),
    )

  def test_grey_images_are_normalised_as_keras_does_it(self):
    theirs = _keras('efficientnetv2b0', channels=1)
    ours = pretrained.build(
      'efficientnetv2b0', _spec(channels=1), self._file(theirs)
    )
    images = networks.images(2, 32, 1)
    _close(ours(images, training=False), theirs(images, training=False))

  @pytest.mark.slow
  def test_networks_of_nested_models_load_too(self):
    theirs = _keras('convnexttiny')
    images = networks.images(2, 32, 3)
    for name in ('x.weights.h5', 'x.h5'):
      ours = pretrained.build('convnexttiny', _spec(), self._file(theirs, name))
      _close(ours(images, training=False), theirs(images, training=False))

  @pytest.mark.slow
  def test_efficientnet_brings_its_normalisation(self):
    theirs = _keras('efficientnetb0')
    images = networks.images(2, 32, 3)
    _close(
      pretrained.build('efficientnetb0', _spec(), self._file(theirs))(
        images, training=False
      ),
      theirs(images, training=False),
    )
    # As in Keras's own files: ImageNet's deviation in place of its variance,
    # and a division by its root more, which the weights do not show.
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    (normalization,) = [
      layer
      for layer in theirs.layers
      if isinstance(layer, keras.layers.Normalization)
    ]
    normalization.set_weights([mean, std, *normalization.get_weights()[2:]])
    normalization.finalize_state()
    wanted = (images / 255 - mean) / std
    _close(
      pretrained.build('efficientnetb0', _spec(), self._file(theirs))(
        images, training=False
      ),
      theirs(255 * (mean + wanted * np.sqrt(std)), training=False),
    )
    mixed = zoo.build(
      'efficientnetb0',
      dataclasses.replace(_spec(), precision='mixed_bfloat16', classes=_MANY),
      weights=self._file(theirs),
    )
    np.testing.assert_allclose(
      mixed.get_layer('normalize').get_config()['mean'], 255 * mean, rtol=1e-6
    )

  @parameterized.parameters(
    ('x.weights.h5', _MANY, True),
    ('x.h5', _MANY, True),
    ('x.h5', _MANY, False),
    ('x.keras', _MANY, True),
  )
  def test_other_head_gives_way_to_a_fresh_one(self, file, classes, head):
    theirs = _narrow(classes, head=head)
    path = self._file(theirs, file)
    self.assertEqual(
      pretrained.classes_of(_NARROW, _spec(), path),
      classes if head else None,
    )
    ours = pretrained.build(_NARROW, _spec(), path)
    self.assertEqual(ours.output_shape, (None, _FEW))
    for layer in theirs.layers:
      if layer.weights and layer.name != 'conv_preds':
        for one, two in zip(
          ours.get_layer(layer.name).get_weights(),
          layer.get_weights(),
          strict=True,
        ):
          np.testing.assert_array_equal(one, two)
    # It is made for small images, as a fresh one is.
    self.assertEqual(
      ours.get_layer('conv_pw_13_relu').output.shape[1:3], (4, 4)
    )

  def test_optimizer_in_the_file_does_not_count(self):
    theirs = _fresh_narrow()
    theirs.compile('adam')
    theirs.optimizer.build(theirs.trainable_variables)
    path = self._file(theirs)
    self.assertEqual(pretrained.classes_of(_NARROW, _spec(), path), _FEW)

  def test_trained_network_keeps_its_strides_and_given_preprocessing(self):
    theirs = _narrow()
    images = networks.images(2, 32, 3)
    ours = pretrained.build(_NARROW, _spec(), self._file(theirs), '0..1')
    self.assertEqual(
      ours.get_layer('conv_pw_13_relu').output.shape,
      theirs.get_layer('conv_pw_13_relu').output.shape,
    )
    _close(ours(images, training=False), theirs(images / 255, training=False))

  def test_blue_comes_first_only_where_the_family_has_it(self):
    theirs = _keras('vgg16')
    images = networks.images(2, 32, 3)
    _close(
      pretrained.build('vgg16', _spec(), self._file(theirs), '-1..1')(
        images, training=False
      ),
      theirs(images / 127.5 - 1, training=False),
    )

  def test_blue_comes_first_where_it_is_asked_for(self):
    theirs = _narrow()
    images = networks.images(2, 32, 3)
    _close(
      pretrained.build(_NARROW, _spec(), self._file(theirs), 'caffe')(
        images, training=False
      ),
      theirs(
        keras.applications.imagenet_utils.preprocess_input(
          images.astype(np.float32), mode='caffe'
        ),
        training=False,
      ),
    )

  def test_what_does_not_fit_is_refused_in_one_line(self):
    path = self._file(_narrow())
    folder = self.create_tempdir()
    text = folder.create_file('text.h5', 'hello').full_path
    one = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Dense(1)])
    wrapped = keras.Sequential(
      [_narrow(_MANY, head=False), keras.layers.Conv2D(_FEW, 1)]
    )
    for name, file, message in (
      (_NARROW, 'imagenet', 'nothing is downloaded.*give a file'),
      (_NARROW, 'none.h5', 'is not a file of weights.*h5'),
      (_NARROW, folder.full_path, 'is not a file of weights'),
      (_NARROW, text, 'does not open as an HDF5 file'),
      ('resnet20', path, 'are not for --teacher=resnet20: give a network of'),
      ('mobilenetv2', path, 'not of mobilenetv2.*other weights, of shapes'),
      (
        _NARROW,
        self._file(one),
        'does not load as weights of mobilenet|not of mobilenet',
      ),
      (_NARROW, self._file(wrapped), 'does not load as weights'),
    ):
      with self.assertRaisesRegex(errors.UsageError, message) as caught:
        pretrained.build(name, _spec(), file)
      self.assertNotIn('\n', str(caught.exception))

  @parameterized.parameters('x.weights.h5', 'x.h5')
  def test_damaged_file_is_refused_in_one_line(self, name):
    theirs = _narrow()
    path = self._file(theirs, name)
    with open(path, 'rb') as file:
      content = file.read()
    # Its tree of names, and the numbers of a layer.
    heap = content.index(b'HEAP') + 24
    for damaged in (
      content[:heap] + b'\xff' * 8 + content[heap + 8 :],
      content[: len(content) // 2],
      content.replace(theirs.layers[2].get_weights()[0][:1].tobytes(), b'\xff'),
    ):
      with open(path, 'wb') as file:
        file.write(damaged)
      with self.assertRaisesRegex(
        errors.UsageError, 'does not (open|load) as|not finite'
      ) as caught:
        pretrained.build(_NARROW, _spec(), path)
      self.assertNotIn('\n', str(caught.exception))

  def test_weights_that_are_not_finite_are_refused(self):
    theirs = _fresh_narrow()
    theirs.layers[1].kernel.assign(
      np.full(theirs.layers[1].kernel.shape, np.nan)
    )
    with self.assertRaisesRegex(errors.UsageError, 'conv1.*not finite'):
      pretrained.build(_NARROW, _spec(), self._file(theirs))

  def test_messages_name_the_students_flags(self):
    folder = self.create_tempdir()
    text = folder.create_file('text.keras', 'hello').full_path
    inner = _fresh_narrow(head=False)
    scaled = keras.Sequential([keras.layers.Rescaling(1 / 255), inner])
    scaled.build((None, 32, 32, 3))
    image = keras.Input((32, 32, 3))
    flat = keras.Model(image, keras.layers.Rescaling(1 / 255)(image))
    flat = keras.Model(
      image, standard.flatten(inner)(flat(image)), name='mobilenet'
    )
    ours = zoo.build(_NARROW, _spec())
    for file, message in (
      ('none.keras', '--student_weights=none.keras is not a file of weights'),
      (text, '--student_weights=.* does not open as a .keras file'),
      (
        self._file(scaled, 'x.keras'),
        r'mobilenetx0.25 alone, it has Functional, Rescaling: give it as '
        r'--student=.*x\.keras, with --new_head',
      ),
      (
        self._file(standard.flatten(flat), 'x.keras'),
        'not of mobilenetx0.25 alone, it has Rescaling',
      ),
      (self._file(ours, 'x.keras'), 'it has Normalization: give it as'),
      (
        self._file(networks.random_student((8, 8, 3), 7), 'x.keras'),
        'not of mobilenetx0.25 alone',
      ),
    ):
      with self.assertRaisesRegex(errors.UsageError, message) as caught:
        zoo.build(_NARROW, _spec(), weights=file)
      self.assertNotIn('\n', str(caught.exception))
    with self.assertRaisesRegex(
      errors.UsageError,
      '--student=x.keras has its weights: leave out --student',
    ):
      zoo.build('x.keras', _spec(), weights='y.h5')

  def test_colours_statistics_do_not_fit_grey_images(self):
    theirs = _keras('vgg16', channels=1, include_top=False)
    with self.assertRaisesRegex(
      errors.UsageError, 'the images have 1: give --preprocessing=0..1'
    ):
      pretrained.build('vgg16', _spec(channels=1), self._file(theirs))


if __name__ == '__main__':
  absltest.main()
