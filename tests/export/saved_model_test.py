"""The SavedModel's two ways in: raw images, and files of images."""

import io
import os

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from ft_tf.data import image_ops
from ft_tf.export import saved_model


def _model(shape=(8, 8, 3)):
  """Returns a network that tells every pixel from every other."""
  keras.utils.set_random_seed(0)
  image = keras.Input(shape, dtype='uint8')
  x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
  return keras.Model(image, keras.layers.Dense(4)(x))


def _encoded(size, kind, mode='RGB'):
  """Returns a file's bytes, of a picture of some height and width."""
  rng = np.random.default_rng(sum(size))
  pixels = rng.integers(256, size=(*size, 3)).astype(np.uint8)
  written = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(written, kind)
  return written.getvalue()


class SavedModelTest(parameterized.TestCase):
  def _signatures(self, model, **options):
    path = os.path.join(self.create_tempdir().full_path, 'saved')
    saved_model.write(model, path, **options)
    self._loaded = tf.saved_model.load(path)
    return self._loaded.signatures

  def test_images_to_logits(self):
    model = _model()
    signatures = self._signatures(model)
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(5, 8, 8, 3)).astype(np.uint8)
    self.assertEqual(list(signatures), ['serving_default'])
    spec = signatures['serving_default'].structured_input_signature[1]['image']
    self.assertEqual(spec.shape.as_list(), [None, 8, 8, 3])
    self.assertEqual(spec.dtype, tf.uint8)
    np.testing.assert_allclose(
      signatures['serving_default'](image=tf.constant(images))['logits'],
      model(images, training=False),
      atol=1e-5,
    )
    self.assertNotEmpty(self._loaded.weights)

  @parameterized.product(
    steps=(
      image_ops.Preprocessing(),
      image_ops.Preprocessing('stretch', ((8, 8),)),
      image_ops.Preprocessing('crop', ((8, 8),)),
      image_ops.Preprocessing('crop', ((16, 16), (8, 8))),
      image_ops.Preprocessing('stretch', ((20, 12), (8, 8))),
    ),
    channels=(1, 3),
  )
  def test_files_are_made_images_as_evaluation_does(self, steps, channels):
    shape = (8, 8, channels)
    model = _model(shape)
    files = [
      _encoded((8, 8), 'PNG'),
      _encoded((41, 23), 'PNG'),
      _encoded((17, 60), 'JPEG'),
      _encoded((30, 30), 'PNG', 'L'),
      _encoded((9, 50), 'PNG', 'RGBA'),
    ]
    wanted = []
    for file in files:
      size, *rest = steps.sizes or ((8, 8),)
      image = image_ops.make_evaluation_image(
        tf.constant(file),
        (*size, channels),
        'stretch' if steps.resizing == 'none' else steps.resizing,
      )
      for size in rest:
        image = image_ops.shrink(image[None], size)[0]
      wanted.append(image.numpy())
    serve = self._signatures(model, preprocessing=steps)['serve_encoded']
    np.testing.assert_allclose(
      serve(encoded=tf.constant(files))['logits'],
      model(np.stack(wanted), training=False),
      atol=1e-2,
    )


if __name__ == '__main__':
  absltest.main()
