"""Export folders for tests of the page, made without training."""

import json
import os
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ft_tf import native_output
from ft_tf.data import image_ops
from ft_tf.models import layers, zoo

FILES = ('student_fp32.tflite', 'student_fp16.tflite', 'student_int8.tflite')


def entry(
  content: bytes,
  shape: tuple[int, int, int],
  classes: int,
  *,
  resizing: str = 'stretch',
  output: dict[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns what export.json says of a file."""
  preprocessing = image_ops.Preprocessing(resizing, (shape[:2],))
  return {
    'bytes': len(content),
    'accuracy': 0.75,
    'examples': 100,
    'preprocessing': preprocessing.as_json(shape),
    'input': {'dtype': 'uint8', 'shape': [1, *shape], 'scale': 0.0}
    | {'zero_point': 0},
    'output': {'dtype': 'float32', 'shape': [1, classes]}
    | {'scale': 0.0, 'zero_point': 0, **(output or {})},
  }


def write(
  folder: str,
  contents: dict[str, bytes],
  shape: tuple[int, int, int] = (8, 8, 1),
  *,
  labels: tuple[str, ...] = ('left', 'middle', 'right'),
  resizing: str = 'stretch',
  outputs: dict[str, dict[str, Any]] | None = None,
) -> None:
  """Writes an export folder of given files."""
  os.makedirs(folder)
  figures = {}
  for name, content in contents.items():
    with open(os.path.join(folder, name), 'wb') as file:
      file.write(content)
    figures[name] = entry(
      content,
      shape,
      len(labels),
      resizing=resizing,
      output=(outputs or {}).get(name),
    )
  with open(os.path.join(folder, 'export.json'), 'w') as file:
    json.dump(figures, file)
  with open(os.path.join(folder, 'labels.txt'), 'w') as file:
    file.writelines(f'{label}\n' for label in labels)


def write_network(
  folder: str,
  name: str,
  shape: tuple[int, int, int],
  *,
  resizing: str = 'stretch',
) -> None:
  """Writes the export folder of a network whose batch norm has seen noise."""
  keras.utils.set_random_seed(0)
  labels = tuple(f'class {i}' for i in range(10))
  channels = shape[-1]
  model = zoo.build(
    name,
    layers.Spec(shape, len(labels), (0.5,) * channels, (0.25,) * channels),
  )
  some = images(64, shape)
  for _ in range(20):
    model(some, training=True)
  convert = {
    FILES[0]: lambda converter: None,
    FILES[1]: _halve,
    FILES[2]: lambda converter: _quantise(converter, some),
  }
  contents = {
    file: _convert(model, configure, floats=file == FILES[2])
    for file, configure in convert.items()
  }
  (details,) = tf.lite.Interpreter(
    model_content=contents[FILES[2]]
  ).get_output_details()
  scale, zero = details['quantization']
  write(
    folder,
    contents,
    shape,
    labels=labels,
    resizing=resizing,
    outputs={
      FILES[2]: {
        'dtype': 'uint8',
        'scale': float(scale),
        'zero_point': int(zero),
      }
    },
  )


def images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
  """Returns noise of several contrasts, `[N, H, W, C]` uint8."""
  rng = np.random.default_rng(0)
  noise = rng.random((count, *shape))
  low, high = np.sort(rng.random((2, count, 1, 1, 1)), axis=0)
  return np.round(255 * (low + (high - low) * noise)).astype(np.uint8)


def _convert(model, configure, *, floats):
  dtype = tf.float32 if floats else tf.uint8
  spec = tf.TensorSpec([1, *model.input_shape[1:]], dtype)
  module = tf.Module()
  module.weights = [variable.value for variable in model.variables]
  module.serve = tf.function(
    lambda image: model(image, training=False), input_signature=[spec]
  )
  with tempfile.TemporaryDirectory() as folder:
    tf.saved_model.save(module, folder, signatures=module.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    configure(converter)
    with native_output.held():
      return converter.convert()


def _halve(converter):
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  converter.target_spec.supported_types = [tf.float16]


def _quantise(converter, some):
  converter.optimizations = [tf.lite.Optimize.DEFAULT]
  converter.representative_dataset = lambda: (
    [image[None].astype(np.float32)] for image in some
  )
  converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
  converter.inference_input_type = tf.uint8
  converter.inference_output_type = tf.uint8
