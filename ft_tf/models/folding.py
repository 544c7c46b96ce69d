"""A trained model for inference: batch norm folded into the convolutions.

At inference batch norm is gamma (x - mean) / sqrt(variance + epsilon) + beta: a
factor and a summand per channel. After a convolution the factor goes into the
kernel and the summand into the bias, and nothing is left to compute.
"""

import collections
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from ft_tf.models import graph

# Layers that read all of their weights in the dtype that they compute in.
_CAST_TO_COMPUTE = (
  keras.layers.Conv2D,
  keras.layers.Dense,
  keras.layers.DepthwiseConv2D,
)


class _Passthrough(keras.layers.Layer):
  """Replaces a folded batch norm under its name, which may be tapped."""

  def call(self, inputs, training=None, mask=None):
    return inputs


def fold(model: keras.Model, dtype: str = 'float32') -> keras.Model:
  """Returns a copy for inference alone, in a compute dtype.

  Args:
    model: Functional or Sequential, of one input, built; such models nested in
      it are folded too.
    dtype: 'float32', 'bfloat16' or 'float16', of all maps `[B, H, W, C]` and
      tokens `[B, N, C]`, and of the weights of convolutions and dense layers
      that make them. What follows the last map, above all the logits, is
      float32.

  Returns:
    A functional model with the same outputs and layer names. A batch norm stays
    a layer if the convolution before it has other readers. A layer is shared
    with the model, not copied, if its class is not Keras's own, if it is
    quantized, or if it has LoRA weights.
  """
  functional = keras.Model(
    model.inputs[0], graph.outputs(model), name=model.name
  )
  calls = graph.calls(functional)
  norm_of = _foldable_norms(calls, outputs=functional.outputs)
  folded_norms = {id(norm) for norm in norm_of.values()}
  map_layers = {
    id(call.operation)
    for call in calls
    if len(call.outputs[0].shape) in (3, 4)  # tokens or maps
  }
  policy = keras.DTypePolicy(
    'float32' if dtype == 'float32' else f'mixed_{dtype}'
  )
  twins = {}  # {id of a layer: (the layer, its twin)}; held, an id stays unique

  def make_twin(layer):
    if graph.is_plain_model(layer):
      # A nested model of several inputs is not folded: `fold` takes one.
      return fold(layer, dtype) if len(layer.inputs) == 1 else layer
    if id(layer) in folded_norms:
      return _Passthrough(name=layer.name, dtype=policy)
    if not _follows_its_config(layer):
      return layer
    config = layer.get_config()
    if id(layer) not in map_layers:
      config['dtype'] = 'float32'
    elif type(layer) in _CAST_TO_COMPUTE:
      config['dtype'] = dtype  # Cast once, not in every call.
    else:
      config['dtype'] = policy
    if id(layer) in norm_of:
      config['use_bias'] = True
    return type(layer).from_config(config)

  def twin_of(layer):
    if id(layer) not in twins:
      twins[id(layer)] = layer, make_twin(layer)
    return twins[id(layer)][1]

  folded = keras.models.clone_model(functional, clone_function=twin_of)
  # Only now: the copies made their variables when they were called.
  for layer, twin in twins.values():
    _copy_weights(layer, twin, norm_of.get(id(layer)))
  return folded


def _copy_weights(
  layer: keras.Operation,
  twin: keras.Operation,
  norm: keras.layers.BatchNormalization | None,
) -> None:
  """Gives a copied layer its weights.

  Args:
    layer: A layer of the model.
    twin: The layer in its place.
    norm: The batch norm to fold into it; None for none.
  """
  if norm is not None:
    twin.set_weights(_folded_weights(layer, norm))
  elif type(twin) is type(layer) and _follows_its_config(layer):
    twin.set_weights(layer.get_weights())
    if isinstance(layer, keras.layers.Normalization):
      # It computes with constants that it derives from its weights.
      twin.finalize_state()


def _follows_its_config(layer: keras.Operation) -> bool:
  """Tells whether a layer can be copied by its config and weights.

  Keras's own can, unless they were changed after they were built.
  """
  return (
    isinstance(layer, keras.layers.Layer)
    and not isinstance(layer, (keras.Model, keras.layers.Lambda))
    and graph.is_of_keras(layer)
    and not any(
      getattr(each, 'quantization_mode', None)
      or getattr(each, 'lora_enabled', False)
      for each in graph.flat_layers(layer)
    )
  )


def _foldable_norms(
  calls: Sequence[graph.Call], outputs: Sequence[keras.KerasTensor]
) -> dict[int, keras.layers.BatchNormalization]:
  """Returns the batch norm to fold into each convolution, by the latter's id.

  Args:
    calls: Those of a functional model's graph.
    outputs: The model's, which keep their values.
  """
  call_counts = collections.Counter(id(call.operation) for call in calls)
  readers = collections.defaultdict(list)
  for call in calls:
    for tensor in call.inputs:
      readers[id(tensor)].append(call.operation)
  for tensor in outputs:
    readers[id(tensor)].append(None)  # The caller reads it.
  norm_of = {}
  for call in calls:
    layer = call.operation
    # With a second reader, that one needs the convolution without the norm.
    layer_readers = readers[id(call.outputs[0])]
    norm: Any = layer_readers[0] if len(layer_readers) == 1 else None
    if (
      type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
      and type(norm) is keras.layers.BatchNormalization
      # The kernel of a layer called twice is not this norm's alone.
      and call_counts[id(layer)] == call_counts[id(norm)] == 1
      and layer.activation is keras.activations.linear
      and layer.data_format == 'channels_last'
      and norm.axis in (-1, 3)
      and not norm.renorm
      and _follows_its_config(layer)
    ):
      norm_of[id(layer)] = norm
  return norm_of


def _folded_weights(
  layer: keras.layers.Layer, norm: keras.layers.BatchNormalization
) -> list[np.ndarray]:
  """Returns kernel and bias of a convolution with its batch norm folded in."""
  # In float64: products are rounded once, as float32.
  mean, variance = (
    np.float64(w) for w in (norm.moving_mean, norm.moving_variance)
  )
  factor = 1 / np.sqrt(variance + norm.epsilon)
  if norm.scale:
    factor *= np.float64(norm.gamma)
  kernel, *bias = (np.float64(w) for w in layer.get_weights())
  bias = (sum(bias) - mean) * factor
  if norm.center:
    bias += np.float64(norm.beta)
  # A kernel's last axis is the output channels; a depthwise kernel's last two,
  # [C, multiplier], are.
  kernel_factor = factor
  if isinstance(layer, keras.layers.DepthwiseConv2D):
    kernel_factor = factor.reshape(kernel.shape[2:])
  folded = kernel * kernel_factor, bias
  return [values.astype(np.float32) for values in folded]
