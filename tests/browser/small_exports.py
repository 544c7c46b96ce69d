"""Export folders for tests of the page, made without training."""

import json
import os
from typing import Any
from unittest import mock

import keras
import numpy as np

from ft_tf.data import datasets, example_sets, image_ops
from ft_tf.export import formats, student
from ft_tf.models import graph, layers, zoo

FILES = ('student_fp32.tflite', 'student_fp16.tflite', 'student_int8.tflite')
_CLASSES = 10
# Where networks of many layers end: all of their operations stand before.
_LAST = {'efficientnetb0': 'block3b_add', 'mobilenetv2x0.35': 'block_5_add'}


def write(
  folder: str,
  contents: dict[str, bytes],
  shape: tuple[int, int, int] = (8, 8, 1),
  labels: tuple[str, ...] = ('left', 'middle', 'right'),
) -> None:
  """Writes an export folder of files that need not be models."""
  os.makedirs(folder)
  for name, content in contents.items():
    with open(os.path.join(folder, name), 'wb') as file:
      file.write(content)
  figures = {
    name: _entry(name, content, shape, len(labels))
    for name, content in contents.items()
  }
  with open(os.path.join(folder, 'export.json'), 'w') as file:
    json.dump(figures, file)
  with open(os.path.join(folder, 'labels.txt'), 'w') as file:
    file.writelines(f'{label}\n' for label in labels)


def _entry(name, content, shape, classes):
  """Returns what export.json says of a file, as far as the page reads it."""
  integers = {'scale': 0.125, 'zero_point': 100}
  output: dict[str, Any] = {'dtype': 'float32', 'shape': [1, classes]}
  if name == FILES[-1]:
    output |= {'dtype': 'uint8', **integers}
  return {
    'bytes': len(content),
    'accuracy': 0.75,
    'examples': 100,
    'preprocessing': _preprocessing('stretch', shape),
    'input': {'dtype': 'uint8', 'shape': [1, *shape]},
    'output': output,
  }


def write_network(
  folder: str, name: str, shape: tuple[int, int, int], resizing: str
) -> None:
  """Writes the export of a network whose batch norm has seen noise.

  Args:
    folder: Becomes the export folder.
    name: The network's.
    shape: That of its images, which are noise.
    resizing: What export.json says of how they were made.
  """
  keras.utils.set_random_seed(0)
  values = (0.5,) * shape[-1], (0.25,) * shape[-1]
  spec = layers.Spec(shape, _CLASSES, *values)
  model = zoo.build(name, spec)
  if name in _LAST:
    x = model.get_layer(_LAST[name]).output
    model = keras.Model(model.input, layers.logits(x, spec), name=name)
  some = images(64, shape)
  # One pass that moves the statistics as far as 20 would.
  for layer in graph.flat_layers(model):
    if isinstance(layer, keras.layers.BatchNormalization):
      layer.momentum **= 20
  model(some, training=True)
  path = f'{folder}.keras'
  model.save(path)
  dataset = datasets.Dataset(_Noise(shape), validation_examples=8)
  # As of a student, but not timed and studied.
  with mock.patch.object(formats, 'COMPARED', formats.DEFAULT):
    student.export(
      path, dataset, folder, status=lambda status: None, is_compared=True
    )
  with open(os.path.join(folder, 'export.json')) as file:
    figures = json.load(file)
  for entry in figures.values():
    entry['preprocessing'] = _preprocessing(resizing, shape)
  with open(os.path.join(folder, 'export.json'), 'w') as file:
    json.dump(figures, file)


class _Noise:
  """A source of noise; stands for `sources.Source`."""

  name = 'noise'
  fingerprint = ''
  label_names = tuple(f'class {i}' for i in range(_CLASSES))

  def __init__(self, image_shape):
    self.image_shape = image_shape

  def read(self, split):
    count = {'train': 72, 'test': 20}[split]
    labels = np.arange(count) % _CLASSES
    return example_sets.Examples(images(count, self.image_shape), labels)


def images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
  """Returns noise of several contrasts, `[N, H, W, C]` uint8."""
  rng = np.random.default_rng(0)
  noise = rng.random((count, *shape))
  low, high = np.sort(rng.random((2, count, 1, 1, 1)), axis=0)
  return np.round(255 * (low + (high - low) * noise)).astype(np.uint8)


def _preprocessing(resizing, shape):
  return image_ops.Preprocessing(resizing, (shape[:2],)).as_json(shape)
