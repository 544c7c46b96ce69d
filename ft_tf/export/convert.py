"""A Keras student to TFLite files."""

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert import interpreter as litert

from ft_tf import errors, native_output
from ft_tf.export import (
  calibration_images,
  constant_graph,
  finite_maps,
  tflite_file,
)
from ft_tf.models import graph, rebuilding


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


def with_divided_hard_swish(twin: keras.Model) -> keras.Model:
  """Returns a float32 twin whose hard swish is a sum and two products.

  XNNPACK has no hard swish of integers: each would leave it, which made
  MobileNetV3Small in int8 twice as slow as in float32. LiteRT has none of 16
  bits at all.

  Args:
    twin: A twin of `float32_twin`, which is changed.
  """
  for layer in graph.flat_layers(twin):
    if getattr(layer, 'activation', None) is keras.activations.hard_silu:
      layer.activation = _divided_hard_swish
  calls = graph.calls(twin)
  if not any(_is_hard_swish(call.operation) for call in calls):
    return twin
  image = keras.Input(
    twin.input_shape[1:], dtype=twin.inputs[0].dtype, name='image'
  )
  (logits,) = graph.run(
    twin,
    [image],
    lambda each: _divided_hard_swish if _is_hard_swish(each) else each,
  )
  return keras.Model(image, logits, name=twin.name)


def _is_hard_swish(operation: keras.Operation) -> bool:
  # The operation of `keras.ops.hard_silu`, whose class is not public.
  return type(operation).__name__ == 'HardSilu' and graph.is_of_keras(operation)


def _divided_hard_swish(x: Any) -> Any:
  # In another order the converter makes one operation of it again.
  return (x * (1 / 6)) * keras.ops.relu6(x + 3.0)


def tflite_float32(model: keras.Model, *, batch: int | None = 1) -> bytes:
  """Returns a TFLite model of a float32 twin, from images to float32 logits.

  Args:
    model: The twin.
    batch: How many images it takes at once; None: any number. Phones' GPUs and
      browsers take no file that leaves it open.

  Raises:
    UsageError: the model has operations that TFLite does not; they are named.
      So do the others.
  """
  return _convert(model, lambda converter: None, batch=batch)


def tflite_float16(model: keras.Model) -> bytes:
  """Returns a TFLite model with weights of 16 bits, batch 1."""

  def halve(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]

  return _convert(model, halve)


def tflite_dynamic(model: keras.Model) -> bytes:
  """Returns a TFLite model with weights of 8 bits, batch 1.

  It computes in integers where its kernels do, with ranges of each image.
  """

  def shrink(converter):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]

  return _convert(model, shrink)


def tflite_int8(
  model: keras.Model,
  calibration: np.ndarray,
  *,
  outside: str = 'uint8',
) -> bytes:
  """Returns a TFLite model in integers throughout, batch 1.

  Its input takes raw bytes, scale 1 and zero point 0, whatever the calibration
  images are.

  Args:
    model: A float32 twin with float32 input.
    calibration: Raw images that set the ranges of activations,
      `[N, H, W, C]` uint8, of the training split.
    outside: Of input and output: 'uint8', or 'int8' (raw bytes minus 128), as
      accelerators and microcontrollers have it.

  Raises:
    UsageError: as of `tflite_float32`, or the input takes no raw bytes.
  """
  dtype = tf.as_dtype(outside)

  def configure(converter):
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = dtype
    converter.inference_output_type = dtype

  content = _convert(model, configure, calibration=calibration)
  check_raw_input(content, model.name, dtype.as_numpy_dtype)
  return content


def tflite_int16x8(model: keras.Model, calibration: np.ndarray) -> bytes:
  """Returns a TFLite model with maps of 16 bits, weights of 8 bits, batch 1.

  Its input takes raw values as float32, and it gives float32 logits: 16 bits
  have no scale under which bytes stay what they are.

  Args and errors are those of `tflite_int8`.
  """

  def configure(converter):
    converter.target_spec.supported_ops = [
      tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]

  return _convert(model, configure, calibration=calibration)


