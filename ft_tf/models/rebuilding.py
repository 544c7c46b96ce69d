"""A model built again from its layers' configurations, with its weights."""

import keras

from ft_tf.models import graph


def rebuild(
  model: keras.Model,
  *,
  precision: str | None = None,
  synchronized: bool | None = None,
  image: keras.KerasTensor | None = None,
) -> keras.Model:
  """Returns a copy in another precision, or for images of another size.

  Args:
    model: A functional or Sequential classifier of raw images.
    precision: Keras's dtype policy of its layers; outputs that are float32 stay
      float32. None: as in the model.
    synchronized: Whether batch norm takes statistics over all replicas; None:
      as in the model.
    image: The input of the copy; None: a new one like the model's.

  Returns:
    The model, with weights of its own. A layer inside a layer keeps its
    precision if that layer's configuration says so.

  Raises:
    ValueError: the image has another size, which a layer's weights depend on.
  """
  last = {graph.producer(tensor).operation for tensor in model.outputs}

  def clone(layer):
    config = layer.get_config()
    # An operation, such as a sum, has no dtype, nor has a user's own layer that
    # leaves it to the default.
    if (
      precision is not None
      and 'dtype' in config
      and not isinstance(layer, keras.layers.InputLayer)
    ):
      is_precise = layer in last and layer.compute_dtype == 'float32'
      config['dtype'] = 'float32' if is_precise else precision
    if synchronized is not None and isinstance(
      layer, keras.layers.BatchNormalization
    ):
      config['synchronized'] = synchronized
    return layer.__class__.from_config(config)

  # The default policy reaches layers whose config has no dtype.
  before = keras.config.dtype_policy()
  keras.config.set_dtype_policy(precision or before)
  try:
    copy = keras.models.clone_model(
      model, input_tensors=image, clone_function=clone
    )
  finally:
    keras.config.set_dtype_policy(before)
  copy.set_weights(model.get_weights())
  for layer in graph.flat_layers(copy):
    if isinstance(layer, keras.layers.Normalization):
      # It computes with constants that it derives from its weights.
      layer.finalize_state()
  return copy
