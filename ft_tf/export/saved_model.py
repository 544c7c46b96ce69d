"""A student to a SavedModel, for TensorFlow Serving."""

from typing import Any

import keras
import tensorflow as tf

from ft_tf.data import image_ops
from ft_tf.evaluation import predictors

SIGNATURE = predictors.SIGNATURE
ENCODED = 'serve_encoded'


def write(
  model: keras.Model,
  path: str,
  *,
  preprocessing: image_ops.Preprocessing | None = None,
) -> None:
  """Writes a SavedModel from images to logits.

  Its signature `serving_default` maps `image`, `[B, H, W, C]`, to `logits`.

  Args:
    model: From images `[B, H, W, C]` to logits.
    path: The folder to make.
    preprocessing: How evaluation makes its images of stored ones. With it there
      is a second signature, `serve_encoded`, from `encoded`, `[B]`, each the
      bytes of a JPEG, PNG, BMP or GIF file of any size, to `logits`. It does
      not turn photos by the orientation in their EXIF data.
  """
  inputs = model.inputs[0]
  module = tf.Module()
  module.weights = [variable.value for variable in model.variables]
  module.serve = tf.function(
    lambda image: {'logits': model(image, training=False)},
    input_signature=[
      tf.TensorSpec([None, *inputs.shape[1:]], inputs.dtype, 'image')
    ],
    autograph=False,
  )
  signatures: dict[str, Any] = {SIGNATURE: module.serve}
  if preprocessing is not None:
    shape = tuple(inputs.shape[1:])

    def serve_encoded(encoded):
      images = tf.map_fn(
        lambda each: image_ops.preprocess(each, shape, preprocessing),
        encoded,
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
      )
      images = tf.cast(images, inputs.dtype)
      return {'logits': model(images, training=False)}

    module.serve_encoded = tf.function(
      serve_encoded,
      input_signature=[tf.TensorSpec([None], tf.string, 'encoded')],
      autograph=False,
    )
    signatures[ENCODED] = module.serve_encoded
  tf.saved_model.save(module, path, signatures=signatures)
