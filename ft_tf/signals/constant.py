"""What a frozen teacher says of images, as one graph that does not change."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

# TensorFlow keeps some 14 copies of what is constant in a nested graph, all in
# the memory of the host, and no graph may have 2 GB. Where the host computes,
# constants save up to a tenth of the step of a large network, and double its
# memory.
_MOST_CONSTANT_BYTES = {'CPU': 2**22, 'GPU': 2**27, 'TPU': 2**27}


class ConstantSignal:
  """A frozen function of images, compiled once.

  Its variables become constants: TensorFlow then computes once what follows
  from weights alone, such as their casts and the order that convolutions read
  them in, and keeps nothing for a gradient. Where they have more than 4 MiB on
  a CPU, or 128 MiB on an accelerator, they stay variables, and must not change.

  Attributes:
    width: Number of values for each image.
    calls_python: Whether it leaves TensorFlow, as for ONNX Runtime. The input
      pipeline then computes it: that overlaps with the step before, and XLA
      does not compile such calls.
  """

  def __init__(
    self,
    function: Callable[[tf.Tensor], Any],
    image_shape: tuple[int, int, int],
    dtype: str = 'uint8',
  ):
    """Compiles a function.

    Args:
      function: From images `[B, H, W, C]` to a nest of float tensors
        `[B, ...]`, of shapes that are known but for B.
      image_shape: `(H, W, C)`.
      dtype: Of the images; others are converted to it, as a Keras model
        converts them to the dtype of its input.
    """
    self._dtype = dtype
    concrete = tf.function(function, autograph=False).get_concrete_function(
      tf.TensorSpec([None, *image_shape], dtype)
    )
    self._structure = concrete.structured_outputs
    self._shapes = [t.shape[1:] for t in tf.nest.flatten(self._structure)]
    if _size(concrete.variables) > _most_constant_bytes():
      self._function = function  # It owns the variables.
      graph = concrete.graph
      self._frozen = lambda images: tf.nest.flatten(concrete(images))
    else:
      frozen = convert_to_constants.convert_variables_to_constants_v2(concrete)
      graph, self._frozen = frozen.graph, frozen
    self.calls_python = any(
      operation.type == 'PyFunc' for operation in graph.get_operations()
    )
    self._sizes = [math.prod(shape) for shape in self._shapes]
    self.width = sum(self._sizes)

  def __call__(self, images: tf.Tensor) -> Any:
    """Returns the function's value; no gradient flows through it."""
    values = self._frozen(tf.cast(images, self._dtype))
    return self._pack([tf.stop_gradient(value) for value in values])

  def rows(self, images: np.ndarray) -> np.ndarray:
    """Returns the values of each image in a row, `[B, width]` float32."""
    return self.compute_rows(tf.constant(images)).numpy()

  def compute_rows(self, images: tf.Tensor) -> tf.Tensor:
    """Returns the same as a tensor, inside a graph too."""
    flat = [
      tf.reshape(tf.cast(value, tf.float32), [-1, size])
      for value, size in zip(
        self._frozen(tf.cast(images, self._dtype)), self._sizes, strict=True
      )
    ]
    return tf.concat(flat, axis=1)

  def from_rows(self, rows: tf.Tensor) -> Any:
    """Returns the function's value, float32, of rows `[B, width]`."""
    parts = tf.split(tf.cast(rows, tf.float32), self._sizes, axis=1)
    return self._pack(
      [
        tf.reshape(part, [-1, *shape])
        for part, shape in zip(parts, self._shapes, strict=True)
      ]
    )

  def part_widths(self) -> list[int]:
    """Returns the number of values of each part, of a function to a list."""
    sizes = iter(self._sizes)
    return [
      sum(next(sizes) for _ in tf.nest.flatten(part))
      for part in self._structure
    ]

  def _pack(self, values):
    return tf.nest.pack_sequence_as(self._structure, values)


def _size(variables):
  """Returns the bytes of some variables."""
  return sum(each.dtype.size * each.shape.num_elements() for each in variables)


def _most_constant_bytes():
  """Returns the bytes of variables that are made constants."""
  kinds = {device.device_type for device in tf.config.list_logical_devices()}
  return max(_MOST_CONSTANT_BYTES.get(kind, 0) for kind in kinds)
