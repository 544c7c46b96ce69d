"""A Keras student to a SavedModel and to TFLite files."""

import contextlib
import os
import re
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from ft_tf import errors, native_output
from ft_tf.evaluation import predictors
from ft_tf.models import graph, rebuilding

_STRETCHED = 16  # calibration images repeated over the full range of values


def float32_twin(model: keras.Model, input_dtype: str) -> keras.Model:
  """Returns a copy that computes in float32 and takes images of a dtype.

  A model under a mixed policy would convert into operations that LiteRT lacks,
  and a uint8 input would stay outside of what is quantised.

  Args:
    model: A functional or Sequential classifier of raw images.
    input_dtype: 'uint8' or 'float32'; the values are 0..255 in both.
  """
  dtype = model.inputs[0].dtype
  image = keras.Input(
    model.input_shape[1:],
    dtype=input_dtype if dtype == 'uint8' else 'float32',
    name='image',
  )
  twin = rebuilding.rebuild(model, precision='float32', image=image)
  if image.dtype != input_dtype:
    # Its first layer need not take integers.
    image = keras.Input(model.input_shape[1:], dtype=input_dtype, name='image')
    (logits,) = graph.run(twin, [keras.ops.cast(image, 'float32')])
    twin = keras.Model(image, logits, name=twin.name)
  return twin


def saved_model(model: keras.Model, path: str) -> None:
  """Writes a SavedModel whose signature `serving_default` maps image to logits.

  Args:
    model: From images `[B, H, W, C]` to logits.
    path: The folder to make.
  """
  inputs = model.inputs[0]
  module = tf.Module()
  module.weights = [variable.value for variable in model.variables]
  module.serve = tf.function(
    lambda image: {'logits': model(image, training=False)},
    input_signature=[
      tf.TensorSpec([None, *inputs.shape[1:]], inputs.dtype, 'image')
    ],
  )
  tf.saved_model.save(
    module, path, signatures={predictors.SIGNATURE: module.serve}
  )


def tflite_float32(model: keras.Model, saved: str = '') -> bytes:
  """Returns a TFLite model of a float32 twin.

  Args:
    model: The twin.
    saved: Its folder as `saved_model` wrote it; '': it is written for the time
      of the conversion.

  Raises:
    UsageError: the model has operations that TFLite does not; they are named.
      So do the others.
  """
  return _convert(model, lambda converter: None, saved)


def tflite_float16(model: keras.Model, saved: str = '') -> bytes:
  """Returns a TFLite model with weights of 16 bits; see `tflite_float32`."""

  def halve(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]

  return _convert(model, halve, saved)


def tflite_int8(model: keras.Model, calibration: np.ndarray) -> bytes:
  """Returns a TFLite model in integers throughout: uint8 in, int8 out.

  Its input takes raw bytes, scale 1 and zero point 0, whatever the calibration
  images are.

  Args:
    model: A float32 twin with float32 input.
    calibration: Raw images that set the ranges of activations,
      `[N, H, W, C]` uint8, of the training split.

  Raises:
    UsageError: as of `tflite_float32`, or the input takes no raw bytes.
  """
  calibration = _over_full_range(calibration)

  def quantise(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
      [image[None].astype(np.float32)] for image in calibration
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.int8

  content = _convert(model, quantise)
  (details,) = litert.Interpreter(model_content=content).get_input_details()
  if (details['dtype'], details['quantization']) != (np.uint8, (1.0, 0)):
    scale, zero = details['quantization']
    raise errors.UsageError(
      f'the int8 input of {model.name} has scale {scale:g} and zero point '
      f'{zero}, not 1 and 0: give a network whose first layer takes raw images '
      'of 0 to 255'
    )
  return content


def _over_full_range(images: np.ndarray) -> np.ndarray:
  """Returns calibration images whose values reach from 0 to 255.

  The converter takes the range of the input, and of what follows from it, from
  these images. A fake quantisation of 0..255 in front of the network sets the
  scale alone: the values are cut to the range of the images right behind it.
  Some images with their contrast stretched widen the other ranges too, so that
  images brighter than all that were trained on are classified as Keras does.

  Args:
    images: `[N, H, W, C]`, uint8.
  """
  low, high = int(images.min()), int(images.max())
  if (low, high) == (0, 255):
    return images
  if low == high:
    black = np.zeros_like(images[:1])
    return np.concatenate([images, black, black + np.uint8(255)])
  flat = images.reshape(len(images), -1)
  ends = [flat.min(axis=1).argmin(), flat.max(axis=1).argmax()]
  some = images[np.union1d(np.arange(min(_STRETCHED, len(images))), ends)]
  stretched = (some.astype(np.float32) - low) * (255 / (high - low))
  return np.concatenate([images, np.round(stretched).astype(np.uint8)])


def _convert(
  model: keras.Model,
  configure: Callable[[tf.lite.TFLiteConverter], None],
  saved: str = '',
) -> bytes:
  with contextlib.ExitStack() as stack:
    if not saved:
      scratch = stack.enter_context(tempfile.TemporaryDirectory())
      saved = os.path.join(scratch, 'saved_model')
      saved_model(model, saved)
    converter = tf.lite.TFLiteConverter.from_saved_model(
      saved, signature_keys=[predictors.SIGNATURE]
    )
    # Built-in operations alone: what needs Flex must fail here, not on a phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    configure(converter)
    try:
      with native_output.held():
        return converter.convert()
    except Exception as error:  # The converter's own class is not public.
      raise errors.UsageError(
        f'{model.name} cannot be converted to TFLite ({reason(error)}): give '
        'a network of operations that are built into TFLite'
      ) from error


def reason(error: Exception) -> str:
  """Returns the operations that TFLite lacks, or else the first line."""
  text = str(error)
  lacking = re.findall(r"'(?:tf\.)?(\w+)' op is neither", text)
  lacking += re.findall(r'not yet supported for op:? \W?(\w+)', text)
  if lacking:
    return f'TFLite has no {", ".join(sorted(set(lacking)))}'
  return (text.strip().splitlines() or [type(error).__name__])[0]
