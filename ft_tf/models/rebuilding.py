"""A model built again from its layers' configurations, with its weights."""

import keras

from ft_tf.models import graph


def rebuild(
  model: keras.Model,
  *,
  precision: str,
  synchronized: bool | None = None,
  image: keras.KerasTensor | None = None,
) -> keras.Model:
  """Returns a copy that computes in another precision.

  Args:
    model: A functional or Sequential classifier of raw images.
    precision: Keras's dtype policy of its layers; its outputs stay as precise
      as they are.
    synchronized: Whether batch norm takes statistics over all replicas; None:
      as in the model.
    image: The input of the copy; None: one as the model's.

  Returns:
    The model, with weights of its own. A layer inside a layer keeps its
    precision if that layer's configuration says so.
  """
  last = {graph.producer(tensor).operation for tensor in model.outputs}

  def clone(layer):
    config = layer.get_config()
    # An operation, such as a sum, has none, nor has a layer of a user's own
    # that leaves it to the default.
    if 'dtype' in config and not isinstance(layer, keras.layers.InputLayer):
      ends = layer in last and layer.compute_dtype == 'float32'
      config['dtype'] = 'float32' if ends else precision
    if synchronized is not None and isinstance(
      layer, keras.layers.BatchNormalization
    ):
      config['synchronized'] = synchronized
    return layer.__class__.from_config(config)

  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(precision)
  try:
    copy = keras.models.clone_model(
      model, input_tensors=image, clone_function=clone
    )
  finally:
    keras.config.set_dtype_policy(before)
  copy.set_weights(model.get_weights())
  for layer in graph.flat_layers(copy):
    if isinstance(layer, keras.layers.Normalization):
      layer.finalize_state()  # It computes with what follows from its weights.
  return copy
