"""Whether a batch fits into the memory of this machine.

Before training only what is certain is refused; what runs out of memory later
ends in one line that names `--batch_size`, too.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from ft_tf import errors, recipes, storage
from ft_tf.data import memory


def check(
  recipe: recipes.Recipe,
  strategy: tf.distribute.Strategy,
  image_shape: tuple[int, ...],
  models: Iterable[keras.Model],
) -> None:
  """Refuses a batch that certainly takes more memory than there is.

  Args:
    recipe: With the global batch.
    strategy: The devices.
    image_shape: `(H, W, C)` of the uint8 images of a batch.
    models: Those that are trained in one step, built.

  Raises:
    UsageError: batch, and feature maps kept for the gradients, are larger than
      the memory of this machine. Of GPUs and TPUs, which have their own, the
      batch alone counts.
  """
  devices = strategy.extended.worker_devices
  on_cpu = all('CPU' in device for device in devices)
  maps = sum(map(count_kept, models)) if on_cpu else 0
  per_image = math.prod(image_shape) + maps
  # What other machines compute takes none of this one's.
  share = len(devices) / strategy.num_replicas_in_sync
  there = memory.total_bytes()
  if recipe.data.batch_size * share * per_image > there:
    needed = int(recipe.data.batch_size * share * per_image)
    raise errors.UsageError(
      f'--batch_size={recipe.data.batch_size} takes more than '
      f'{storage.format_bytes(needed)} of memory '
      f'({per_image:,} bytes per image, feature maps included), and this '
      f'machine has {storage.format_bytes(there)}: give less than '
      f'{max(int(there / share / per_image), 2):,}'
    )


def count_kept(model: keras.Model) -> int:
  """Returns the bytes per image that a training step must keep of a model.

  They are the inputs of its layers with kernels: the gradient of a kernel is
  computed from them, when all of the forward pass is done. A step takes more.

  Args:
    model: A built model. Of one that is no graph of layers, such as a
      translator, nothing is known.
  """
  kept: dict[int, int] = {}
  for layer in model.layers:
    if not any(len(weight.shape) >= 2 for weight in layer.trainable_weights):
      continue
    try:
      inputs = tf.nest.flatten(layer.input)
    except (AttributeError, ValueError):
      continue  # It was never called on a symbol.
    for tensor in inputs:
      if None not in tensor.shape[1:]:
        kept[id(tensor)] = (
          math.prod(tensor.shape[1:]) * tf.as_dtype(layer.compute_dtype).size
        )
  return sum(kept.values())


@contextlib.contextmanager
def explained(recipe: recipes.Recipe, path: str) -> Iterator[None]:
  """Turns lack of memory in a block into one line.

  Args:
    recipe: With the global batch.
    path: The run's folder. Disks are full in the same words of TensorFlow's.

  Raises:
    TrainingError: in place of the error.
  """
  try:
    yield
  except (MemoryError, tf.errors.ResourceExhaustedError) as error:
    if storage.explain(error, path) is not None:
      raise
    raise errors.TrainingError(
      f'there is not enough memory for {path} with '
      f'--batch_size={recipe.data.batch_size}: end other programs, and the '
      'same command continues; or give a smaller --batch_size and another '
      '--workdir'
    ) from error
