"""A trained model as it is asked: batch norm folded into the convolutions.

At inference batch norm is gamma (x - mean) / sqrt(variance + epsilon) + beta, a
factor and a sum for each channel. Behind a convolution the factor belongs into
the kernel and the sum into the bias, and nothing is left to compute.
"""

import collections

import keras
import numpy as np

from ft_tf.models import graph


class _Passed(keras.layers.Layer):
  """What stands in the place of a folded batch norm, under its name."""

  def call(self, inputs, training=None, mask=None):
    return inputs


def fold(model: keras.Model, dtype: str = 'float32') -> keras.Model:
  """Returns a copy for inference alone, in a compute dtype.

  Args:
    model: Functional or Sequential, of one input, built; such models nested in
      it are folded too.
    dtype: 'float32', 'bfloat16' or 'float16', of all maps `[B, H, W, C]` and
      tokens `[B, N, C]`. What lies behind the last map, the logits above all,
      is float32.

  Returns:
    A functional model with the same outputs and layer names. A batch norm that
    is not the only reader of a convolution stays a layer, and a layer that is
    not Keras's own stays itself, as does one that is quantized or has LoRA
    weights.
  """
  sequential = isinstance(model, keras.Sequential)
  outputs = model.outputs[0] if sequential else model.output
  functional = keras.Model(model.inputs[0], outputs, name=model.name)
  calls = graph.calls(functional)
  norms = _foldable(calls, kept=functional.outputs)
  maps = {
    id(call.operation)
    for call in calls
    if len(call.outputs[0].shape) in (3, 4)  # Tokens are maps, too.
  }
  passed = {id(norm) for norm in norms.values()}
  policy = keras.DTypePolicy(
    'float32' if dtype == 'float32' else f'mixed_{dtype}'
  )
  copies = {}

  def copy(layer):
    if id(layer) in copies:
      return copies[id(layer)][1]
    if graph.is_plain_model(layer):
      twin = fold(layer, dtype) if len(layer.inputs) == 1 else layer
    elif id(layer) in passed:
      twin = _Passed(name=layer.name, dtype=policy)
    elif _follows_its_config(layer):
      config = layer.get_config()
      config['dtype'] = policy if id(layer) in maps else 'float32'
      if id(layer) in norms:
        config['use_bias'] = True
      twin = type(layer).from_config(config)
    else:
      twin = layer
    copies[id(layer)] = layer, twin
    return twin

  folded = keras.models.clone_model(functional, clone_function=copy)
  for layer, twin in copies.values():
    if id(layer) in norms:
      twin.set_weights(_folded_weights(layer, norms[id(layer)]))
    elif type(twin) is type(layer) and _follows_its_config(layer):
      twin.set_weights(layer.get_weights())
      if isinstance(layer, keras.layers.Normalization):
        twin.finalize_state()  # It computes with what follows from its weights.
  return folded


def _follows_its_config(layer) -> bool:
  """Tells whether a layer can be copied by its config and weights.

  Keras's own can, but for what was changed after the layer was built.
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


def _foldable(calls, kept) -> dict[int, keras.layers.BatchNormalization]:
  """Returns the batch norm to fold into each convolution, by the latter's id.

  Args:
    calls: Those of a functional model's graph.
    kept: Its outputs, which must stay what they are.
  """
  call_counts = collections.Counter(id(call.operation) for call in calls)
  readers = collections.defaultdict(list)
  for call in calls:
    for tensor in call.inputs:
      readers[id(tensor)].append(call.operation)
  for tensor in kept:
    readers[id(tensor)].append(None)
  norms = {}
  for call in calls:
    layer = call.operation
    read_by = readers[id(call.outputs[0])]
    norm = read_by[0] if len(read_by) == 1 else None
    if (
      type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
      and type(norm) is keras.layers.BatchNormalization
      and call_counts[id(layer)] == call_counts[id(norm)] == 1
      and layer.activation is keras.activations.linear
      and layer.data_format == 'channels_last'
      and norm.axis in (-1, 3)
      and not norm.renorm
      and _follows_its_config(layer)
    ):
      norms[id(layer)] = norm
  return norms


def _folded_weights(layer, norm) -> list[np.ndarray]:
  """Returns kernel and bias of a convolution with its batch norm within."""
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
  by_output = factor
  if isinstance(layer, keras.layers.DepthwiseConv2D):
    by_output = factor.reshape(kernel.shape[2:])  # [C, multiplier]
  return [np.float32(kernel * by_output), np.float32(bias)]
