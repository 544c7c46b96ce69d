"""A student to a SavedModel: for TensorFlow Serving, or for a converter."""

import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import convert_to_constants

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


def write_constant(
  logits: Callable[[tf.Tensor], tf.Tensor],
  image: tf.TensorSpec,
  path: str,
) -> tf.Graph:
  """Writes a SavedModel whose weights are constants, for TFLite's converter.

  To store and restore variables takes longer than the rest of a conversion,
  which has no use for them. Its signature is that of `write`.

  Args:
    logits: From images to logits; a function of variables.
    image: Of its images, `[B, H, W, C]`.
    path: The folder, which may be there.

  Returns:
    Its graph.
  """
  # The only public way to constants is that of TensorFlow 1, with sessions.
  frozen, graph = (
    convert_to_constants.convert_variables_to_constants_v2_as_graph(
      tf.function(logits, autograph=False).get_concrete_function(image)
    )
  )
  # In the form of TensorFlow 1, a graph and the names of its ends. That of
  # TensorFlow 2, `tf.saved_model.save`, would copy the constants into a
  # function and two more that call it, each of which lives on in cycles.
  saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
  meta = saved.meta_graphs.add()
  meta.meta_info_def.tags.append(tf.saved_model.SERVING)
  meta.graph_def.CopyFrom(graph)
  del graph
  signature = meta.signature_def[SIGNATURE]
  signature.method_name = tf.saved_model.PREDICT_METHOD_NAME
  _describe(frozen.inputs[0], signature.inputs['image'])
  _describe(frozen.outputs[0], signature.outputs['logits'])
  os.makedirs(path, exist_ok=True)
  with open(os.path.join(path, 'saved_model.pb'), 'wb') as file:
    file.write(saved.SerializeToString())
  return frozen.graph


def _describe(tensor: tf.Tensor, info: meta_graph_pb2.TensorInfo) -> None:
  """Says in a signature which tensor of the graph is an input or output."""
  info.name = tensor.name
  info.dtype = tensor.dtype.as_datatype_enum
  info.tensor_shape.CopyFrom(tensor.shape.as_proto())