def check_raw_input(content: bytes, name: str, dtype: npt.DTypeLike) -> None:
  """Raises `UsageError` unless a file's input integers are raw bytes.

  Args:
    content: A .tflite file.
    name: What messages call its model.
    dtype: uint8, or int8 for raw bytes minus 128.
  """
  (details,) = litert.Interpreter(model_content=content).get_input_details()
  zero_point = np.iinfo(dtype).min
  if (details['dtype'], details['quantization']) != (dtype, (1.0, zero_point)):
    scale, zero = details['quantization']
    raise errors.UsageError(
      f'the int8 input of {name} has scale {scale:g} and zero point '
      f'{zero}, not 1 and {zero_point}: give a network whose first layer takes '
      'raw images of 0 to 255'
    )


def _convert(
  model: keras.Model,
  configure: Callable[[tf.compat.v1.lite.TFLiteConverter], None],
  *,
  batch: int | None = 1,
  calibration: np.ndarray | None = None,
) -> bytes:
  """Returns the file of a float32 twin.

  Args:
    model: The twin.
    configure: As of `convert_graph`.
    batch: As of `tflite_float32`.
    calibration: As of `tflite_int8`; None: its maps are not quantised.

  Raises:
    UsageError: as of `convert_graph`, or as of `finite_maps.check`.
  """
  traced = constant_graph.of_model(model, batch=batch)
  if calibration is None:
    content = convert_graph(traced, configure, model.name)
  else:
    images = calibration_images.over_full_range(calibration)
    if not finite_maps.are_sure(traced):
      in_float = convert_graph(traced, lambda converter: None, model.name)
      finite_maps.check(in_float, images, model.name)

    def quantise(converter):
      configure(converter)
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.representative_dataset = lambda: (
        [image[None].astype(np.float32)] for image in images
      )

    content = convert_graph(traced, quantise, model.name)
  return tflite_file.complete(content)


def convert_graph(
  traced: tf.Graph,
  configure: Callable[[tf.compat.v1.lite.TFLiteConverter], None],
  name: str,
) -> bytes:
  """Returns the converter's file of a graph, of built-in operations alone.

  The class of TensorFlow 1 takes a graph as it is. That of TensorFlow 2 loads a
  SavedModel three times, or looks for variables in a function once more, which
  takes longer than to convert it, and twice the memory.

  Args:
    traced: As of `constant_graph.trace`.
    configure: Sets what the converter is to do.
    name: What messages call the model.

  Returns:
    A file without a signature, which `tflite_file.complete` adds.

  Raises:
    UsageError: TFLite lacks operations of the model; they are named.
  """
  # It reads no more of its tensors.
  image, logits = (
    [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)]
    for (tensor,) in (traced.inputs, traced.outputs)
  )
  converter = tf.compat.v1.lite.TFLiteConverter(
    traced.as_graph_def(), image, logits
  )
  # Built-in operations alone: what needs Flex must fail here, not on a phone.
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
  configure(converter)
  try:
    with native_output.held():
      return converter.convert()
  except Exception as error:  # The converter's own class is not public.
    raise errors.UsageError(
      f'{name} cannot be converted to TFLite ({_reason(error)}): give '
      'a network of operations that are built into TFLite'
    ) from error


def _reason(error: Exception) -> str:
  """Returns the operations that TFLite lacks, or else the first line."""
  text = str(error)
  lacking = re.findall(r"'(?:tf\.)?(\w+)' op is neither", text)
  lacking += re.findall(r'not yet supported for op:? \W?(\w+)', text)
  if lacking:
    of = ' of 16 bits' if '16x8' in text else ''
    return f'TFLite has no {", ".join(sorted(set(lacking)))}{of}'
  return (text.strip().splitlines() or [type(error).__name__])[0]
