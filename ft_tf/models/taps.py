"""Models that return feature maps `[B, H, W, C]`, made from trained ones."""

from collections.abc import Iterable
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from ft_tf.models import feature_maps, graph, onnx_models, tokens


def features(model: keras.Model, names: Iterable[str]) -> keras.Model:
  """Returns the part of a model that makes some features, sharing its weights.

  Args:
    model: A functional or Sequential model.
    names: Names of layers.

  Returns:
    A model from the same input to `{name: [B, H, W, C]}`. The layers after the
    last of the named ones are not part of it.

  Raises:
    ValueError: a name is of no layer.
  """
  outputs = _features(model, names)
  return onnx_models.pruned(keras.Model(model.inputs[0], outputs))


def logits_and_features(
  model: keras.Model, names: Iterable[str]
) -> keras.Model:
  """Returns a model to `(logits, {name: feature})`, sharing the weights.

  In the place of the logits stands what the model returns, also if that is a
  list or a dict of tensors.
  """
  outputs = _features(model, names)
  return onnx_models.pruned(
    keras.Model(model.inputs[0], (graph.outputs(model), outputs))
  )


def _features(
  model: keras.Model, names: Iterable[str]
) -> dict[str, keras.KerasTensor]:
  """Returns layers' maps as `[B, H, W, C]`; an output without one as it is."""
  tensors, maps = feature_maps.outputs(model), feature_maps.find(model)
  outputs = {}
  for name in names:
    if name not in tensors:
      raise ValueError(f'{model.name} has no layer {name}: {list(tensors)}')
    outputs[name] = tensors[name]
    layout = maps.get(name)
    if layout is None:
      continue
    if layout.axes is None:
      # A grid's size is known, whatever the image's.
      size = cast(tuple[int, int], layout.shape[:2])
      outputs[name] = tokens.on_grid(tensors[name], size, layout.first)
    elif layout.axes != (1, 2, 3):
      outputs[name] = keras.ops.transpose(tensors[name], (0, *layout.axes))
  return outputs


def average_to_size(feature: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns a feature map averaged to a smaller height and width.

  Each place is the mean of those that it covers, as in adaptive average
  pooling; a map of that size is returned as it is.

  Args:
    feature: `[B, H, W, C]`.
    size: `(h, w)`, at most `(H, W)`.
  """
  if feature.shape[1:3] == tuple(size):
    return feature
  rows, columns = (
    tf.constant(_averaging_matrix(wanted, given), feature.dtype)
    for wanted, given in zip(size, feature.shape[1:3], strict=True)
  )
  return tf.einsum('bhwc,ih,jw->bijc', feature, rows, columns)


def _averaging_matrix(wanted: int, given: int) -> np.ndarray:
  """Returns `[wanted, given]`: each given place's share of each wanted one."""
  shares = np.zeros((wanted, given))
  for i in range(wanted):
    first, last = i * given // wanted, -(-(i + 1) * given // wanted)
    shares[i, first:last] = 1 / (last - first)
  return shares
